import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { V1Pod } from "@kubernetes/client-node";
import { imageOf } from "../support/registry.ts";
import { openShop } from "./support/shop.ts";
import { workloadKinds } from "./support/workloads.ts";

describe("adoption", { concurrency: true }, () => {
  for (const kind of workloadKinds) {
    it(`gives the pods of a deleted ${kind} to the next of its name, which figwasp finds by its uid`, async (t) => {
      const shop = await openShop(t);
      const old = shop.registry.put("latest", imageOf("old"));
      await shop.make(kind);
      await shop.rollOut(kind);
      const podUids = async () => new Set((await shop.list<V1Pod>("pods")).map(({ metadata }) => metadata?.uid));
      const before = await podUids();
      const { metadata } = await shop.read(kind);

      await shop.kubectl("delete", `${kind}/web`, "--cascade=orphan");
      await shop.make(kind);
      await shop.rollOut(kind);
      assert.notEqual((await shop.read(kind)).metadata?.uid, metadata?.uid);
      assert.deepEqual(await podUids(), before);

      assert.equal((await shop.figwasp(kind)).lines.at(-1), `${kind} shop/web: current, nothing to do`);
      const moved = shop.registry.put("latest", imageOf("new"));
      const outdated = await shop.figwasp(kind);
      assert.match(outdated.lines[0] ?? "", new RegExp(`running ${old} in 2 of 2 pods, resolved ${moved}$`));
      await shop.rollOut(kind);
      assert.deepEqual(await shop.running(), [moved, moved]);
    });
  }
});
