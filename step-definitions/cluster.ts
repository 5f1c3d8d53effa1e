import assert from "node:assert/strict";
import { Given, Then, When } from "@cucumber/cucumber";
import type { V1Container, V1Pod } from "@kubernetes/client-node";
import { eventually } from "./support/eventually.ts";
import type { FigwaspWorld, Workload } from "./support/world.ts";

// --- Workloads ---

Given("a {kind} of that image", async function (this: FigwaspWorld, kind: Workload["kind"]) {
  await this.deploy({ ...(kind && { kind }) });
});

Given("a Deployment of that image, with the label that figwasp looks for", async function (this: FigwaspWorld) {
  await this.deploy({ labels: { "figwasp/target": "true" } });
});

Given(
  "a {kind} {string} of that image, labelled {string}",
  async function (this: FigwaspWorld, kind: Workload["kind"], name: string, label: string) {
    const [key = "", value = ""] = label.split("=");
    await this.deploy({ ...(kind && { kind }), name, labels: { [key]: value } });
  },
);

Given("a Deployment in another namespace that carries the same label", async function (this: FigwaspWorld) {
  const namespace = `${this.namespace}-other`;
  await this.createNamespace(namespace);
  await this.deploy({ name: "elsewhere", namespace, labels: { "figwasp/target": "true" } });
});

Given("a Deployment of that image, pinned by its digest", async function (this: FigwaspWorld) {
  await this.deploy({ image: `${this.image}@${this.pushed.get("v1")}` });
});

Given("a Deployment of that image that pulls only when the image is not present", async function (this: FigwaspWorld) {
  await this.deploy({ container: { imagePullPolicy: "IfNotPresent" } });
});

Given("a StatefulSet of that image that replaces its pods on deletion alone", async function (this: FigwaspWorld) {
  // The strategy is set after the StatefulSet has rolled out: with it, no rollout would ever end.
  await this.deploy({ kind: "StatefulSet" });
  await this.kubectl(
    "patch",
    "statefulset",
    "my-app",
    "-p",
    '{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null}}}',
  );
});

// --- Pods of more than one container ---

Given("a Deployment of both images", async function (this: FigwaspWorld) {
  await this.deploy({ pod: (spec) => spec.containers.push(second(this, spec.containers[0])) });
});

Given(
  "a Deployment of both images, whose annotation {string} is {string}",
  async function (this: FigwaspWorld, annotation: string, value: string) {
    const annotations = { [annotation]: value };
    await this.deploy({ annotations, pod: (spec) => spec.containers.push(second(this, spec.containers[0])) });
  },
);

Given("its annotation {string} is set to {string}", async function (this: FigwaspWorld, key: string, value: string) {
  await this.kubectl("annotate", "deployment", "my-app", `${key}=${value}`);
});

Given("a Deployment of that image, with an init container of the other one", async function (this: FigwaspWorld) {
  const command = ["/nodejs/bin/node", "--eval", "0"];
  await this.deploy({ pod: (spec) => void (spec.initContainers = [{ ...second(this, spec.containers[0]), command }]) });
});

Given("a Deployment of that image, with a sidecar of the other one", async function (this: FigwaspWorld) {
  const restartPolicy = "Always";
  await this.deploy({
    pod: (spec) => void (spec.initContainers = [{ ...second(this, spec.containers[0]), restartPolicy }]),
  });
});

function second({ otherImage }: FigwaspWorld, first: V1Container | undefined): V1Container {
  const { securityContext, imagePullPolicy } = first ?? {};
  const env = [{ name: "PORT", value: "8081" }];
  return {
    name: "other",
    image: otherImage,
    env,
    ...(securityContext && { securityContext }),
    ...(imagePullPolicy && { imagePullPolicy }),
  };
}

// --- What an operator does to them ---

When("the Deployment is paused and figwasp runs", async function (this: FigwaspWorld) {
  await this.kubectl("rollout", "pause", "deployment/my-app");
  await this.remember(); // pausing is a change of the Deployment too
  await this.run();
});

