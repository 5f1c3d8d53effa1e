import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { V1ReplicaSet } from "@kubernetes/client-node";
import { imageOf } from "../support/registry.ts";
import { playOwner } from "./support/owner.ts";
import {
  beforeTheLastLook,
  changesOf,
  isRestart,
  nextSecond,
  openOutdated,
  openShop,
  pulled,
  type Shop,
  verdictOf,
} from "./support/shop.ts";
import type { WorkloadKind } from "./support/workloads.ts";

/** What somebody does to a workload while its tag is back at the older image. */
const between = {
  "a rollout restart": (shop: Shop, kind: WorkloadKind) => shop.kubectl("rollout", "restart", `${kind}/web`),
  "a set env": (shop: Shop, kind: WorkloadKind) => shop.kubectl("set", "env", `${kind}/web`, "A=1"),
  "a set image to another tag and back": async (shop: Shop, kind: WorkloadKind) => {
    await shop.kubectl("set", "image", `${kind}/web`, `app=${shop.registry.image("other")}`);
    await shop.rollOut(kind);
    await nextSecond();
    return shop.kubectl("set", "image", `${kind}/web`, `app=${shop.registry.image("latest")}`);
  },
  "an undo": (shop: Shop, kind: WorkloadKind) => shop.kubectl("rollout", "undo", `${kind}/web`),
};
type Between = keyof typeof between;

const cases: [WorkloadKind, Between, { isFollowed: boolean; argv?: string[] }][] = [
  ["deployment", "a rollout restart", { isFollowed: false, argv: ["--restart-annotation=shop.example/restarted"] }],
  ["deployment", "a rollout restart", { isFollowed: false }],
  ["deployment", "a rollout restart", { isFollowed: true }],
  ["deployment", "a set env", { isFollowed: false }],
  ["deployment", "a set env", { isFollowed: true }],
  ["deployment", "a set image to another tag and back", { isFollowed: false }],
  ["deployment", "a set image to another tag and back", { isFollowed: true }],
  ["deployment", "an undo", { isFollowed: false }],
  ["deployment", "an undo", { isFollowed: true }],
  ["statefulset", "an undo", { isFollowed: false }],
  ["statefulset", "an undo", { isFollowed: true }],
  ["daemonset", "a set image to another tag and back", { isFollowed: false }],
  ["daemonset", "an undo", { isFollowed: true }],
];

/** Runs figwasp, which shall restart it, and waits until that has rolled out. */
async function restartOnce(shop: Shop, kind: WorkloadKind, argv: string[] = []): Promise<void> {
  const run = await shop.figwasp(kind, argv);
  assert.deepEqual([run.code, isRestart(run)], [0, true], run.lines.join("\n"));
  await shop.rollOut(kind);
}

describe("a tag that moves forth, back and forth", { concurrency: true }, () => {
  for (const [kind, what, { isFollowed, argv = [] }] of cases) {
    const when = isFollowed ? "after figwasp had followed it back" : "while it was back";
    const by = argv.length > 0 ? ", by another annotation" : "";
    it(`restarts a ${kind} each time, with ${what} ${when}${by}`, async (t) => {
      const shop = await openShop(t);
      shop.registry.put("other", imageOf("other"));
      const old = shop.registry.put("latest", imageOf("old"));
      await shop.make(kind);
      await shop.rollOut(kind);
      await nextSecond();
      const moved = shop.registry.put("latest", imageOf("new"));
      await restartOnce(shop, kind, argv);
      assert.deepEqual(await shop.running(), [moved, moved]);
      await nextSecond();

      shop.registry.put("latest", imageOf("old"));
      if (isFollowed) await restartOnce(shop, kind, argv);
      if (isFollowed) await nextSecond();
      await between[what](shop, kind);
      await shop.rollOut(kind);
      assert.deepEqual(await shop.running(), [old, old]);

      shop.registry.put("latest", imageOf("new"));
      await restartOnce(shop, kind, argv);
      assert.deepEqual(await shop.running(), [moved, moved]);
    });
  }

  it("restarts it too, where the pods pulled a push that came after figwasp had asked", async (t) => {
    const shop = await openOutdated(t);
    const run = await shop.figwasp("deployment", [], (method) => {
      if (method === "PATCH") shop.registry.put("latest", imageOf("newer"));
    });
    assert(isRestart(run), verdictOf(run));
    await shop.rollOut("deployment");
    const moved = shop.registry.put("latest", imageOf("new"));
    await restartOnce(shop, "deployment");
    assert.deepEqual(await shop.running(), [moved, moved]);
  });
});

/** What somebody takes out of the template after a restart, and what is left in it. */
const halves = {
  time: ["kubectl.kubernetes.io/restartedAt", "figwasp/restarted-for"],
  note: ["figwasp/restarted-for", "kubectl.kubernetes.io/restartedAt"],
} as const;

