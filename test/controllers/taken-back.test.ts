import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import type { V1Pod, V1PodTemplateSpec, V1ReplicaSet } from "@kubernetes/client-node";
import type { Digest } from "../../lib/registry/manifest.ts";
import { imageOf } from "../support/registry.ts";
import { playOwner } from "./support/owner.ts";
import {
  beforeTheLastLook,
  changesOf,
  eventually,
  isRestart,
  maker,
  nextSecond,
  openShop,
  type Run,
  type Shop,
  verdictOf,
} from "./support/shop.ts";
import { admit } from "./support/webhook.ts";
import { type WorkloadKind, workloadKinds } from "./support/workloads.ts";

interface Taken {
  /** What figwasp restarted for. */
  wanted: Digest;
  /** Of the revision that the restart made. */
  revision: number;
  by?: string;
}

/** Fails where figwasp did anything, or says anything but that its restart was taken back. */
function assertTakenBack(run: Run, { wanted, revision, by = `somebody (${belongs})` }: Taken): void {
  const end = "it is not restarted for that digest again, until the tag moves or somebody restarts it";
  const verdict = verdictOf(run).replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ/, "TIME");
  const expected = `taken back, app was restarted for ${wanted} at TIME (revision ${revision})`;
  assert.equal(verdict, `${expected}, and ${by} took that back: ${end}`);
  assert.equal(run.code, 1);
  assert.deepEqual(changesOf(run), []);
}

const belongs = `its template belongs to field manager ${maker}`;

/** Runs figwasp several times, one after the other. */
async function runTimes(shop: Shop, kind: WorkloadKind, times: number): Promise<Run[]> {
  const runs: Run[] = [];
  while (runs.length < times) runs.push(await shop.figwasp(kind));
  return runs;
}

/** One whose bad image figwasp has rolled out, as far as it came. */
async function openBad(t: TestContext, kind: WorkloadKind, prepare = async (_shop: Shop) => {}) {
  const shop = await openShop(t);
  const old = shop.registry.put("latest", imageOf("old"));
  await shop.make(kind);
  await shop.rollOut(kind);
  await prepare(shop);
  await nextSecond();
  const bad = shop.registry.put("latest", imageOf("bad"));
  shop.nodes.bad.add(bad);
  assert.equal(verdictOf(await shop.figwasp(kind)), "restarted, outdated: app");
  await eventually(async () => assert((await shop.running()).includes(bad)));
  await nextSecond();
  return { shop, old, bad };
}

/** Deletes the pod of a StatefulSet that was replaced first. Its controller replaces no pod of an older revision that
 *  has never become ready (kubernetes/kubernetes#67250). */
async function replaceLast(shop: Shop): Promise<void> {
  // Its successor has its name, so that kubectl may wait for ever.
  await shop.kubectl("delete", "pod/web-1", "--wait=false");
}

/** Waits until a take-back has done what it can. What is left of a StatefulSet or DaemonSet is one old pod: the other
 *  one was given up for the bad image, and its successor pulls that again. */
async function undone(shop: Shop, kind: WorkloadKind, { old, bad }: { old: Digest; bad: Digest }): Promise<void> {
  if (kind === "statefulset") await replaceLast(shop);
  await eventually(async () => {
    const running = await shop.running();
    assert.deepEqual(running.toSorted(), kind === "deployment" ? [old, old] : [old, bad].toSorted());
    await assertOneRevision(shop);
  });
}

/** Fails where not all pods are of the same revision, or some are to end. */
async function assertOneRevision(shop: Shop): Promise<V1Pod[]> {
  const pods = await shop.list<V1Pod>("pods");
  const ofKinds = ["controller-revision-hash", "pod-template-hash"];
  const names = pods.map(({ metadata }) => ofKinds.map((label) => metadata?.labels?.[label]).join());
  assert.deepEqual([pods.length, new Set(names).size], [2, 1]);
  return pods;
}

