import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { V1ResourceQuota } from "@kubernetes/client-node";
import type { Digest } from "../../lib/registry/manifest.ts";
import { imageOf, sha256 } from "../support/registry.ts";
import { eventually, isRestart, makeImpatient, nextSecond, openOutdated, openShop } from "./support/shop.ts";
import { type Shop, verdictOf } from "./support/shop.ts";
import type { WorkloadKind } from "./support/workloads.ts";

const digestOf = (word: string): Digest => sha256(imageOf(word).body);
const [old, moved, mended] = [digestOf("old"), digestOf("new"), digestOf("mended")];
const waiting = "waiting, no pod of the current revision has started";
const deadline = "failed, it has exceeded its progress deadline";
const tenMinutesMs = 600_000;

/** Waits until the Deployment's controller has set a condition, and has not taken it back by the next second: with a
 *  deadline of one second it may set it before it counts the new pod, which is progress again. */
async function conditionOf(shop: Shop, wanted: string, reason: string): Promise<void> {
  const isSet = async () => {
    const conditions = (await shop.read("deployment")).status?.conditions ?? [];
    assert.equal(conditions.find(({ type }) => type === wanted)?.reason, reason);
  };
  await eventually(isSet);
  await nextSecond();
  await eventually(isSet);
}

/** Waits until a quota counts what is there. */
async function limit(shop: Shop, what: string, count: number): Promise<void> {
  await shop.kubectl("create", "quota", "full", `--hard=${what}=${count}`);
  await eventually(async () => {
    const [quota] = await shop.list<V1ResourceQuota>("resourcequotas");
    assert.equal(quota?.status?.used?.[what], String(count));
  });
}

/** What figwasp says of `web`, whose run ends with 1; the doctor must say it too. */
async function failureOf(shop: Shop, kind: WorkloadKind = "deployment"): Promise<string> {
  const run = await shop.figwasp(kind);
  const verdict = verdictOf(run);
  assert.equal(run.code, 1, verdict);
  const doctor = await shop.figwasp(kind, ["doctor"]);
  const told = doctor.lines.join("\n");
  assert.equal(doctor.code, 1, told);
  assert(told.includes(`  NO  ${kind} shop/web: ${verdict}\n`), told);
  assert(!told.includes("All is well"), told);
  return verdict;
}

async function restart(shop: Shop, kind: WorkloadKind = "deployment"): Promise<void> {
  const run = await shop.figwasp(kind);
  assert(isRestart(run) && run.code === 0, run.lines.join("\n"));
}

describe("a Deployment's rollout that hangs", { concurrency: true }, () => {
  it("fails where there is no room for its pods, and goes on with room", async (t) => {
    const shop = await openOutdated(t);
    await makeImpatient(shop);
    shop.nodes.hasRoom = false;
    await restart(shop);
    await conditionOf(shop, "Progressing", "ProgressDeadlineExceeded");
    assert.equal(await failureOf(shop), deadline);

    shop.nodes.hasRoom = true;
    await shop.rollOut("deployment");
    assert.equal(verdictOf(await shop.figwasp("deployment")), "current, nothing to do");
  });

  it("fails where a quota forbids its pods, and goes on without the quota", async (t) => {
    const shop = await openOutdated(t);
    await limit(shop, "pods", 2);
    await restart(shop);
    await conditionOf(shop, "ReplicaFailure", "FailedCreate");
    assert.match(
      await failureOf(shop),
      /^failed, pods "web-.*" is forbidden: exceeded quota: full, requested: pods=1, /,
    );

    await shop.kubectl("delete", "quota/full");
    await shop.rollOut("deployment");
    assert.equal(verdictOf(await shop.figwasp("deployment")), "current, nothing to do");
  });

  // Its controller does not say then that it has seen the template.
  it("fails where a quota forbids its ReplicaSet, and goes on without the quota", async (t) => {
    const shop = await openOutdated(t);
    await limit(shop, "count/replicasets.apps", 1);
    await restart(shop);
    await conditionOf(shop, "Progressing", "ReplicaSetCreateError");
    const { status, metadata } = await shop.read("deployment");
    assert.equal(status?.observedGeneration, (metadata?.generation ?? 0) - 1);
    assert.match(await failureOf(shop), /^failed, .*exceeded quota: full, requested: count\/replicasets\.apps=1, /);

    await shop.kubectl("delete", "quota/full");
    await shop.rollOut("deployment");
    assert.equal(verdictOf(await shop.figwasp("deployment")), "current, nothing to do");
  });

  it("fails after a bad push, and the fix is rolled out", async (t) => {
    const shop = await openOutdated(t);
    await makeImpatient(shop);
    shop.nodes.bad.add(moved);
    await restart(shop);
    await eventually(async () => assert((await shop.running()).includes(moved)));
    await conditionOf(shop, "Progressing", "ProgressDeadlineExceeded");
    assert.equal(await failureOf(shop), deadline);

    shop.registry.put("latest", imageOf("mended"));
    await restart(shop);
    await shop.rollOut("deployment");
    assert.deepEqual(await shop.running(), [mended, mended]);
    assert.equal(verdictOf(await shop.figwasp("deployment")), "current, nothing to do");
  });
});

