import assert from "node:assert/strict";
import { After, AfterAll, Before, BeforeAll, setDefaultTimeout, setWorldConstructor, Status } from "@cucumber/cucumber";
import { type AuditEvent, type Environment, setUp, tearDown } from "./environment.ts";
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
  const written = await this.audit();
  const leaks = await this.leaks();
  const mistakes = await this.mistakesInDocument();
  if (result?.status === Status.FAILED || unnoticed) await this.attachEvidence();
  await this.close();
  const needless = [...this.needlessSecrets(written), ...written.filter((event) => !isNeeded(event))];
  const asked = needless.map(({ verb, requestURI, responseStatus: { code } }) => `${verb} ${requestURI}: ${code}`);
  const nothing = { asked: [], leaks: [], mistakes: "" };
  assert.deepEqual({ asked, leaks, mistakes }, nothing, "figwasp did what its promises exclude");
  if (unnoticed)
    throw new Error(`figwasp ended with ${unnoticed.exitCode}, and no step expected it:\n${unnoticed.log}`);
});

// Promised for every run in every situation: nothing is written but a workload, by PATCH, or by PUT under figwasp v1's
// Role, and an Event that says so; the doctor asks what it may do.
function isNeeded({ verb, objectRef }: AuditEvent): boolean {
  const { resource } = objectRef ?? { resource: "" };
  const isWorkload = /^(?:deployments|statefulsets|daemonsets)$/.test(resource);
  return (
    ["get", "list"].includes(verb) ||
    (isWorkload && ["patch", "update"].includes(verb)) ||
    (["events", "selfsubjectaccessreviews"].includes(resource) && verb === "create")
  );
}
