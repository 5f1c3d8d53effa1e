import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { imageOf } from "../support/registry.ts";
import { openOutdated, openShop, type Run, type Shop } from "./support/shop.ts";
import { workloadKinds } from "./support/workloads.ts";

const skipped = (kind: string, why: string) => [0, [`${kind} shop/web: skipped, ${why}`]];
const ended = ({ code, lines }: Run) => [code, lines];

/** Deletes `web` by the means of an administrator, who does not wait for its end. */
async function startDeletion({ kubectl }: Shop, kind: string): Promise<void> {
  await kubectl("patch", `${kind}/web`, "--patch", '{"metadata":{"finalizers":["example.org/hold"]}}');
  await kubectl("delete", `${kind}/web`, "--wait=false");
}

describe("a workload that is being deleted", { concurrency: true }, () => {
  for (const kind of workloadKinds) {
    it(`is skipped, where a finalizer holds the ${kind}`, async (t) => {
      const shop = await openShop(t);
      shop.registry.put("latest", imageOf("old"));
      await shop.make(kind);
      await shop.rollOut(kind);
      shop.registry.put("latest", imageOf("new"));
      await startDeletion(shop, kind);
      const run = await shop.figwasp(kind);
      assert.deepEqual(ended(run), skipped(kind, "being deleted"));
      assert(
        run.asked.every((line) => line.startsWith("GET ")),
        run.asked.join("\n"),
      );
      await shop.kubectl("patch", `${kind}/web`, "--patch", '{"metadata":{"finalizers":null}}');
    });
  }

  it("is gone, where that happens between judging and restarting", async (t) => {
    const shop = await openOutdated(t);
    const run = await shop.figwasp("deployment", [], async (method) => {
      if (method === "PATCH") await shop.kubectl("delete", "deployment/web");
    });
    assert.deepEqual(ended(run), skipped("deployment", "it is gone"));
    assert.deepEqual(run.asked.slice(-2), ["PATCH deployments/web 404", "GET deployments/web 404"]);
  });

  it("is skipped, where --wait follows its rollout", async (t) => {
    const shop = await openOutdated(t);
    shop.nodes.isMakingReady = false;
    let isRestarted = false;
    const run = await shop.figwasp("deployment", ["--wait", "--timeout=60s"], async (method, resource) => {
      if (isRestarted && resource === "deployments/web") {
        isRestarted = false;
        await startDeletion(shop, "deployment");
      }
      // A PATCH may conflict with a status; the Event follows the one that was made.
      if (method === "POST" && resource === "events") isRestarted = true;
    });
    assert.deepEqual([run.code, run.lines.at(-1)], [0, "deployment shop/web: skipped, being deleted"]);
    await shop.kubectl("patch", "deployment/web", "--patch", '{"metadata":{"finalizers":null}}');
  });
});
