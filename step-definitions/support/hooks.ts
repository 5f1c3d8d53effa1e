import { After, AfterAll, Before, BeforeAll, setDefaultTimeout, setWorldConstructor, Status } from "@cucumber/cucumber";
import { type Environment, setUp, tearDown } from "./environment.ts";
import { FigwaspWorld } from "./world.ts";

setWorldConstructor(FigwaspWorld);
setDefaultTimeout(3 * 60_000);

let environment: Environment;
let scenarios = 0;

BeforeAll({ name: "one cluster and registry for all scenarios", timeout: 15 * 60_000 }, async function () {
  environment = await setUp();
});

AfterAll({ name: "delete what was made", timeout: 3 * 60_000 }, tearDown);

Before({ name: "a namespace of its own" }, async function (this: FigwaspWorld) {
  await this.open(environment, `scenario-${++scenarios}`);
});

After({ name: "no run of figwasp failed unnoticed" }, async function (this: FigwaspWorld, { result }) {
  const unnoticed = this.runs.find((run) => run.exitCode !== 0 && !run.isAsserted);
  if (result?.status === Status.FAILED || unnoticed) await this.attachEvidence();
  await this.close();
  if (unnoticed)
    throw new Error(`figwasp ended with ${unnoticed.exitCode}, and no step expected it:\n${unnoticed.log}`);
});
