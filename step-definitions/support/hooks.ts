import assert from "node:assert/strict";
import {
  After,
  AfterAll,
  Before,
  BeforeAll,
  setDefaultTimeout,
  setParallelCanAssign,
  setWorldConstructor,
  Status,
} from "@cucumber/cucumber";
import { askedFor, type AuditEvent, type Environment, isToBeKept, openEnvironment, runId } from "./environment.ts";
import { beginScenario, endScenario, endSteps, joinRun } from "./interruption.ts";
import { setUp, tearDown } from "./lifecycle.ts";
import { isExclusive, mayBegin } from "./turns.ts";
import { FigwaspWorld } from "./world.ts";

setWorldConstructor(FigwaspWorld);
setDefaultTimeout(3 * 60_000);
setParallelCanAssign(mayBegin);

// The types of cucumber have an enumeration for this value, which its ES module does not export.
const inMainThread = { on: "COORDINATOR" } as object;

let environment: Environment;
let scenarios = 0;

BeforeAll({ name: "one cluster and registry for all scenarios", timeout: 15 * 60_000, ...inMainThread }, setUp);

BeforeAll({ name: "a worker that knows them" }, async function () {
  joinRun();
  environment = await openEnvironment();
});

AfterAll({ name: "delete what was made", timeout: 3 * 60_000, ...inMainThread }, tearDown);

Before({ name: "a namespace of its own" }, async function (this: FigwaspWorld, { pickle }) {
  await beginScenario();
  const worker = process.env["CUCUMBER_WORKER_ID"] ?? "0";
  await this.open(environment, `scenario-${runId}-${worker}-${++scenarios}`);
  if (isExclusive(pickle)) await this.waitUntilAlone();
  this.isRunAsInReadme = pickle.tags.some(({ name }) => name === "@as-in-readme");
});

After({ name: "no run of figwasp failed unnoticed" }, async function (this: FigwaspWorld, { result }) {
  await endSteps();
  let isWell = false;
  try {
    await this.spend("checks after the scenario", () => assertPromises(this));
    isWell = result?.status !== Status.FAILED;
  } finally {
    try {
      if (!isWell) await this.spend("evidence", () => this.attachEvidence());
    } finally {
      await leave(this, isWell);
      endScenario();
    }
  }
});

let leftToLookAt: FigwaspWorld | undefined;

// With KEEP=1 the namespaces of a scenario stay if it failed, or if it is the last one of its worker. The node would not have
// room for the pods of all scenarios.
async function leave(world: FigwaspWorld, isWell: boolean): Promise<void> {
  try {
    await world.close();
  } finally {
    const isLeft = isToBeKept && isWell;
    if (isLeft) await leftToLookAt?.deleteNamespaces();
    if (isLeft) leftToLookAt = world;
    if (!isToBeKept) await world.deleteNamespaces();
  }
}

async function assertPromises(world: FigwaspWorld): Promise<void> {
  const written = await world.audit();
  const needless = [...world.needlessSecrets(written), ...written.filter((event) => !isNeeded(event))];
  const asked = needless.map(({ verb, requestURI, responseStatus: { code } }) => `${verb} ${requestURI}: ${code}`);
  const [leaks, mistakes] = await Promise.all([world.leaks(written), world.mistakesInDocument()]);
  const found = { asked, leaks, mistakes };
  assert.deepEqual(found, { asked: [], leaks: [], mistakes: "" }, "figwasp did what its promises exclude");
  const unnoticed = world.runs.find((run) => run.exitCode !== 0 && !run.isAsserted);
  if (unnoticed)
    throw new Error(`figwasp ended with ${unnoticed.exitCode}, and no step expected it:\n${unnoticed.log}`);
}

// figwasp promises for every run in every situation: it writes only workloads, by PATCH (by PUT with the Role of figwasp v1),
// and Events that tell of it. The doctor asks what it may do. Every request is about objects, as the rules of a Role are.
const needed = [
  /^(?:get|list) [a-z]+$/,
  /^(?:dry-run )?(?:patch|update) (?:deployments|statefulsets|daemonsets)$/,
  /^create (?:events|selfsubjectaccessreviews)$/,
];

function isNeeded(event: AuditEvent): boolean {
  return needed.some((pattern) => pattern.test(askedFor(event)));
}
