import assert from "node:assert/strict";
import { Given, Then, When } from "@cucumber/cucumber";
import type { V1Deployment, V1Pod, V1StatefulSet } from "@kubernetes/client-node";
import { assertRun } from "./figwasp.ts";
import { eventually } from "./support/eventually.ts";
import { keepTemplate, ownerName } from "./support/owner.ts";
import type { FigwaspWorld, Workload } from "./support/world.ts";

// --- What comes after a restart ---

// The only node has one pod of a DaemonSet, which would be gone before the new one has failed.
Given(
  "a DaemonSet of that image that keeps an old pod until the new one is ready",
  async function (this: FigwaspWorld) {
    const rollingUpdate = { maxSurge: 1, maxUnavailable: 0 };
    await this.deploy({ kind: "DaemonSet", spec: { updateStrategy: { rollingUpdate } } });
  },
);

Given("a Deployment of that image that keeps no older revisions", async function (this: FigwaspWorld) {
  await this.deploy({ spec: { revisionHistoryLimit: 0 } });
});

When(
  "the rollout of the {kind} has failed and is undone",
  async function (this: FigwaspWorld, kind: NonNullable<Workload["kind"]>) {
    await eventually(async () => assert.notEqual((await failedPods(this)).length, 0, "no new pod has failed"));
    await this.kubectl("rollout", "undo", `${kind}/my-app`);
    if (kind === "StatefulSet") await eventually(() => assertPulledAgain(this));
    else await this.rolledOut();
    await this.remember();
  },
);

When("the rollout is undone, so that the client hears {string}", async function (this: FigwaspWorld, reply: string) {
  await this.kubectl("rollout", "undo", "deployment/my-app");
  await this.rolledOut();
  assert.equal(await this.hear(), reply);
});

async function failedPods(world: FigwaspWorld): Promise<V1Pod[]> {
  const pods = await world.list<V1Pod>("pods", { labelSelector: "app=my-app" });
  return pods.filter(({ status }) => (status?.containerStatuses?.[0]?.restartCount ?? 0) > 0);
}

// The pod that had failed is made anew from the older template, pulls what the tag has, and fails again. The others are left.
async function assertPulledAgain(world: FigwaspWorld): Promise<void> {
  const { status } = await world.read<V1StatefulSet>("statefulsets", "my-app");
  const ofUndone = (await failedPods(world)).filter(
    ({ metadata }) => metadata?.labels?.["controller-revision-hash"] === status?.updateRevision,
  );
  assert.equal(ofUndone.length, 1, "no pod of the older template has failed");
  assert.equal(status?.updatedReplicas, status?.replicas, "a pod of the newer template is left");
}

Given("a Deployment of that image, whose restart for a bad image was undone", async function (this: FigwaspWorld) {
  await this.deploy();
  await this.pushServer(this.tagged, "");
  this.pushed.set("", await this.registry.digest(this.tagged));
  await this.run();
  await eventually(async () => assert.notEqual((await failedPods(this)).length, 0, "no new pod has failed"));
  await this.kubectl("rollout", "undo", "deployment/my-app");
  await this.rolledOut();
  assertRun(await this.run(), 1, "taken back");
  await this.remember();
});

When("the tag is moved back to the bad image", async function (this: FigwaspWorld) {
  await this.registry.moveTag(this.tagged, this.pushed.get("") ?? assert.fail("no bad image was pushed"));
});

// --- An owner ---

Given("a Deployment of that image, whose owner puts its template back", async function (this: FigwaspWorld) {
  await this.deploy({ fieldManager: ownerName });
  this.atTheEnd(keepTemplate(this.environment.apiServer, await this.read<V1Deployment>("deployments", "my-app")));
});

When(
  "figwasp runs, and {int} times more when that has come to rest",
  async function (this: FigwaspWorld, times: number) {
    await this.run();
    await this.rolledOut();
    await this.remember();
    await runTimes(this, times);
  },
);

When("figwasp runs {int} times more", async function (this: FigwaspWorld, times: number) {
  await runTimes(this, times);
});

async function runTimes(world: FigwaspWorld, times: number): Promise<void> {
  for (let time = 1; time <= times; time++) await world.run();
}

Then("every run failed and said {string}", function (this: FigwaspWorld, words: string) {
  for (const run of this.runs) assertRun(run, 1, words);
});

// --- Another push meanwhile ---

// figwasp asks a registry that has the first of two pushes, and the nodes pull the second.
When(
  "figwasp runs as a Job, and an image that says {string} is pushed before the new pods pull",
  async function (this: FigwaspWorld, reply: string) {
    const before = await this.startRegistry("before");
    for (const pushed of this.pushed.keys()) await this.pushServer(this.tagged, pushed, before);
    await this.pushServer(this.tagged, reply);
    await this.runJob({ hosts: { [`${this.registry.host}/hosts.toml`]: before.hostsToml } });
  },
);
