import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { makeImpatient, openOutdated } from "./support/shop.ts";

const subject = "deployment shop/web";

describe("a rollout", { concurrency: true }, () => {
  it("is followed by --wait until its controller is done", async (t) => {
    const shop = await openOutdated(t);
    const { code, lines } = await shop.figwasp("deployment", ["--wait"]);
    assert.equal(code, 0);
    assert(lines.some((line) => line.startsWith(`${subject}: rolling out, `)));
    assert.equal(lines.at(-1), `${subject}: restarted, outdated: app; it has rolled out`);
    const { status } = await shop.read("deployment");
    assert.deepEqual([status?.updatedReplicas, status?.availableReplicas, status?.replicas], [2, 2, 2]);
  });

  it("is given up by --wait where its controller gives it up", async (t) => {
    const shop = await openOutdated(t);
    await makeImpatient(shop);
    shop.nodes.isMakingReady = false;
    const { code, lines } = await shop.figwasp("deployment", ["--wait"]);
    assert.equal(code, 1);
    const failure = `${subject}: failed, Cannot follow the rollout of ${subject}: it has exceeded its progress deadline`;
    // How far it was follows, where that was seen before.
    assert(lines.at(-1)?.startsWith(failure), lines.join("\n"));
  });
});
