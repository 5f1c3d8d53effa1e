import assert from "node:assert/strict";
import { Given, Then, When } from "@cucumber/cucumber";
import { authorityBeside, startWithPasswords } from "./support/private-registry.ts";
import { ofFigwasp } from "./support/server.ts";
import { startWebhook } from "./support/webhook.ts";
import type { FigwaspWorld } from "./support/world.ts";

// What admission changes: each webhook has its own way.

// --- Images that are rewritten ---

// What is pushed to the registry of the run can be pulled from the private one, which asks for a credential.
Given("a copy of that image in a private registry", async function (this: FigwaspWorld) {
  await pushCopy.call(this, "v1");
  this.privateRegistry = await startWithPasswords(this);
  this.hosts = { ...this.registry.hosts, ...authorityBeside(this.privateRegistry) };
  await this.connectNodes(this.hosts);
});

Given("a webhook that makes pods pull the copy, with a pull secret of its own", async function (this: FigwaspWorld) {
  const { host, credential } = this.privateRegistry ?? assert.fail("the scenario has no private registry");
  const SECRET = "copy-pull";
  await this.putPullSecret(SECRET, host, credential);
  const [FROM, TO] = [`${this.registry.host}/${this.repository}`, `${host}/${copyOf(this)}`];
  await startWebhook(this, "another registry", { FROM, TO, SECRET });
});

When("an image that says {string} is pushed to the copy", pushCopy);

async function pushCopy(this: FigwaspWorld, reply: string): Promise<void> {
  await this.pushServer(`${copyOf(this)}:${this.tag}`, reply);
}

function copyOf({ namespace }: FigwaspWorld): string {
  return `${namespace}/copy`;
}

Then("figwasp has asked for the copy alone", async function (this: FigwaspWorld) {
  const logs = [this.registry, this.privateRegistry?.server ?? assert.fail("the scenario has no private registry")];
  const [there, here] = await Promise.all(
    logs.map(async (server) => ofFigwasp(await server.log()).filter((line) => line.includes(`/v2/${this.namespace}/`))),
  );
  assert.deepEqual(there, []);
  assert.notEqual(here?.length, 0);
});

// --- Placeholders ---

const placeholder = "auto";

Given("a webhook that fills in the image of pods", async function (this: FigwaspWorld) {
  await startWebhook(this, "placeholder", { FROM: placeholder, TO: this.image });
});

Given("a Deployment whose template has a placeholder for the image", async function (this: FigwaspWorld) {
  await this.deploy({ image: placeholder });
});

// --- Digests ---

Given("a webhook that pins the images of pods by digest", async function (this: FigwaspWorld) {
  await startWebhook(this, "digest in the pod", {});
});

Given("a webhook that pins the images of pods to another repository", async function (this: FigwaspWorld) {
  await pushCopy.call(this, "v1");
  await startWebhook(this, "digest in the pod", { FROM: this.repository, TO: copyOf(this) });
});

Given("a webhook that pins the images of pod templates by digest", async function (this: FigwaspWorld) {
  await startWebhook(this, "digest in the template", {});
});

// --- Containers and annotations ---

Given("a webhook that adds a container of the other image to pods", async function (this: FigwaspWorld) {
  await startWebhook(this, "container", { TO: this.otherImage });
});

Given(
  "a webhook that takes the annotation {string} out of pod templates",
  async function (this: FigwaspWorld, annotation: string) {
    await startWebhook(this, "annotation", { ANNOTATION: annotation });
  },
);
