import assert from "node:assert/strict";
import { type DataTable, defineParameterType, Then, When } from "@cucumber/cucumber";
import type { V1Deployment } from "@kubernetes/client-node";
import { askedFor, type AuditEvent, isDryRun } from "./support/environment.ts";
import type { FigwaspWorld } from "./support/world.ts";

defineParameterType({ name: "kind", regexp: /Deployment|StatefulSet|DaemonSet/ });

// --- On this machine, as on a laptop ---

When("figwasp runs", async function (this: FigwaspWorld) {
  await this.run();
});

When("figwasp runs again when that has rolled out", async function (this: FigwaspWorld) {
  await this.rolledOut();
  await this.run();
});

When("figwasp runs as a Job again when that has rolled out", async function (this: FigwaspWorld) {
  await this.rolledOut();
  await this.runJob();
});

When("figwasp runs {int} times", async function (this: FigwaspWorld, times: number) {
  for (let time = 1; time <= times; time++) {
    await this.run();
    if (time === 1) await this.rolledOut();
  }
});

When("figwasp runs with {string}", async function (this: FigwaspWorld, words: string) {
  await this.run(words === "" ? [""] : words.split(" "));
});

When("figwasp runs and restarts the Deployment in vain", async function (this: FigwaspWorld) {
  await this.run();
  await this.rolledOut();
  assertRun(await this.run(), 1, "not converged");
});

When("figwasp runs with a retry interval that has passed", async function (this: FigwaspWorld) {
  await this.run([], { FIGWASP_RETRY_INTERVAL: "1s" });
  await this.rolledOut();
});

When("figwasp runs with a retry interval that has not passed", async function (this: FigwaspWorld) {
  await this.run([], { FIGWASP_RETRY_INTERVAL: "1h" });
});

// --- In the cluster ---

When("figwasp runs as a Job", async function (this: FigwaspWorld) {
  await this.runJob();
});

When("figwasp runs as a Job for a Deployment named {string}", async function (this: FigwaspWorld, name: string) {
  await this.runJob({ env: { FIGWASP_TARGET_DEPLOYMENT: name } });
});

When("figwasp runs as a Job that asks the mirror", async function (this: FigwaspWorld) {
  await this.runJob({ hosts: this.mirroredHosts });
});

/** Takes the right to patch out of the Role in deploy/. */
export const withoutPatch = {
  target: { kind: "Role" },
  patch: '[{ "op": "replace", "path": "/rules/0/verbs", "value": ["get", "list"] }]',
};

When("figwasp runs as a Job without the right to patch", async function (this: FigwaspWorld) {
  await this.runJob({ patches: [withoutPatch] });
});

When("figwasp runs as its CronJob", async function (this: FigwaspWorld) {
  await this.runCronJob({ resources: ["deploy"], kind: "CronJob" });
});

When("figwasp runs in the cluster for all namespaces", async function (this: FigwaspWorld) {
  this.atTheEnd(() => this.$`kubectl delete clusterrole,clusterrolebinding figwasp`);
  await this.runCronJob({ resources: ["deploy/all-namespaces"], kind: "CronJob" });
});

When("figwasp runs by the manifests of figwasp v1", async function (this: FigwaspWorld) {
  await this.enforce("baseline"); // these manifests are older than Pod Security Standards
  await this.runCronJob({ resources: ["fixtures/figwasp-v1.yaml"], kind: "CronJob" });
});

// --- What it said ---

Then("another run of figwasp starts no rollout", async function (this: FigwaspWorld) {
  await this.rolledOut();
  const before = await this.standing();
  assertRun(await this.run(), 0, "current, nothing to do");
  assert.deepEqual(await this.standing(), before);
});

Then("figwasp succeeds and says {string}", function (this: FigwaspWorld, words: string) {
  assertRun(this.lastRun, 0, words);
});

Then("figwasp fails and says {string}", function (this: FigwaspWorld, words: string) {
  assertRun(this.lastRun, 1, words);
});

Then("figwasp fails and names the registry", function (this: FigwaspWorld) {
  assertRun(this.lastRun, 1, this.registry.clusterUrl);
});

Then(
  "the first run succeeded, and all later ones failed and said {string}",
  function (this: FigwaspWorld, words: string) {
    const [first, ...later] = this.runs;
    assert.equal(first?.exitCode, 0, first?.log);
    for (const run of later) assertRun(run, 1, words);
  },
);

Then("the last run says {string}", function (this: FigwaspWorld, words: string) {
  assert(this.lastRun.log.includes(words), this.lastRun.log);
});

export function assertRun(run: FigwaspWorld["lastRun"], exitCode: number, words: string): void {
  run.isAsserted = true;
  assert.equal(run.exitCode, exitCode, run.log);
  assert(run.log.includes(words), `figwasp did not say ${JSON.stringify(words)}:\n${run.log}`);
  assert.doesNotMatch(run.log, /^\s+at /m, "figwasp printed a stack trace");
}

// --- What it asked of the API server ---

Then("the API server was asked for exactly this:", async function (this: FigwaspWorld, table: DataTable) {
  const asked = (await this.audit()).map(askedFor);
  const expected = table.raw().map(([verb, resource]) => `${verb} ${resource}`);
  assert.deepEqual(asked.toSorted(), expected.toSorted());
});

Then("the change is of two annotations of the pod template", async function (this: FigwaspWorld) {
  const { verb, requestObject } = await theOneChange(this);
  const written = requestObject as V1Deployment;
  const { annotations = {} } = written.spec?.template.metadata ?? {};
  assert.deepEqual(Object.keys(annotations).toSorted(), ["figwasp/restarted-for", "kubectl.kubernetes.io/restartedAt"]);
  const { resourceVersion = "" } = written.metadata ?? {};
  assert.notEqual(resourceVersion, "", "it would be made whatever the Deployment has become");
  const patch = { metadata: { resourceVersion }, spec: { template: { metadata: { annotations } } } };
  if (verb === "patch") assert.deepEqual(written, patch);
  else assert.deepEqual(whatIsWanted(written), whatIsWanted(annotated(this.objectBefore("my-app"), annotations)));
});

// figwasp asks by `dryRun=All` what would come of the change before it makes it. An Event is no change: it only tells of one.
async function theOneChange(world: FigwaspWorld): Promise<AuditEvent> {
  const events = (await world.audit()).filter(({ objectRef }) => objectRef?.resource !== "events");
  const writes = events.filter(({ verb }) => verb !== "get" && verb !== "list");
  const [asked, made, ...more] = writes.filter(({ responseStatus }) => responseStatus.code < 300);
  assert(asked && made && more.length === 0, "there should be one change, and before it one dry run");
  assert.deepEqual([isDryRun(asked), isDryRun(made)], [true, false]);
  const [tried, written] = [asked, made].map(({ verb, requestObject }) => ({ verb, requestObject }));
  assert.deepEqual(tried, written, "the dry run was of another change");
  return made;
}

function annotated(object: V1Deployment, annotations: Record<string, string>): V1Deployment {
  const copy = structuredClone(object);
  Object.assign(copy.spec?.template.metadata ?? {}, { annotations });
  return copy;
}

// Leaves out what the API server itself writes into an object.
function whatIsWanted(object: V1Deployment): V1Deployment {
  const copy = structuredClone(object);
  delete copy.status;
  delete copy.metadata?.managedFields;
  delete copy.metadata?.resourceVersion;
  return copy;
}
