import assert from "node:assert/strict";
import { Given, Then, When } from "@cucumber/cucumber";
import type { CoreV1Event, V1Pod } from "@kubernetes/client-node";
import { YAML } from "zx";
import { assertRun, withoutPatch } from "./figwasp.ts";
import type { FigwaspWorld } from "./support/world.ts";

Given("an image that cannot run is pushed under the same tag", async function (this: FigwaspWorld) {
  await this.pushServer(this.tagged, ""); // the server does not start without an answer to give
});

Given(
  "a Deployment of that image, whose pods are ready only while they say {string}",
  async function (this: FigwaspWorld, reply: string) {
    const program = `process.exit(process.env.REPLY === ${JSON.stringify(reply)} ? 0 : 1)`;
    const exec = { command: ["/nodejs/bin/node", "--eval", program] };
    const strategy = { rollingUpdate: { maxSurge: 1 } };
    await this.deploy({
      spec: { strategy },
      container: { readinessProbe: { exec, periodSeconds: 1, timeoutSeconds: 10 } },
    });
  },
);

When("figwasp runs as a Job that is a dry run", async function (this: FigwaspWorld) {
  await this.runJob({ env: { FIGWASP_DRY_RUN: "true" } });
});

When("figwasp runs as a Job that tells every request", async function (this: FigwaspWorld) {
  await this.runJob({ env: { FIGWASP_VERBOSE: "true" } });
});

// --- What it found, in JSON ---

Then(
  "figwasp succeeds, and its document says that the Deployment was restarted for the pushed image",
  async function (this: FigwaspWorld) {
    const run = this.lastRun;
    run.isAsserted = true;
    assert.equal(run.exitCode, 0, run.log);
    const document = JSON.parse(run.output) as Document;
    assert.deepEqual(document.counts, { restarted: 1 });
    const [{ name, outdated, containers } = assert.fail()] = document.workloads;
    const resolved = await this.registry.digest(this.tagged);
    assert.deepEqual({ name, outdated }, { name: "my-app", outdated: { echo: resolved } });
    assert.deepEqual([containers[0]?.verdict, containers[0]?.resolved], ["outdated", resolved]);
  },
);

interface Document {
  counts: Record<string, number>;
  workloads: {
    name: string;
    outdated: Record<string, string>;
    containers: { verdict: string; resolved: string }[];
  }[];
}

// --- What kubectl describes ---

Then(
  "the Deployment has an Event that says from which image to which it was restarted, and that this is version {string}",
  async function (this: FigwaspWorld, version: string) {
    const [event, ...more] = await eventsOf(this, "Restarted");
    assert(event && more.length === 0, "there should be one Event");
    const digests = [this.pushed.get("v1"), await this.registry.digest(this.tagged)];
    assert.equal(event.message, `echo (${this.image}) from ${digests[0]} to ${digests[1]} (version ${version})`);
    assert.match(await this.kubectl("describe", "deployment", "my-app"), /Normal\s+Restarted\s.*figwasp/);
  },
);

Then("the Deployment has one Event that says that it did not converge", async function (this: FigwaspWorld) {
  const events = await eventsOf(this, "NotConverged");
  assert.equal(events.length, 1);
  assert.match(events[0]?.message ?? "", /^echo was restarted for sha256:/);
});

async function eventsOf(world: FigwaspWorld, reason: string): Promise<CoreV1Event[]> {
  const selector = `involvedObject.name=my-app,reason=${reason}`;
  return world.list<CoreV1Event>("events", { fieldSelector: selector });
}

Then("the Job's pod has ended with the message {string}", async function (this: FigwaspWorld, words: string) {
  const pods = await this.list<V1Pod>("pods", { labelSelector: "job-name=figwasp" });
  const message = pods[0]?.status?.containerStatuses?.[0]?.state?.terminated?.message ?? "";
  assert(message.includes(words), `it ended with ${JSON.stringify(message)}`);
});

// --- The doctor ---

const asDoctor = {
  target: { kind: "Job" },
  patch: JSON.stringify([{ op: "add", path: "/spec/template/spec/containers/0/args", value: ["doctor"] }]),
};

When("the doctor looks after it as a Job", async function (this: FigwaspWorld) {
  await this.runJob({ patches: [asDoctor] });
});

When("the doctor looks after it as a Job without the right to patch", async function (this: FigwaspWorld) {
  await this.runJob({ patches: [asDoctor, withoutPatch] });
});

// --- Rights ---

interface Rule {
  resources: string[];
  verbs: string[];
}

When("figwasp runs as a Job without the right to write Events", async function (this: FigwaspWorld) {
  const { rules } = await printedRights(this);
  await runWithRules(
    this,
    rules.filter(({ resources }) => !resources.includes("events")),
  );
});

When("figwasp runs as a Job with the rights that it prints, and no other", async function (this: FigwaspWorld) {
  const { text } = await printedRights(this);
  await this.$({ input: text })`kubectl apply -f -`;
  await this.runJob({ resources: ["fixtures/job.yaml"] });
});

When(
  "figwasp runs as a Job without one after the other of the rights that it prints",
  async function (this: FigwaspWorld) {
    const { rules } = await printedRights(this);
    for (const rule of rules.filter(({ resources }) => !resources.includes("events"))) {
      for (const verb of rule.verbs) {
        const rest = { ...rule, verbs: rule.verbs.filter((each) => each !== verb) };
        const others = rules.filter((each) => each !== rule);
        await runWithRules(this, rest.verbs.length > 0 ? [rest, ...others] : others);
      }
    }
  },
);

Then("each of these runs fails", function (this: FigwaspWorld) {
  const [, ...runs] = this.runs; // the first run printed the rights
  assert(runs.length >= 4);
  for (const run of runs) assertRun(run, 1, "is forbidden");
});

async function printedRights(world: FigwaspWorld): Promise<{ text: string; rules: Rule[] }> {
  const { output: text } = await world.run(["rbac", "my-app"]);
  const documents = YAML.parseAllDocuments(text).map((each) => each.toJSON() as { kind: string; rules: Rule[] });
  const role = documents.find(({ kind }) => kind === "Role");
  assert(role, `figwasp printed no Role:\n${text}`);
  return { text, rules: role.rules };
}

async function runWithRules(world: FigwaspWorld, rules: Rule[]): Promise<void> {
  const patch = JSON.stringify([{ op: "replace", path: "/rules", value: rules }]);
  await world.runJob({ patches: [{ target: { kind: "Role" }, patch }] });
}
