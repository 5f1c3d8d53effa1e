import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { V1ReplicaSet } from "@kubernetes/client-node";
import { openOutdated, type Run } from "./support/shop.ts";

const restarted = "deployment shop/web: restarted, outdated: app";
/** The statuses with which its PATCHes were answered. */
const patchesOf = ({ asked }: Run) => asked.flatMap((line) => (line.startsWith("PATCH ") ? [line.slice(-3)] : []));

describe("the resourceVersion of a restart", { concurrency: true }, () => {
  it("lets two runs at once restart once", async (t) => {
    const shop = await openOutdated(t);
    let judged = 0;
    const both = Promise.withResolvers<void>();
    const waitForBoth = async (method: string) => {
      if (method !== "PATCH") return;
      if (++judged === 2) both.resolve();
      await both.promise;
    };
    const runs = await Promise.all([1, 2].map(() => shop.figwasp("deployment", [], waitForBoth)));
    const answers = runs.flatMap(patchesOf);
    assert.equal(answers.filter((status) => status === "200").length, 1);
    assert(answers.includes("409"), answers.join());
    assert.equal(runs.filter(({ lines }) => lines.at(-1) === restarted).length, 1);
    assert.deepEqual(
      runs.map(({ code }) => code),
      [0, 0],
    );
    await shop.rollOut("deployment");
    assert.equal((await shop.list<V1ReplicaSet>("replicasets", "apis/apps/v1")).length, 2);
  });

  it("makes it look again where somebody has changed the Deployment in between, whose change stays", async (t) => {
    const shop = await openOutdated(t);
    let isScaled = false;
    const run = await shop.figwasp("deployment", [], async (method) => {
      if (method !== "PATCH" || isScaled) return;
      isScaled = true;
      await shop.kubectl("scale", "deployment/web", "--replicas=3");
      // Else it finds that the controller has not seen the change yet, and waits.
      await shop.rollOut("deployment");
    });
    assert.deepEqual([run.code, run.lines.at(-1)], [0, restarted]);
    // Its controller may write the status once more.
    const answers = patchesOf(run);
    assert.deepEqual([answers[0], answers.at(-1)], ["409", "200"]);
    assert.equal((await shop.read("deployment")).spec?.replicas, 3);
  });
});
