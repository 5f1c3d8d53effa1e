import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { CoreV1Event } from "@kubernetes/client-node";
import { imageOf } from "../support/registry.ts";
import { openShop } from "./support/shop.ts";
import { workloadKinds } from "./support/workloads.ts";

describe("a moved tag", { concurrency: true }, () => {
  for (const kind of workloadKinds) {
    it(`restarts a ${kind} once, and its controller makes pods of the new image`, async (t) => {
      const shop = await openShop(t);
      const old = shop.registry.put("latest", imageOf("old"));
      await shop.make(kind);
      await shop.rollOut(kind);
      const moved = shop.registry.put("latest", imageOf("new"));

      const first = await shop.figwasp(kind);
      const subject = `${kind} shop/web`;
      const image = `container app (${shop.registry.image("latest")})`;
      assert.deepEqual(first.lines, [
        `${subject}, ${image}: outdated, running ${old} in 2 of 2 pods, resolved ${moved}`,
        `${subject}: restarted, outdated: app`,
      ]);
      assert.equal(first.code, 0);
      await shop.rollOut(kind);
      assert.deepEqual(await shop.running(), [moved, moved]);
      const events = await shop.list<CoreV1Event>("events");
      assert.equal(events.filter(({ source }) => source?.component === "figwasp").length, 1);

      const second = await shop.figwasp(kind);
      assert.deepEqual(second.lines, [
        `${subject}, ${image}: current, resolved ${moved}`,
        `${subject}: current, nothing to do`,
      ]);
      assert(!second.asked.some((line) => line.startsWith("PATCH")));
    });
  }
});
