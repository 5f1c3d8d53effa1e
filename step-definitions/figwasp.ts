import assert from "node:assert/strict";
import { Then, When } from "@cucumber/cucumber";
import type { FigwaspWorld } from "./support/world.ts";

When("figwasp runs as a Job", async function (this: FigwaspWorld) {
  await this.runJob();
});

When("figwasp runs as a Job for a Deployment named {string}", async function (this: FigwaspWorld, name: string) {
  await this.runJob({ FIGWASP_TARGET_DEPLOYMENT: name });
});

When("figwasp runs as its CronJob", async function (this: FigwaspWorld) {
  await this.runCronJob();
});

When("figwasp runs on the laptop", async function (this: FigwaspWorld) {
  await this.runLocally();
});

When("figwasp runs on the laptop for a Deployment named {string}", async function (this: FigwaspWorld, name: string) {
  await this.runLocally({ FIGWASP_TARGET_DEPLOYMENT: name });
});

Then("another run of figwasp starts no rollout", async function (this: FigwaspWorld) {
  const before = { pods: await this.podUids(), rollouts: await this.rollouts() };
  await this.runJob();
  assertRun(this, 0, "current, nothing to do");
  assert.deepEqual({ pods: await this.podUids(), rollouts: await this.rollouts() }, before);
});

Then("figwasp succeeds and says {string}", function (this: FigwaspWorld, words: string) {
  assertRun(this, 0, words);
});

Then("figwasp fails and says {string}", function (this: FigwaspWorld, words: string) {
  assertRun(this, 1, words);
});

Then("figwasp fails and names the registry", function (this: FigwaspWorld) {
  assertRun(this, 1, this.registry.clusterUrl);
});

function assertRun({ lastRun }: FigwaspWorld, exitCode: number, words: string): void {
  lastRun.isAsserted = true;
  assert.equal(lastRun.exitCode, exitCode, lastRun.log);
  assert(lastRun.log.includes(words), `figwasp did not say ${JSON.stringify(words)}:\n${lastRun.log}`);
  assert.doesNotMatch(lastRun.log, /^\s+at /m, "figwasp printed a stack trace");
}