describe("a restart that kubectl rollout undo took back", { concurrency: true }, () => {
  for (const kind of workloadKinds) {
    it(`is not made again for a ${kind}, until the tag moves`, async (t) => {
      const { shop, ...images } = await openBad(t, kind);
      await shop.kubectl("rollout", "undo", `${kind}/web`);
      await undone(shop, kind, images);
      const before = await shop.podUids();
      for (const run of await runTimes(shop, kind, 3)) assertTakenBack(run, { wanted: images.bad, revision: 2 });
      assert.deepEqual(await shop.podUids(), before);

      shop.registry.put("latest", imageOf("mended"));
      const run = await shop.figwasp(kind);
      assert.deepEqual([run.code, verdictOf(run)], [0, "restarted, outdated: app"]);
    });

    it(`is made again for a ${kind} after a rollout restart, whose pods run something else still`, async (t) => {
      const { shop, ...images } = await openBad(t, kind);
      await shop.kubectl("rollout", "undo", `${kind}/web`);
      await undone(shop, kind, images);
      assertTakenBack(await shop.figwasp(kind), { wanted: images.bad, revision: 2 });

      await nextSecond();
      shop.nodes.pull = () => images.old; // a mirror that is behind
      await shop.kubectl("rollout", "restart", `${kind}/web`);
      if (kind === "statefulset") await replaceLast(shop);
      await shop.rollOut(kind);
      const run = await shop.figwasp(kind);
      assert.deepEqual([run.code, isRestart(run)], [0, true], verdictOf(run));
    });
  }

  it("is not made again, where an earlier restart had made the revision that the undo went back to", async (t) => {
    const shop = await openShop(t);
    shop.registry.put("latest", imageOf("older"));
    await shop.make("deployment");
    await shop.rollOut("deployment");
    const old = shop.registry.put("latest", imageOf("old"));
    assert(isRestart(await shop.figwasp("deployment")));
    await shop.rollOut("deployment");
    await nextSecond();
    const bad = shop.registry.put("latest", imageOf("bad"));
    shop.nodes.bad.add(bad);
    assert(isRestart(await shop.figwasp("deployment")));
    await eventually(async () => assert((await shop.running()).includes(bad)));
    await nextSecond();
    await shop.kubectl("rollout", "undo", "deployment/web");
    await undone(shop, "deployment", { old, bad });
    for (const run of await runTimes(shop, "deployment", 2)) {
      assertTakenBack(run, { wanted: bad, revision: 3, by: "kubectl" });
    }
  });

  it("is told with the name of kubectl, where the undo wrote a field", async (t) => {
    const { shop, ...images } = await openBad(t, "deployment", async (opened) => {
      await opened.kubectl("set", "env", "deployment/web", "A=1");
      await opened.rollOut("deployment");
      // The pods of this one stay, since that of the next does not become ready.
      opened.nodes.isMakingReady = false;
      await opened.kubectl("set", "env", "deployment/web", "A=2");
      await eventually(async () => assert.equal((await opened.running()).length, 3));
    });
    await shop.kubectl("rollout", "undo", "deployment/web", "--to-revision=2");
    await undone(shop, "deployment", images);
    assertTakenBack(await shop.figwasp("deployment"), { wanted: images.bad, revision: 4, by: "kubectl" });
  });

  it("is not made again either, where an older release had made it", async (t) => {
    const shop = await openShop(t);
    const old = shop.registry.put("latest", imageOf("old"));
    await shop.make("deployment");
    await shop.rollOut("deployment");
    const bad = shop.registry.put("latest", imageOf("bad"));
    shop.nodes.bad.add(bad);
    const annotations = {
      "figwasp/restarted-for": JSON.stringify({ app: bad }),
      "kubectl.kubernetes.io/restartedAt": new Date().toISOString().replace(/\.\d+/, ""),
    };
    const patch = JSON.stringify({ spec: { template: { metadata: { annotations } } } });
    await shop.kubectl("patch", "deployment/web", "--patch", patch);
    await eventually(async () => assert((await shop.running()).includes(bad)));
    await shop.kubectl("rollout", "undo", "deployment/web");
    await undone(shop, "deployment", { old, bad });
    for (const run of await runTimes(shop, "deployment", 2)) assertTakenBack(run, { wanted: bad, revision: 2 });
  });

  it("can be told with one older revision kept", async (t) => {
    const { shop, ...images } = await openBad(t, "deployment", async (opened) => {
      const patch = JSON.stringify({ spec: { revisionHistoryLimit: 1 } });
      await opened.kubectl("patch", "deployment/web", "--patch", patch);
    });
    await shop.kubectl("rollout", "undo", "deployment/web");
    await undone(shop, "deployment", images);
    await shop.rollOut("deployment");
    for (const run of await runTimes(shop, "deployment", 2)) assertTakenBack(run, { wanted: images.bad, revision: 2 });
  });

  it("is made again without older revisions, which figwasp notes at each restart", async (t) => {
    const { shop, ...images } = await openBad(t, "deployment", async (opened) => {
      const patch = JSON.stringify({ spec: { revisionHistoryLimit: 0 } });
      await opened.kubectl("patch", "deployment/web", "--patch", patch);
    });
    await shop.kubectl("rollout", "undo", "deployment/web");
    await undone(shop, "deployment", images);
    const left = async () => (await shop.list<V1ReplicaSet>("replicasets", "apis/apps/v1")).length;
    await eventually(async () => assert.equal(await left(), 1));
    const run = await shop.figwasp("deployment");
    assert.deepEqual([run.code, isRestart(run)], [0, true], verdictOf(run));
    const note =
      "deployment shop/web keeps no older revisions (revisionHistoryLimit is 0): " +
      "an undo of this restart cannot be noticed";
    assert(run.lines.includes(note), run.lines.join("\n"));
  });
});

