import assert from "node:assert/strict";
import { Given, Then } from "@cucumber/cucumber";
import type { FigwaspWorld } from "./support/world.ts";

Given("a Deployment of that image", deploy);

Given("a Deployment of that image, pinned by its digest", async function (this: FigwaspWorld) {
  const digest = await this.registry.digest(`${this.repository}:${this.tag}`);
  this.container = { image: `${this.image}@${digest}` };
  await deploy.call(this);
});

Given("a Deployment of that image that pulls only when the image is not present", async function (this: FigwaspWorld) {
  this.container = { imagePullPolicy: "IfNotPresent" };
  await deploy.call(this);
});

Then("the same pods keep running", async function (this: FigwaspWorld) {
  assert.deepEqual(await this.podUids(), this.podsBefore);
});

Then("the Deployment has rolled out once", async function (this: FigwaspWorld) {
  assert.equal(await this.rollouts(), 1);
});

Then("the Deployment has rolled out {int} times", async function (this: FigwaspWorld, times: number) {
  assert.equal(await this.rollouts(), times);
});

async function deploy(this: FigwaspWorld): Promise<void> {
  await this.deploy();
  await this.remember();
}