When("the Deployment is resumed and figwasp runs", async function (this: FigwaspWorld) {
  await this.kubectl("rollout", "resume", "deployment/my-app");
  await this.rolledOut();
  await this.run();
});

When("the Deployment is scaled to {int} and figwasp runs", async function (this: FigwaspWorld, replicas: number) {
  await scale(this, replicas);
  await this.run();
});

When("the Deployment is scaled to {int}", async function (this: FigwaspWorld, replicas: number) {
  await scale(this, replicas);
});

async function scale(world: FigwaspWorld, replicas: number): Promise<void> {
  await world.kubectl("scale", "deployment/my-app", "--replicas", String(replicas));
  await world.rolledOut();
}

When("the Deployment is restarted by hand", async function (this: FigwaspWorld) {
  await this.kubectl("rollout", "restart", "deployment/my-app");
  await this.rolledOut();
});

// A new pod runs and is never ready, so that the old pods stay.
When("a rollout is under way that does not end", async function (this: FigwaspWorld) {
  const container = { name: "echo", readinessProbe: { httpGet: { port: 1 }, periodSeconds: 1 } };
  const strategy = { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } };
  const patch = { spec: { strategy, template: { spec: { containers: [container] } } } };
  await this.kubectl("patch", "deployment", "my-app", "--patch", JSON.stringify(patch));
  await eventually(async () => {
    const pods = await this.list<V1Pod>("pods", { labelSelector: "app=my-app" });
    const started = pods.filter(({ status }) => status?.containerStatuses?.[0]?.started);
    assert.equal(started.length, 3, "the new pod does not run beside the two old ones");
  });
});

When("the Deployment is changed to a tag that does not exist", async function (this: FigwaspWorld) {
  await this.kubectl("set", "image", "deployment/my-app", `echo=${this.registry.host}/${this.repository}:no-such-tag`);
  await eventually(async () => {
    const pods = await this.list<V1Pod>("pods", { labelSelector: "app=my-app" });
    const reasons = pods.map(({ status }) => status?.containerStatuses?.[0]?.state?.waiting?.reason).join(" ");
    assert.match(reasons, /ImagePullBackOff|ErrImagePull/);
  });
});

When("every pod fails and is replaced, and the failed ones stay listed", async function (this: FigwaspWorld) {
  const names = await this.podNames();
  for (const name of names) await this.kubectl("patch", "pod", name, "-p", '{"spec":{"activeDeadlineSeconds":1}}');
  await eventually(async () => {
    const pods = await this.list<V1Pod>("pods");
    const failed = pods.filter((pod) => names.includes(pod.metadata?.name ?? "") && pod.status?.phase === "Failed");
    assert.equal(failed.length, names.length, "not every pod has failed");
  });
  await this.rolledOut();
});

// --- What became of them ---

Then("the same pods keep running", async function (this: FigwaspWorld) {
  assert.deepEqual(await this.standing(), this.standingBefore);
});

Then("there has been no rollout", async function (this: FigwaspWorld) {
  assert.equal(await this.rollouts(), 0);
});

Then("there has been one rollout", async function (this: FigwaspWorld) {
  assert.equal(await this.rollouts(), 1);
});

Then("there have been {int} rollouts", async function (this: FigwaspWorld, times: number) {
  assert.equal(await this.rollouts(), times);
});

Then(
  "{string} has been rolled out, and {string} has not",
  async function (this: FigwaspWorld, one: string, other: string) {
    assert.deepEqual([await this.rollouts(one), await this.rollouts(other)], [1, 0]);
  },
);

Then("{string} and {string} have been rolled out", async function (this: FigwaspWorld, one: string, other: string) {
  assert.deepEqual([await this.rollouts(one), await this.rollouts(other)], [1, 1]);
});

Then("the Deployment in the other namespace has been rolled out", async function (this: FigwaspWorld) {
  assert.equal(await this.rollouts("elsewhere"), 1);
});