describe("a workload that is scaled up without room", { concurrency: true }, () => {
  it("is current, and the pods that have not started are counted", async (t) => {
    const shop = await openShop(t);
    shop.registry.put("latest", imageOf("old"));
    await shop.make("deployment");
    await shop.rollOut("deployment");
    shop.nodes.hasRoom = false;
    await shop.kubectl("scale", "deployment/web", "--replicas=4");
    await eventually(async () => assert.equal((await shop.list("pods")).length, 4));
    const run = await shop.figwasp("deployment");
    assert.deepEqual([verdictOf(run), run.code], ["current, 2 not started", 0]);
  });
});

describe("a StatefulSet's rollout that hangs", { concurrency: true }, () => {
  // kubernetes/kubernetes#67250: an ordered one replaces no pod while another one is not ready.
  it("fails ten minutes after its image was mended, until the pod that crashes is deleted", async (t) => {
    const shop = await openShop(t);
    shop.registry.put("latest", imageOf("old"));
    await shop.make("statefulset");
    await shop.rollOut("statefulset");
    shop.registry.put("latest", imageOf("new"));
    shop.nodes.bad.add(moved);
    await restart(shop, "statefulset");
    await eventually(async () => assert.deepEqual((await shop.running()).toSorted(), [old, moved].toSorted()));
    assert.equal(verdictOf(await shop.figwasp("statefulset")), "current, nothing to do");

    shop.registry.put("latest", imageOf("mended"));
    await restart(shop, "statefulset");
    await eventually(async () => {
      const { metadata, status } = await shop.read("statefulset");
      assert.equal(status?.observedGeneration, metadata?.generation);
    });
    const early = await shop.figwasp("statefulset");
    assert.deepEqual([verdictOf(early), early.code], [waiting, 0]);
    await nextSecond();
    shop.clock.letPass(tenMinutesMs);
    assert.match(
      await failureOf(shop, "statefulset"),
      /^failed, pod web-1 of an older template has not been ready since \S+Z and holds the rollout up: mend or delete it$/,
    );

    await shop.kubectl("delete", "pod/web-1", "--wait=false");
    await shop.rollOut("statefulset");
    assert.deepEqual(await shop.running(), [mended, mended]);
    assert.equal(verdictOf(await shop.figwasp("statefulset")), "current, nothing to do");
  });
});

describe("a DaemonSet's rollout that hangs", { concurrency: true }, () => {
  // The pod there is to end and does not, and no other one may be unavailable.
  it("fails where a broken node uses up what may be unavailable", async (t) => {
    const shop = await openShop(t);
    shop.registry.put("latest", imageOf("old"));
    await shop.make("daemonset");
    await shop.rollOut("daemonset");
    shop.nodes.broken.add(`${shop.namespace}-a`);
    await eventually(async () => assert.equal((await shop.read("daemonset")).status?.numberAvailable, 1));
    shop.registry.put("latest", imageOf("new"));
    await restart(shop, "daemonset");
    await eventually(async () => assert.equal((await shop.podUids()).size, 1));
    await nextSecond();
    shop.clock.letPass(tenMinutesMs);
    assert.match(
      await failureOf(shop, "daemonset"),
      /^failed, pod web-\S+ of an older template .* and holds the rollout up: it does not end, look at its node$/,
    );

    shop.nodes.broken.clear();
    await shop.rollOut("daemonset");
    assert.deepEqual(await shop.running(), [moved, moved]);
  });
});
