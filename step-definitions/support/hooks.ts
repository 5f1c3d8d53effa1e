import assert from "node:assert/strict";
import { After, AfterAll, Before, BeforeAll, setDefaultTimeout, setWorldConstructor, Status } from "@cucumber/cucumber";
import { askedFor, type AuditEvent, type Environment, setUp, tearDown } from "./environment.ts";
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
  let isWell = false;
  try {
    await assertPromises(this);
    isWell = result?.status !== Status.FAILED;
  } finally {
    try {
      if (!isWell) await this.attachEvidence();
    } finally {
      await this.close();
    }
  }
});

async function assertPromises(world: FigwaspWorld): Promise<void> {
  const written = await world.audit();
  const needless = [...world.needlessSecrets(written), ...written.filter((event) => !isNeeded(event))];
  const asked = needless.map(({ verb, requestURI, responseStatus: { code } }) => `${verb} ${requestURI}: ${code}`);
  const found = { asked, leaks: await world.leaks(), mistakes: await world.mistakesInDocument() };
  assert.deepEqual(found, { asked: [], leaks: [], mistakes: "" }, "figwasp did what its promises exclude");
  const unnoticed = world.runs.find((run) => run.exitCode !== 0 && !run.isAsserted);
  if (unnoticed)
    throw new Error(`figwasp ended with ${unnoticed.exitCode}, and no step expected it:\n${unnoticed.log}`);
}

// Promised for every run in every situation: nothing is written but a workload, by PATCH, or by PUT under figwasp v1's
// Role, and an Event that says so; the doctor asks what it may do. All of it is about objects, as a Role is.
const needed = [
  /^(?:get|list) [a-z]+$/,
  /^(?:patch|update) (?:deployments|statefulsets|daemonsets)$/,
  /^create (?:events|selfsubjectaccessreviews)$/,
];

function isNeeded(event: AuditEvent): boolean {
  return needed.some((pattern) => pattern.test(askedFor(event)));
}
