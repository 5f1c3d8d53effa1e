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

  it("restarts a Deployment once for a digest, where the nodes go on pulling what they had", async (t) => {
    const shop = await openShop(t);
    const old = shop.registry.put("latest", imageOf("old"));
    await shop.make("deployment");
    await shop.rollOut("deployment");
    const moved = shop.registry.put("latest", imageOf("new"));
    shop.nodes.pull = () => old; // a mirror that has not seen the push
    assert.equal((await shop.figwasp("deployment")).lines.at(-1), "deployment shop/web: restarted, outdated: app");
    await shop.rollOut("deployment");

    const { code, lines, asked } = await shop.figwasp("deployment");
    assert.equal(code, 1);
    const verdict = `deployment shop/web: not converged, app was restarted for ${moved} at `;
    assert(lines.at(-1)?.startsWith(verdict), lines.join("\n"));
    assert(!asked.some((line) => line.startsWith("PATCH")));
  });
});