/** One whose template an operator knows. */
async function openOwned(t: TestContext, kind: WorkloadKind) {
  const shop = await openShop(t);
  shop.registry.put("latest", imageOf("old"));
  await shop.make(kind);
  await shop.rollOut(kind);
  await nextSecond();
  const { template = {} } = (await shop.read(kind)).spec ?? {};
  return { shop, template };
}

/** Puts the template back as soon as the restart has made a revision, and before that costs a second pod. */
function playOperator(t: TestContext, shop: Shop, kind: WorkloadKind, template: V1PodTemplateSpec): void {
  shop.nodes.isMakingReady = false;
  const revisions = kind === "deployment" ? "replicasets" : "controllerrevisions";
  const mend = async (found: V1PodTemplateSpec) => {
    return (await shop.list(revisions, "apis/apps/v1")).length > 1 ? template : found;
  };
  playOwner(t, shop, kind, { everyMs: 20, mend });
}

/** Waits until the operator has put the template back, and its pods are what they will be. */
async function settle(shop: Shop, kind: WorkloadKind, template: V1PodTemplateSpec): Promise<void> {
  await eventually(async () => assert.deepEqual((await shop.read(kind)).spec?.template, template));
  shop.nodes.isMakingReady = true;
  await shop.rollOut(kind);
  await eventually(async () => {
    const pods = await assertOneRevision(shop);
    assert(pods.every(({ metadata }) => metadata?.deletionTimestamp === undefined));
    assert(pods.every(({ status }) => status?.containerStatuses?.every(({ ready }) => ready)));
  });
}

describe("a restart that an operator takes back", { concurrency: true }, () => {
  for (const kind of workloadKinds) {
    it(`costs a ${kind} no further pod`, async (t) => {
      const { shop, template } = await openOwned(t, kind);
      const wanted = shop.registry.put("latest", imageOf("new"));
      playOperator(t, shop, kind, template);
      const first = await shop.figwasp(kind);
      assert.deepEqual([changesOf(first).length], [1], first.lines.join("\n"));

      await settle(shop, kind, template);
      const before = await shop.podUids();
      for (const run of await runTimes(shop, kind, 4)) assertTakenBack(run, { wanted, revision: 2 });
      assert.deepEqual(await shop.podUids(), before);
    });
  }

  it("costs no further pod either, where that is at once", async (t) => {
    const { shop, template } = await openOwned(t, "deployment");
    const wanted = shop.registry.put("latest", imageOf("new"));
    playOperator(t, shop, "deployment", template);
    const isBack = async () => assert.deepEqual((await shop.read("deployment")).spec?.template, template);
    assertTakenBackAtOnce(await shop.figwasp("deployment", [], beforeTheLastLook(isBack)), wanted);

    await settle(shop, "deployment", template);
    const before = await shop.podUids();
    for (const run of await runTimes(shop, "deployment", 4)) assertTakenBack(run, { wanted, revision: 2 });
    assert.deepEqual(await shop.podUids(), before);
  });

  it("is made again by the next run, where it left no revision behind, and costs no pod", async (t) => {
    const { shop, template } = await openOwned(t, "deployment");
    const wanted = shop.registry.put("latest", imageOf("new"));
    // As if the controller were slower than the operator.
    await admit(t, shop, "replicasets", () => false);
    playOwner(t, shop, "deployment", { everyMs: 20, mend: () => template });
    const isBack = async () => assert.deepEqual((await shop.read("deployment")).spec?.template, template);
    const before = await shop.podUids();
    for (const _ of [1, 2, 3]) {
      const run = await shop.figwasp("deployment", [], beforeTheLastLook(isBack));
      assertTakenBackAtOnce(run, wanted);
      // Else the next run finds that the controller has not seen the template yet.
      await shop.rollOut("deployment");
    }
    assert.deepEqual(await shop.podUids(), before);
  });
});

function assertTakenBackAtOnce(run: Run, wanted: Digest): void {
  const start = `taken back, app was restarted for ${wanted} at `;
  assert(verdictOf(run).startsWith(start), verdictOf(run));
  assert(verdictOf(run).includes(`, and somebody (${belongs}) took that back at once: `), verdictOf(run));
  assert.deepEqual([run.code, changesOf(run)], [1, ["PATCH deployments/web 200"]]);
}
