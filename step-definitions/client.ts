import assert from "node:assert/strict";
import { Given, Then } from "@cucumber/cucumber";
import { eventually } from "./support/eventually.ts";
import type { FigwaspWorld } from "./support/world.ts";

Given("a client that hears {string}", comesToHear);

Then("the client comes to hear {string}", async function (this: FigwaspWorld, reply: string) {
  await comesToHear.call(this, reply);
  // Also when it asks again: no pod of an older image is left to answer.
  await this.rolledOut();
  assert.equal(await this.hear(), reply);
});

Then("the client still hears {string}", async function (this: FigwaspWorld, reply: string) {
  assert.equal(await this.hear(), reply);
});

async function comesToHear(this: FigwaspWorld, reply: string): Promise<void> {
  await eventually(async () => assert.equal(await this.hear(), reply));
}