describe("a restart of which somebody takes a half out of the template", { concurrency: true }, () => {
  for (const [half, isBehind] of [
    ["time", false],
    ["time", true],
    ["note", false],
    ["note", true],
  ] as const) {
    const then = isBehind ? "whose pods run what they ran" : "whose pods run the new image";
    it(`is made once for a Deployment ${then}, where that half is the ${half}`, async (t) => {
      const shop = await openOutdated(t);
      const [old = ""] = await shop.running();
      if (isBehind) shop.nodes.pull = () => old as `sha256:${string}`;
      const [taken, left] = halves[half];
      const annotationsOf = (template: Template) => Object.keys(template.metadata?.annotations ?? {});
      const mend = async (template: Template) => {
        const revisions = await shop.list("replicasets", "apis/apps/v1");
        if (revisions.length > 1) delete template.metadata?.annotations?.[taken];
        return template;
      };
      playOwner(t, shop, "deployment", { everyMs: 50, mend });
      const isTaken = async () => {
        const { template = {} } = (await shop.read("deployment")).spec ?? {};
        assert.deepEqual(annotationsOf(template), [left]);
      };
      const first = await shop.figwasp("deployment", [], beforeTheLastLook(isTaken));
      assert.equal(changesOf(first).length, 1);
      const takenBack = /^taken back, app was restarted for .*, and somebody \(.*\) took that back at once: /;
      assert.match(verdictOf(first), half === "note" ? takenBack : /^restarted, outdated: app$/);
      await shop.rollOut("deployment");

      const before = await shop.podUids();
      for (const _ of [1, 2, 3]) {
        const run = await shop.figwasp("deployment");
        assert.deepEqual(changesOf(run), []);
        assert.match(verdictOf(run), isBehind ? /^not converged, app was restarted for / : /^current, nothing to do$/);
        assert.equal(run.code, isBehind ? 1 : 0);
      }
      assert.deepEqual(await shop.podUids(), before);
    });
  }
});

type Template = Parameters<Parameters<typeof playOwner>[3]["mend"]>[0];

describe("the memory of an older release", { concurrency: true }, () => {
  for (const [ago, ms] of [
    ["a minute", 60_000],
    ["three days", 72 * 3600_000],
  ] as const) {
    it(`keeps figwasp from a restart at its first run, where it is of ${ago} ago`, async (t) => {
      const shop = await openOutdated(t);
      const [old = ""] = await shop.running();
      shop.nodes.pull = () => old as `sha256:${string}`;
      const moved = shop.registry.put("latest", imageOf("new"));
      const at = new Date(Date.now() - ms).toISOString().replace(/\.\d+/, "");
      const annotations = {
        "figwasp/restarted-for": JSON.stringify({ app: moved }),
        "kubectl.kubernetes.io/restartedAt": at,
      };
      const patch = JSON.stringify({ spec: { template: { metadata: { annotations } } } });
      await shop.kubectl("patch", "deployment/web", "--patch", patch);
      await shop.rollOut("deployment");

      const run = await shop.figwasp("deployment");
      assert(verdictOf(run).startsWith(`not converged, app was restarted for ${moved} at ${at}`), verdictOf(run));
      assert.deepEqual([run.code, changesOf(run)], [1, []]);
    });
  }
});

describe("two containers, of which the nodes pull an older image for one", { concurrency: true }, () => {
  it("are restarted for each push of the other one, and for no other reason", async (t) => {
    const shop = await openShop(t);
    const { registry } = shop;
    const old = registry.put("latest", imageOf("old"));
    registry.put("worker", imageOf("worker"));
    const containers = ["latest", "worker"].map((tag) => {
      return { name: tag === "latest" ? "app" : "worker", image: registry.image(tag), imagePullPolicy: "Always" };
    });
    await shop.make("deployment", { containers });
    await shop.rollOut("deployment");
    shop.nodes.pull = (image) => (image.endsWith(":latest") ? old : pulled(registry, image));

    registry.put("latest", imageOf("new"));
    const runs = [await shop.figwasp("deployment")];
    for (const word of ["worker 2", "worker 3", "worker 4"]) {
      await shop.rollOut("deployment");
      await nextSecond();
      runs.push(await shop.figwasp("deployment"));
      registry.put("worker", imageOf(word));
      runs.push(await shop.figwasp("deployment"));
    }
    await shop.rollOut("deployment");
    runs.push(await shop.figwasp("deployment"));
    const said = runs.map((run) => `${verdictOf(run).replace(/ .* /, " … ").slice(0, 40)} ${run.code}`);
    assert.deepEqual(
      runs.map((run) => changesOf(run).length),
      [1, 0, 1, 0, 1, 0, 1, 0],
      said.join("\n"),
    );
    assert.deepEqual(
      runs.map(({ code }) => code),
      [0, 1, 1, 1, 1, 1, 1, 1],
      said.join("\n"),
    );
    assert.match(verdictOf(runs[2] ?? assert.fail()), /^restarted, outdated: app \(try 2\), worker$/);
    assert.match(verdictOf(runs[7] ?? assert.fail()), /^not converged, app was restarted for /);
    assert.equal((await shop.list<V1ReplicaSet>("replicasets", "apis/apps/v1")).length, 5);
  });
});
