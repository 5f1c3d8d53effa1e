import assert from "node:assert/strict";
import { Given, Then } from "@cucumber/cucumber";
import type { FigwaspWorld } from "./support/world.ts";

Given("a client that hears {string}", async function (this: FigwaspWorld, reply: string) {
  await this.comeToHear(reply);
});

Then("the client comes to hear {string}", async function (this: FigwaspWorld, reply: string) {
  await this.comeToHear(reply);
  // The client hears the same when it asks again, since no pod of an older image is left to answer.
  await this.rolledOut();
  assert.equal(await this.hear(), reply);
});

Then("the client still hears {string}", async function (this: FigwaspWorld, reply: string) {
  assert.equal(await this.hear(), reply);
});
