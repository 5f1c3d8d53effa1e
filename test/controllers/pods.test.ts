import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { V1Pod } from "@kubernetes/client-node";
import { imageOf, sha256 } from "../support/registry.ts";
import { eventually, openOutdated } from "./support/shop.ts";

describe("pods that do not count", { concurrency: true }, () => {
  it("are those that are to end, and run what they ran", async (t) => {
    const shop = await openOutdated(t);
    const moved = sha256(imageOf("new").body);
    shop.nodes.isEndingPods = false;
    await shop.kubectl("delete", "pods", "--all", "--wait=false");
    await eventually(async () => assert.deepEqual(await shop.running(), [moved, moved]));
    assert.equal((await shop.list<V1Pod>("pods")).length, 4);
    assert.equal((await shop.figwasp("deployment")).lines.at(-1), "deployment shop/web: current, nothing to do");
  });

  it("are those that were evicted, and stay listed", async (t) => {
    const shop = await openOutdated(t);
    const moved = sha256(imageOf("new").body);
    // As the kubelet does it where its node is short of something.
    for (const { metadata } of await shop.list<V1Pod>("pods")) {
      const evicted = JSON.stringify({ status: { phase: "Failed", reason: "Evicted" } });
      await shop.kubectl("patch", `pod/${metadata?.name}`, "--subresource=status", "--patch", evicted);
    }
    await eventually(async () => assert.deepEqual(await shop.running(), [moved, moved]));
    assert.equal((await shop.list<V1Pod>("pods")).length, 4);
    assert.equal((await shop.figwasp("deployment")).lines.at(-1), "deployment shop/web: current, nothing to do");
  });
});
