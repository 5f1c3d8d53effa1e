import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { V1ResourceQuota } from "@kubernetes/client-node";
import { eventually, openOutdated, type Shop } from "./support/shop.ts";

const subject = "deployment shop/web";
const waiting = `${subject}: waiting, no pod of the current revision has started`;

/** Waits until the Deployment's controller has set a condition. */
async function conditionOf(shop: Shop, wanted: string, reason: string): Promise<void> {
  await eventually(async () => {
    const conditions = (await shop.read("deployment")).status?.conditions ?? [];
    assert.equal(conditions.find(({ type }) => type === wanted)?.reason, reason);
  });
}

/** Lets its controller give up after a second. Before the first rollout it might do so too early. */
async function makeImpatient(shop: Shop): Promise<void> {
  await shop.kubectl("patch", "deployment/web", "--patch", '{"spec":{"progressDeadlineSeconds":1}}');
  await shop.rollOut("deployment");
}

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

  it("is waited for, as of today, where its controller gives it up before a pod has started", async (t) => {
    const shop = await openOutdated(t);
    await makeImpatient(shop);
    shop.nodes.isPulling = false;
    assert.equal((await shop.figwasp("deployment")).lines.at(-1), `${subject}: restarted, outdated: app`);
    await conditionOf(shop, "Progressing", "ProgressDeadlineExceeded");
    const { code, lines } = await shop.figwasp("deployment");
    assert.deepEqual([code, lines], [0, [waiting]]);
  });

  it("is waited for, as of today, where a quota forbids its pods, and goes on without the quota", async (t) => {
    const shop = await openOutdated(t);
    await shop.kubectl("create", "quota", "full", "--hard=pods=2");
    await eventually(async () => {
      const [quota] = await shop.list<V1ResourceQuota>("resourcequotas");
      assert.equal(quota?.status?.used?.["pods"], "2");
    });
    assert.equal((await shop.figwasp("deployment")).lines.at(-1), `${subject}: restarted, outdated: app`);
    await conditionOf(shop, "ReplicaFailure", "FailedCreate");
    const { code, lines } = await shop.figwasp("deployment");
    assert.deepEqual([code, lines], [0, [waiting]]);

    await shop.kubectl("delete", "quota/full");
    await shop.rollOut("deployment");
    assert.equal((await shop.figwasp("deployment")).lines.at(-1), `${subject}: current, nothing to do`);
  });
});
