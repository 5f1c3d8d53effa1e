import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  type ContainerFacts,
  countingPods,
  exitCodeOf,
  imageToAsk,
  judgeContainer,
  judgeWithoutPods,
  judgeWorkload,
  type Lookup,
  type Meaning,
  type Running,
  type WorkloadFacts,
} from "../figwasp.ts";
import type { Pod, PodContainer, Workload } from "../lib/kubernetes/objects.ts";
import type { Digest } from "../lib/registry/manifest.ts";
import { HttpError } from "../lib/errors.ts";
import { type Marks, readMarks, writeNote } from "../lib/command/note.ts";
import type { ContainerVerdict, NoteEntry, WorkloadVerdict } from "../lib/verdicts.ts";
import { aContainer, aPod, aWorkload, verdicts } from "./support/cluster.ts";
import { digestOf } from "./support/registry.ts";

/** The tag resolves to "new"; what runs and is not told otherwise is other content. */
const resolved = (told: Record<string, Meaning["kind"]> = {}): Lookup => {
  const meanings = new Map<Digest, Meaning>();
  const words: Record<string, Meaning["kind"]> = { new: "same", old: "other", older: "other", ...told };
  for (const [word, kind] of Object.entries(words)) {
    const reason = "its image ID cannot be compared";
    if (kind === "failed") meanings.set(digestOf(word), { kind, error: new Error("no answer") });
    else meanings.set(digestOf(word), kind === "incomparable" ? { kind, reason } : { kind });
  }
  return { kind: "resolved", digest: digestOf("new"), meanings, credential: undefined };
};
const running = (word: string): Running => ({ kind: "digest", digest: digestOf(word), isImageId: false });
const imageId = (word: string): Running => ({ kind: "digest", digest: digestOf(word), isImageId: true });
const notStarted: Running = { kind: "unreadable", reason: "the container has not started" };
const imported: Running = { kind: "unreadable", reason: "the image was imported into the node" };
const lost: Lookup = { kind: "failed", error: new Error("no answer") };
const unreadable: Lookup = { kind: "unknown", reason: "of the outdated type" };

function facts(pods: [Running, string?][], lookup?: Lookup, image = "ghcr.io/acme/api:1.2"): ContainerFacts {
  return {
    image,
    pods: pods.map(([found, pullPolicy = "Always"], at) => ({ pod: `p${at + 1}`, pullPolicy, running: found })),
    ...(lookup && { lookup }),
  };
}

const subject = { kind: "deployment", namespace: "shop", name: "api" } as const;

describe("judgeContainer()", () => {
  const pinned = `ghcr.io/acme/api:1.2@${digestOf("old")}`;
  const rows: [string, ContainerFacts, ContainerVerdict["kind"], RegExp?][] = [
    // One row for each row in the table of container verdicts.
    ["the tag's digest", facts([[running("new")]], resolved()), "current"],
    ["an image of the tag's index", facts([[running("amd64")]], resolved({ amd64: "same" })), "current"],
    ["the config of one of its images", facts([[imageId("c")]], resolved({ c: "same" })), "current"],
    ["an equivalent index", facts([[running("old")]], resolved({ old: "equivalent" })), "current"],
    ["an older digest", facts([[running("old")]], resolved({ amd64: "same" })), "outdated"],
    ["a digest that the repository does not have", facts([[running("old")]], resolved({ old: "absent" })), "outdated"],
    ["another image ID", facts([[imageId("old")]], resolved({ c: "same" })), "outdated"],
    [
      "an image ID without configs to compare",
      facts([[imageId("old")]], resolved({ old: "incomparable" })),
      "unknown",
      /cannot be compared/,
    ],
    ["no digest yet", facts([[notStarted]], resolved()), "unknown", /p1: the container has not started/],
    ["an imported image", facts([[imported]], resolved()), "unknown", /p1: the image was imported/],
    ["no lookup made", facts([[running("old")]]), "unknown", /was not asked/],
    ["no pod with the container", facts([], resolved()), "unknown", /no pod/],
    ["a failed lookup", facts([[running("old")]], lost), "failed"],
    ["an image pinned by digest", facts([[running("old")]], resolved(), pinned), "skipped", /pinned by digest/],
    [
      "one pinned by another algorithm",
      facts([[running("old")]], resolved(), `api@sha512:${"0".repeat(128)}`),
      "skipped",
      /pinned/,
    ],
    ["pull policy IfNotPresent", facts([[running("old"), "IfNotPresent"]], resolved()), "skipped", /set it to Always/],
    ["pull policy Never", facts([[running("old"), "Never"]], resolved()), "skipped", /imagePullPolicy is Never/],
    // If the pods differ, the most severe verdict counts.
    ["outdated beside unknown", facts([[notStarted], [running("old")]], resolved()), "outdated"],
    ["outdated beside current", facts([[running("new")], [running("old")]], resolved()), "outdated"],
    ["unknown beside current", facts([[running("new")], [imported]], resolved()), "unknown"],
    ["current beside one that has not started", facts([[running("new")], [notStarted]], resolved()), "current"],
    ["failed beside unknown", facts([[notStarted], [running("old")]], lost), "failed"],
    ["no answer about its digest", facts([[running("old")]], resolved({ old: "failed" })), "failed"],
    [
      "outdated beside one of which there is no answer",
      facts([[running("lost")], [running("old")]], resolved({ lost: "failed" })),
      "outdated",
    ],
    ["what cannot be read", facts([[running("old")]], unreadable), "unknown", /p1: of the outdated type/],
    [
      "current where another pod would not pull",
      facts([[running("old"), "Never"], [running("new")]], resolved()),
      "current",
    ],
  ];
  for (const [what, given, kind, reason = /(?:)/] of rows) {
    it(`finds ${kind}: ${what}`, () => {
      const verdict = judgeContainer(given);
      assert.equal(verdict.kind, kind);
      if ("reason" in verdict) assert.match(verdict.reason, reason);
    });
  }

  it("tells another index of the same image from the tag's own", () => {
    const isEquivalent = (word: string) => {
      const verdict = judgeContainer(facts([[running(word)]], resolved({ old: "equivalent" })));
      return verdict.kind === "current" && verdict.isEquivalent;
    };
    assert.deepEqual([isEquivalent("old"), isEquivalent("new")], [true, false]);
  });

  it("names both digests and every outdated pod", () => {
    const given = facts([[running("old")], [running("new")], [running("older")]], resolved({ old: "absent" }));
    const digests = { running: digestOf("old"), alsoRunning: [digestOf("older")], resolved: digestOf("new") };
    const told = { image: given.image, pods: ["p1", "p3"], isAbsent: true, isPartial: false, unclear: [] };
    assert.deepEqual(judgeContainer(given), { kind: "outdated", ...digests, ...told });
  });

  it("finds partial what all its pods run, of which the tag has some images still", () => {
    const isPartial = (...partial: string[]) => {
      const told = Object.fromEntries(partial.map((word) => [word, "partial"] as const));
      const verdict = judgeContainer(facts([[running("old")], [running("older")]], resolved(told)));
      return verdict.kind === "outdated" && verdict.isPartial;
    };
    assert.deepEqual([isPartial("old"), isPartial("old", "older")], [false, true]);
    const mixed = judgeContainer(facts([[running("old")], [running("older")]], resolved({ old: "partial" })));
    assert(mixed.kind === "outdated" && mixed.running === digestOf("older"));
  });
});

describe("imageToAsk()", () => {
  const digest = digestOf("d");
  const image = (asked: string, flags: { isPinned?: true; shortName?: string } = {}) => {
    return { kind: "image", image: asked, isPinned: false, ...flags };
  };
  const rows: [string, string, Partial<PodContainer>, object | RegExp][] = [
    ["the template's, where the pod names the same", "api:1", { image: "api:1" }, image("api:1")],
    ["the template's, where the pod spells it out", "api", { image: "docker.io/library/api:latest" }, image("api")],
    ["the pod's, where it is of another registry", "api:1", { image: "m.example/api:1" }, image("m.example/api:1")],
    ["the pod's, where it is another tag", "ghcr.io/a/b:1", { image: "ghcr.io/a/b:2" }, image("ghcr.io/a/b:2")],
    ["the pod's, in place of a placeholder", "auto", { image: "ghcr.io/mesh/proxy:1" }, image("ghcr.io/mesh/proxy:1")],
    ["the pod's, in place of what is no image", "$(IMAGE)", { image: "ghcr.io/a/b:1" }, image("ghcr.io/a/b:1")],
    [
      "the template's tag, where the pod is pinned in its repository",
      "ghcr.io/a/b:1",
      { image: `ghcr.io/a/b:1@${digest}` },
      image("ghcr.io/a/b:1", { isPinned: true }),
    ],
    [
      "the template's tag, where the pod has lost it",
      "ghcr.io/a/b:1",
      { image: `ghcr.io/a/b@${digest}` },
      image("ghcr.io/a/b:1", { isPinned: true }),
    ],
    [
      "nothing, where it is pinned in another one",
      "b:1",
      { image: `r.example/b@${digest}` },
      /are pinned to r.example\/b, an/,
    ],
    [
      "another host, from which CRI-O took a short name",
      "a/b:1",
      { image: "a/b:1", runtime: "cri-o", imageID: `quay.io/a/b@${digest}` },
      image("quay.io/a/b:1", { shortName: "a/b:1" }),
    ],
    [
      "docker.io, from which CRI-O took one",
      "b",
      { image: "b", runtime: "cri-o", imageID: `docker.io/library/b@${digest}` },
      image("b"),
    ],
    [
      "nothing, where CRI-O does not tell from where",
      "b",
      { image: "b", runtime: "cri-o", imageID: digest },
      /does not tell from which registry it took the short name "b"/,
    ],
    [
      "what it names, of a CRI-O node and a full name",
      "ghcr.io/a/b",
      { image: "ghcr.io/a/b", runtime: "cri-o", imageID: `quay.io/a/b@${digest}` },
      image("ghcr.io/a/b"),
    ],
    [
      "docker.io, of a short name and another runtime",
      "b",
      { image: "b", runtime: "containerd", imageID: `quay.io/a/b@${digest}` },
      image("b"),
    ],
    ["what cannot be parsed, which the lookup will tell", "b", { image: "B C" }, image("B C")],
  ];
  for (const [what, template, changes, expected] of rows) {
    it(`asks about ${what}`, () => {
      const asked = imageToAsk(template, aContainer(changes));
      if (!(expected instanceof RegExp)) return assert.deepEqual(asked, expected);
      assert(asked.kind === "nothing");
      assert.match(asked.reason, expected);
    });
  }
});

describe("judgeContainer(), where pods name other images than their template", () => {
  const [mirror, upstream] = ["m.example/api:1", "api:1"].map((image) => {
    return { kind: "image", image, isPinned: false } as const;
  });
  const judge = (pods: ContainerFacts["pods"], known: Omit<ContainerFacts, "image" | "pods">) => {
    return judgeContainer({ image: "api:1", pods, ...known });
  };
  const old = { pod: "p1", pullPolicy: "Always", running: running("old") };
  const [fresh, asked] = [mirror ?? assert.fail(), upstream ?? assert.fail()];
  const looked = (fromMirror: Lookup, fromUpstream: Lookup) => ({
    fresh,
    lookup: fromMirror,
    otherLookups: new Map([[asked.image, fromUpstream]]),
  });
  const has = (word: string): Lookup => {
    const all = ["old", "new", "newer"].map(
      (one) => [digestOf(one), { kind: one === word ? "same" : "other" }] as const,
    );
    return { kind: "resolved", digest: digestOf(word), meanings: new Map(all), credential: undefined };
  };

  it("does not care for a push to where a fresh pod would not pull", () => {
    assert.equal(judge([{ ...old, asked }], looked(has("old"), has("new"))).kind, "current");
    assert.equal(judge([{ ...old, asked }], looked(has("old"), lost)).kind, "current");
  });

  it("leaves an older pod alone that is current by its own image", () => {
    assert.equal(judge([{ ...old, asked }], looked(has("new"), has("old"))).kind, "current");
  });

  it("finds outdated what is so by both, for the digest that a fresh pod would run", () => {
    const verdict = judge([{ ...old, asked }], looked(has("newer"), has("new")));
    assert(verdict.kind === "outdated");
    assert.deepEqual([verdict.image, verdict.resolved], [fresh.image, digestOf("newer")]);
  });

  it("fails, or cannot tell, where one of both does not answer", () => {
    assert.equal(judge([{ ...old, asked }], looked(lost, has("new"))).kind, "failed");
    assert.equal(judge([{ ...old, asked }], looked(has("new"), lost)).kind, "failed");
    assert.equal(judge([{ ...old, asked }], looked(unreadable, has("new"))).kind, "unknown");
  });

  it("finds unknown what is pinned in another repository, whatever the pull policy", () => {
    const nothing = { kind: "nothing", reason: "pinned elsewhere", isPinned: true } as const;
    const pods = [{ ...old, pullPolicy: "IfNotPresent", asked: nothing }];
    const verdict = judge(pods, { fresh: nothing });
    assert(verdict.kind === "unknown");
    assert.match(verdict.reason, /pinned elsewhere/);
  });

  it("takes a pod that admission has pinned for one that pulls, and older ones beside it", () => {
    const pinned = { ...asked, isPinned: true };
    const pod = { ...old, pullPolicy: "IfNotPresent" };
    assert.equal(judge([{ ...pod, asked: pinned }], { fresh: pinned, lookup: has("new") }).kind, "outdated");
    const pods = [
      { ...pod, running: running("new"), asked: pinned },
      { ...pod, pod: "p2", asked },
    ];
    assert.equal(judge(pods, { youngest: "p1", fresh: pinned, lookup: has("new") }).kind, "outdated");
    assert.equal(judge([{ ...pod, asked }], { fresh: asked, lookup: has("new") }).kind, "skipped");
  });

  it("does not compare with a repository that CRI-O's node names, and that does not have what runs", () => {
    const guess = { ...asked, image: "quay.io/a/api:1", shortName: "api:1" };
    const gone = new Error("Cannot resolve", { cause: new HttpError(404, "not found") });
    for (const lookup of [resolved({ old: "absent" }), { kind: "failed", error: gone } as const]) {
      const verdict = judge([{ ...old, asked: guess }], { fresh: guess, lookup });
      assert(verdict.kind === "unknown");
      assert.match(
        verdict.reason,
        /its node took the short name "api:1" from quay.io\/a\/api, and that repository does not have/,
      );
    }
    assert.equal(judge([{ ...old, asked: guess }], { fresh: guess, lookup: lost }).kind, "failed");
    assert.equal(judge([{ ...old, asked: guess }], { fresh: guess, lookup: has("new") }).kind, "outdated");
  });

  it("pulls as the youngest pod would, whatever older ones say", () => {
    const [pulls, doesNot] = [
      { ...old, asked },
      { ...old, pod: "p2", pullPolicy: "IfNotPresent", running: running("new"), asked },
    ];
    assert.equal(judge([pulls, doesNot], { youngest: "p2", fresh: asked, lookup: has("new") }).kind, "skipped");
    const [isNew, isOld] = [
      { ...pulls, running: running("new") },
      { ...doesNot, running: running("old") },
    ];
    assert.equal(judge([isNew, isOld], { youngest: "p1", fresh: asked, lookup: has("new") }).kind, "outdated");
  });

  it("does not look at what is excluded", () => {
    const verdict = judge([old], { exclusion: "not named" });
    assert.deepEqual(verdict, { kind: "skipped", reason: "not named" });
  });
});

describe("judgeWorkload()", () => {
  const now = new Date("2026-11-21T12:00:00Z");
  const { current, outdated, unknown, skipped, failed } = verdicts;

  function judge(
    containers: Record<string, ContainerVerdict>,
    pods: Pod[] = [aPod("p1", "old")],
    changes: Partial<WorkloadFacts> = {},
  ) {
    const template = { note: undefined, restartedAt: undefined };
    const others = { now, retryIntervalMs: undefined, template, managers: [], revisions: [] };
    return judgeWorkload({ ...others, pods, containers: new Map(Object.entries(containers)), ...changes });
  }

  const rows: [string, ContainerVerdict[], WorkloadVerdict["kind"]][] = [
    ["every container is current", [current, current], "current"],
    ["current beside skipped", [current, skipped], "current"],
    ["an outdated container", [current, outdated], "restarted"],
    ["outdated beside failed and unknown", [failed, outdated, unknown], "restarted"],
    ["failed beside unknown and current", [unknown, failed, current], "failed"],
    ["unknown beside current", [current, unknown], "unknown"],
    ["nothing but skipped", [skipped, skipped], "skipped"],
  ];
  for (const [what, given, kind] of rows) {
    it(`finds ${kind}: ${what}`, () => {
      const containers = Object.fromEntries(given.map((verdict, at) => [`c${at}`, verdict]));
      assert.equal(judge(containers).kind, kind);
    });
  }

  it("names every outdated container with its resolved digest", () => {
    const expected = { a: digestOf("new"), c: digestOf("new") };
    const verdict = judge({ a: outdated, b: current, c: outdated });
    assert(verdict.kind === "restarted");
    assert.deepEqual(verdict.outdated, expected);
    assert.deepEqual(Object.keys(verdict.note ?? {}), ["a", "c"]);
  });

  it("does not wait for all containers of a pod to start", () => {
    const init = aContainer({ name: "init", imageID: `x@${digestOf("old")}` });
    const half = aPod("p1", "", { containers: [init, aContainer({ name: "app", imageID: "" })] });
    assert.equal(judge({ init: outdated, app: unknown }, [half]).kind, "restarted");
  });

  it("counts the pods that have not started beside current ones", () => {
    assert.deepEqual(judge({ app: current }, [aPod("p1", "new")]), { kind: "current" });
    const pods = [aPod("p1", "new"), aPod("p2", ""), aPod("p3", "")];
    assert.deepEqual(judge({ app: current }, pods), { kind: "current", notStarted: 2 });
  });

  describe("where the controller says what it cannot do", () => {
    const obstacle = "it has exceeded its progress deadline; pods are forbidden: exceeded quota";
    const judgeWith = (containers: Record<string, ContainerVerdict>, pods?: Pod[]) =>
      judge(containers, pods, { obstacle });

    it("fails with its words, before any pod has started and where all are current", () => {
      for (const verdict of [
        judgeWith({ app: unknown }, []),
        judgeWith({ app: current }),
        judgeWith({ app: unknown }),
      ]) {
        assert(verdict.kind === "failed");
        assert.equal(verdict.error.message, obstacle);
      }
    });

    it("rolls a fix out all the same, and tells first that a lookup failed", () => {
      assert.equal(judgeWith({ app: outdated }).kind, "restarted");
      const verdict = judgeWith({ app: failed });
      assert(verdict.kind === "failed");
      assert.equal(verdict.error.message, "no answer for app");
    });
  });

  describe("where a pod of an older template is not ready", () => {
    const tenMinutesMs = 600_000;
    const older = (ms: number) => [aPod("web-1", "old", { unreadySinceMs: now.getTime() - ms })];

    it("names it after ten minutes, if nothing of the newest template has started", () => {
      const verdict = judge({ app: unknown }, [], { olderPods: [aPod("web-0", "old"), ...older(tenMinutesMs)] });
      assert(verdict.kind === "failed");
      const what =
        "pod web-1 of an older template has not been ready since 2026-11-21T11:50:00Z and holds the rollout up";
      assert.equal(verdict.error.message, `${what}: mend or delete it`);
    });

    it("looks at the node of one that does not end", () => {
      const [pod = assert.fail()] = older(tenMinutesMs);
      const verdict = judge({ app: unknown }, [], { olderPods: [{ ...pod, isTerminating: true }] });
      assert(verdict.kind === "failed");
      assert.match(verdict.error.message, /and holds the rollout up: it does not end, look at its node$/);
    });

    it("waits for it until then, and says nothing of it once a newer pod has started", () => {
      assert.equal(judge({ app: unknown }, [], { olderPods: older(tenMinutesMs - 1) }).kind, "waiting");
      assert.equal(judge({ app: current }, [aPod("web-0", "new")], { olderPods: older(tenMinutesMs) }).kind, "current");
    });
  });

  it("waits while no pod of the current revision has started", () => {
    for (const none of [[], [aPod("p1", "")]]) assert.equal(judge({ app: unknown }, none).kind, "waiting");
  });
});

describe("judgeWorkload(), by what it remembers", () => {
  const { outdated, failed } = verdicts;
  const [image, wanted, ran] = [outdated.image, outdated.resolved, outdated.running];
  const hourMs = 3_600_000;
  const [before, then] = ["2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"];
  const entry: NoteEntry = { image, wanted, ran: [ran], unclear: [], try: 1 };

  /** The marks of a template that was restarted then; of `web` too if that is told. */
  const marks = (changes: Partial<NoteEntry> = {}, at = then): Marks => {
    const containers = { app: { ...entry, ...changes } };
    return { note: { at, containers, isOlderForm: false }, restartedAt: at };
  };
  const none: Marks = { note: undefined, restartedAt: undefined };
  const revision = (number: number, at: string, told: Partial<WorkloadFacts["revisions"][number]> = {}) => {
    return { number, createdAtMs: Date.parse(at), isReused: false, templateAnnotations: {}, ...none, ...told };
  };
  const first = revision(1, "2026-11-20T09:00:00Z");
  /** As figwasp's restart has left it. */
  const settled = [revision(2, then, marks()), first];

  function judge(changes: Partial<WorkloadFacts> = {}, containers: Record<string, ContainerVerdict> = {}) {
    return judgeWorkload({
      pods: [aPod("p1", "old", { createdAtMs: Date.parse(then) + 1000 })],
      containers: new Map(Object.entries({ app: outdated, ...containers })),
      now: new Date(Date.parse(then) + hourMs - 1),
      retryIntervalMs: undefined,
      template: marks(),
      managers: [],
      revisions: settled,
      ...changes,
    });
  }
  const at = (ms: number) => ({ now: new Date(Date.parse(then) + ms) });

  it("does not converge where the pods come from the restart for this very digest, and tells the next try", () => {
    const verdict = judge();
    assert(verdict.kind === "not converged");
    assert.match(verdict.reason, /^app was restarted for sha256:\w+ at 2026-11-21T11:00:00Z, and its pods run sha256:/);
    assert.match(
      verdict.reason,
      /Likely they pull through a mirror or cache that still serves an older image; or a proxy/,
    );
    assert.match(verdict.reason, /FIGWASP_CERTS_DIR.*FIGWASP_RETRY_INTERVAL, .*; next try after 2026-11-21T12:00:00Z$/);
    assert.deepEqual([verdict.try, verdict.nextTryAt], [1, "2026-11-21T12:00:00Z"]);
  });

  it("names a rewriting proxy first where the repository does not have the running digest", () => {
    const verdict = judge({}, { app: { ...outdated, isAbsent: true } });
    assert(verdict.kind === "not converged");
    assert.match(verdict.reason, /Likely a proxy rewrites the image, .*; or they pull through a mirror/);
  });

  const pauses: [string, number, number | undefined, number][] = [
    ["an hour after the first try", 1, undefined, hourMs],
    ["two hours after the second", 2, undefined, 2 * hourMs],
    ["sixteen hours after the fifth", 5, undefined, 16 * hourMs],
    ["a day after the sixth", 6, undefined, 24 * hourMs],
    ["a day after the hundredth", 100, undefined, 24 * hourMs],
    ["after the interval that is set", 3, 6 * hourMs, 6 * hourMs],
  ];
  for (const [what, attempt, retryIntervalMs, pauseMs] of pauses) {
    it(`tries again ${what}, and counts on`, () => {
      const known = { template: marks({ try: attempt }), retryIntervalMs };
      assert.equal(judge({ ...known, ...at(pauseMs - 1) }).kind, "not converged");
      const verdict = judge({ ...known, ...at(pauseMs) });
      assert(verdict.kind === "restarted");
      assert.deepEqual(verdict.note, { app: { ...entry, try: attempt + 1 } });
      assert.equal(exitCodeOf({ subject, verdict, containers: [] }), 0);
    });
  }

  it("never tries again where that is off or beyond all time, or the note does not tell when it was", () => {
    const undated = { template: marks({}, "soon"), retryIntervalMs: 1 };
    for (const known of [{ retryIntervalMs: Infinity }, { retryIntervalMs: 1e16 }, undated]) {
      const verdict = judge({ ...known, revisions: [], ...at(1000 * hourMs) });
      assert(verdict.kind === "not converged");
      assert.match(verdict.reason, /; no further try$/);
      assert.equal(verdict.nextTryAt, undefined);
    }
  });

  it("makes seven restarts in three days behind a mirror that never catches up", () => {
    let template = none;
    let restarts = 0;
    for (let minutes = 0; minutes < 72 * 60; minutes += 5) {
      const now = new Date(Date.parse(then) + minutes * 60_000);
      const verdict = judge({ template, now, revisions: [] });
      if (verdict.kind !== "restarted") continue;
      restarts += 1;
      const time = `${now.toISOString().slice(0, 19)}Z`;
      template = { note: { at: time, containers: verdict.note ?? {}, isOlderForm: false }, restartedAt: time };
    }
    assert.equal(restarts, 7);
  });

  const lifts: [string, Partial<WorkloadFacts>][] = [
    ["nothing is noted", { template: none, revisions: [first] }],
    ["the note is about another image", { template: marks({ image: "ghcr.io/acme/api:edge" }), revisions: [] }],
    ["the tag has another digest", { template: marks({ wanted: digestOf("other") }), revisions: [] }],
    ["somebody has restarted it since", { template: { ...marks(), restartedAt: "2026-11-21T11:30:00Z" } }],
    ["a later revision was made since", { revisions: [revision(3, "2026-11-21T11:30:00Z", marks()), ...settled] }],
    [
      "the template went back to that restart",
      { revisions: [revision(4, then, { ...marks(), isReused: true }), revision(3, "2026-11-21T11:30:00Z"), first] },
    ],
    ["the only revision left is of another time", { revisions: [revision(5, "2026-11-21T11:01:01Z", marks())] }],
    ["the pods run what they did not run before it", { template: marks({ ran: [digestOf("older")] }), revisions: [] }],
  ];
  for (const [what, known] of lifts) {
    it(`restarts where ${what}`, () => assert.equal(judge(known).kind, "restarted"));
  }

  const holds: [string, Partial<WorkloadFacts>][] = [
    ["the only revision left was made by it", { revisions: [revision(2, "2026-11-21T11:00:59Z", marks())] }],
    ["its restartedAt is missing", { template: { ...marks(), restartedAt: undefined }, revisions: [] }],
    [
      "something took its restartedAt out, which made a revision",
      {
        template: { ...marks(), restartedAt: undefined },
        revisions: [revision(3, "2026-11-21T11:00:05Z", { ...marks(), restartedAt: undefined }), ...settled],
      },
    ],
    [
      "something took all of it out, and changed more",
      { template: none, revisions: [revision(3, "2026-11-21T11:00:05Z"), ...settled] },
    ],
    [
      "something put back an older restartedAt, and changed more",
      {
        template: { note: undefined, restartedAt: before },
        revisions: [
          revision(3, "2026-11-21T11:00:05Z", { restartedAt: before }),
          settled[0] ?? assert.fail(),
          revision(1, before, { restartedAt: before }),
        ],
      },
    ],
  ];
  for (const [what, known] of holds) {
    it(`does not converge where ${what}`, () => assert.equal(judge(known).kind, "not converged"));
  }

  it("does not converge where the image is spelled otherwise", () => {
    const template = marks({ image: "docker.io/library/nginx:latest" });
    assert.equal(judge({ template }, { app: { ...outdated, image: "nginx" } }).kind, "not converged");
  });

  describe("where the template went back", () => {
    const old = [aPod("p1", "old", { createdAtMs: Date.parse("2026-11-20T09:00:00Z") })];
    const undone = (number = 2) => ({
      template: none,
      pods: old,
      revisions: [{ ...first, number: number + 1, isReused: true }, revision(number, then, marks())],
      ...at(100 * hourMs),
    });

    it("says that it was taken back, and no time lifts that", () => {
      const verdict = judge({ ...undone(), managers: [{ name: "shop-operator", atMs: Date.parse(before) }] });
      assert(verdict.kind === "taken back");
      const who = "somebody \\(its template belongs to field manager shop-operator\\)";
      const what = `^app was restarted for sha256:\\w+ at ${then} \\(revision 2\\), and ${who} took that back: `;
      assert.match(verdict.reason, new RegExp(what));
    });

    it("names who has written the template since", () => {
      const verdict = judge({ ...undone(), managers: [{ name: "shop-operator", atMs: Date.parse(then) + 1000 }] });
      assert(verdict.kind === "taken back");
      assert.match(verdict.reason, /, and shop-operator took that back: /);
    });

    it("says so too where an older note is there, or two ControllerRevisions are of one second", () => {
      const older = marks({ wanted: digestOf("older") }, before);
      assert.equal(judge({ ...undone(), template: older }).kind, "taken back");
      const revisions = [revision(3, then, { isReused: undefined }), revision(2, then, marks())];
      assert.equal(judge({ ...undone(), revisions }).kind, "taken back");
      const left = { template: { ...none, restartedAt: then }, ...at(0) };
      assert.equal(judge({ ...undone(), ...left, revisions }).kind, "not converged");
      // A ReplicaSet tells that it is not used again.
      const changed = [revision(3, then), revision(2, then, marks())];
      assert.equal(judge({ ...undone(), revisions: changed, ...at(0) }).kind, "not converged");
    });

    it("restarts for another digest, after a newer revision, and for another container", () => {
      const other = { ...outdated, resolved: digestOf("newest") };
      assert.equal(judge(undone(), { app: other }).kind, "restarted");
      const { revisions } = undone();
      const later = [revision(4, "2026-11-21T13:00:00Z"), ...revisions];
      assert.equal(judge({ ...undone(), revisions: later }).kind, "restarted");
      const verdict = judge(undone(), { web: outdated });
      assert(verdict.kind === "restarted");
      assert.deepEqual([verdict.repeated, exitCodeOf({ subject, verdict, containers: [] })], [["app"], 1]);
    });

    it("believes once that the tag was back in between, where every outdated pod was made since", () => {
      const pods = [aPod("p1", "old", { createdAtMs: Date.parse(then) + 1000 })];
      const verdict = judge({ ...undone(), pods });
      assert(verdict.kind === "restarted");
      assert.equal(verdict.note?.["app"]?.try, 2);
      const both = { ...outdated, pods: ["p1", "p2"] };
      const mixed = [...pods, { ...aPod("p2", "old"), createdAtMs: Date.parse(then) }];
      assert.equal(judge({ ...undone(), pods: mixed }, { app: both }).kind, "taken back");
      const again = [{ ...first, number: 3, isReused: true }, revision(2, then, marks({ try: 2 }))];
      assert.equal(judge({ ...undone(), pods, revisions: again }).kind, "taken back");
    });
  });

  it("goes on from the note, and forgets what another digest or image was", () => {
    const more = { ran: [digestOf("older")], try: 2 };
    const verdict = judge({ template: marks(more), revisions: [] });
    assert(verdict.kind === "restarted");
    assert.deepEqual(verdict.note, { app: { ...entry, ran: [digestOf("older"), ran], try: 3 } });
    const anew = judge({ template: marks({ ...more, wanted: digestOf("other") }), revisions: [] });
    assert(anew.kind === "restarted");
    assert.deepEqual(anew.note, { app: entry });
  });

  it("remembers sixteen digests at most", () => {
    const many = Array.from({ length: 16 }, (_, index) => digestOf(`d${index}`));
    const verdict = judge({ template: marks({ ran: many }), revisions: [] });
    assert(verdict.kind === "restarted");
    assert.deepEqual(verdict.note?.["app"]?.ran, [...many.slice(1), ran]);
  });

  it("makes two tries at most where two caches answer by turns", () => {
    const template = marks({ ran: [digestOf("older"), ran], try: 2 });
    const verdict = judge({ template }, { app: { ...outdated, alsoRunning: [digestOf("older")] } });
    assert.equal(verdict.kind, "not converged");
  });

  it("restarts for another container's new digest, with the one that did not converge in the note", () => {
    const verdict = judge({}, { web: outdated });
    assert(verdict.kind === "restarted");
    assert.deepEqual(Object.keys(verdict.outdated), ["app", "web"]);
    assert.deepEqual([verdict.note?.["app"]?.try, verdict.note?.["web"]?.try], [2, 1]);
    assert.deepEqual(verdict.repeated, ["app"]);
    assert.equal(exitCodeOf({ subject, verdict, containers: [] }), 1);
  });

  it("cannot tell where what runs could not be read, or the tag has some of its images still", () => {
    const verdict = judge({}, { app: { ...outdated, isPartial: true } });
    assert(verdict.kind === "unknown");
    assert.match(verdict.reason, /^app was restarted for sha256:\w+, and its pods run sha256:\w+, an older index with/);
    assert.equal(judge({ template: marks({ unclear: [ran] }), ...at(1000 * hourMs) }).kind, "unknown");
    assert.equal(judge({ template: none, revisions: [] }, { app: { ...outdated, isPartial: true } }).kind, "restarted");
    assert.equal(judge({}, { app: { ...outdated, isPartial: true }, web: outdated }).kind, "restarted");
    assert.equal(judge({}, { app: { ...outdated, isPartial: true }, web: failed }).kind, "failed");
  });

  it("sees somebody's own restart after one that an older note tells", () => {
    const noted = (time: string, digest = wanted) => {
      return readMarks({ at: time, "figwasp/restarted-for": JSON.stringify({ app: digest }) }, "at");
    };
    const later = "2026-11-21T11:30:00Z";
    const [newest, older] = [revision(3, later, noted(later)), revision(2, then, noted(then))];
    assert.equal(judge({ template: noted(later), revisions: [newest, older, first] }).kind, "restarted");
    const another = revision(2, then, noted(then, digestOf("other")));
    assert.equal(judge({ template: noted(later), revisions: [newest, another, first] }).kind, "not converged");
  });

  it("takes an older note for a restart that is not tried again, unless an interval is set", () => {
    const annotations = { restarted: then, "figwasp/restarted-for": JSON.stringify({ app: wanted }) };
    const known = { template: readMarks(annotations, "restarted"), revisions: [], ...at(1000 * hourMs) };
    const verdict = judge(known);
    assert(verdict.kind === "not converged");
    assert.equal(verdict.nextTryAt, undefined);
    assert.equal(judge({ ...known, retryIntervalMs: hourMs }).kind, "restarted");
    assert.equal(
      judge({ ...known, template: readMarks({ ...annotations, restarted: then }, "x") }).kind,
      "not converged",
    );
  });
});

describe("exitCodeOf()", () => {
  const { current, outdated, unknown, failed } = verdicts;
  const error = new Error("no answer");
  const rows: [string, WorkloadVerdict, ContainerVerdict[], 0 | 1][] = [
    ["current", { kind: "current" }, [current], 0],
    ["restarted", { kind: "restarted", outdated: {} }, [outdated], 0],
    ["restarted beside a failed container", { kind: "restarted", outdated: {} }, [outdated, failed], 1],
    [
      "restarted without an answer about a digest",
      { kind: "restarted", outdated: {} },
      [{ ...outdated, failure: error }],
      1,
    ],
    ["waiting", { kind: "waiting", reason: "" }, [], 0],
    ["skipped", { kind: "skipped", reason: "" }, [], 0],
    ["unknown", { kind: "unknown", reason: "" }, [unknown], 0],
    ["not converged", { kind: "not converged", reason: "" }, [outdated], 1],
    ["failed", { kind: "failed", error }, [], 1],
  ];
  for (const [what, verdict, containerVerdicts, code] of rows) {
    it(`is ${code} for what is ${what}`, () => {
      const containers = containerVerdicts.map((own) => ({ name: "app", image: "api", verdict: own, podCount: 1 }));
      assert.equal(exitCodeOf({ subject, verdict, containers }), code);
    });
  }
});

describe("readMarks()", () => {
  const digest = digestOf("d");
  const then = "2026-11-21T11:00:00Z";
  const read = (note: unknown) => readMarks({ "figwasp/restarted-for": JSON.stringify(note), at: then }, "at");
  const entry = { image: "api", wanted: digest, ran: [digest], unclear: [], try: 1 };

  it("reads what writeNote() wrote", () => {
    const annotations = { "figwasp/restarted-for": writeNote(then, { app: entry }), at: "later" };
    const note = { at: then, containers: { app: entry }, isOlderForm: false };
    assert.deepEqual(readMarks(annotations, "at"), { note, restartedAt: "later" });
  });

  it("reads a note of the older form, also of containers that are named like its fields", () => {
    const { note } = read({ at: digest, containers: digest });
    assert.deepEqual(
      [note?.isOlderForm, note?.at, Object.keys(note?.containers ?? {})],
      [true, then, ["at", "containers"]],
    );
  });

  it("takes no time from a note that is not one of figwasp's, whatever stands there", () => {
    for (const at of ["soon", "+275760-09-13T00:00:00.000Z", `${then}\nall is well`, "2026-11-21T11:00:00+01:00"]) {
      assert.equal(read({ at, containers: { app: entry } }).note, undefined);
    }
    const annotations = { "figwasp/restarted-for": JSON.stringify({ app: digest }), at: `${then} and all is well` };
    assert.equal(readMarks(annotations, "at").note?.at, "");
  });

  it("takes nothing of an entry but what figwasp writes", () => {
    const { note } = read({ at: then, containers: { app: { ...entry, more: [[]] } } });
    assert.deepEqual(note?.containers, { app: entry });
  });

  for (const text of ["", "null", "[]", "1", '"x"', "{", "{}", '{"app":"sha256:1"}', '{"app":1}']) {
    it(`takes ${JSON.stringify(text)} for nothing`, () => {
      assert.equal(readMarks({ "figwasp/restarted-for": text }, "at").note, undefined);
    });
  }

  const broken = [
    1,
    {},
    { ...entry, try: 0 },
    { ...entry, ran: "x" },
    { ...entry, wanted: "x" },
    { ...entry, image: 1 },
  ];
  for (const one of broken) {
    it(`leaves out an entry like ${JSON.stringify(one)}`, () => {
      assert.deepEqual(read({ at: then, containers: { app: one, web: entry } }).note?.containers, { web: entry });
    });
  }
});

describe("judgeWithoutPods()", () => {
  const rows: [string, Partial<Workload>, string | undefined, RegExp?][] = [
    ["a settled workload", {}, undefined],
    ["a paused Deployment", { isPaused: true }, "skipped", /kubectl rollout resume/],
    ["one that is being deleted", { isDeleted: true }, "skipped", /^being deleted$/],
    ["a paused one that is being deleted", { isDeleted: true, isPaused: true }, "skipped", /^being deleted$/],
    ["one that replaces pods on deletion alone", { isOnDelete: true }, "skipped", /OnDelete: delete its pods/],
    ["one scaled to zero", { replicas: 0 }, "skipped", /^scaled to zero/],
    ["a DaemonSet for no node", { kind: "daemonset", replicas: 0 }, "skipped", /^no node wants a pod of it/],
    [
      "one whose partition keeps every pod",
      { kind: "statefulset", partition: 2 },
      "skipped",
      /its partition of 2 keeps all 2 pods/,
    ],
    ["one whose partition keeps some", { kind: "statefulset", partition: 1 }, undefined],
    ["a paused one that nobody has seen", { isPaused: true, isObserved: false }, "skipped", /resume/],
    ["one whose controller has not seen the template", { isObserved: false }, "waiting", /has not seen/],
    ["one whose controller can make no ReplicaSet", { isObserved: false, obstacle: "exceeded quota" }, "failed"],
  ];
  for (const [what, changes, kind, reason = /(?:)/] of rows) {
    it(`finds ${kind ?? "nothing"} for ${what}`, () => {
      const verdict = judgeWithoutPods(aWorkload(changes));
      assert.equal(verdict?.kind, kind);
      if (verdict && "reason" in verdict) assert.match(verdict.reason, reason);
    });
  }
});

describe("countingPods()", () => {
  const rows: [string, Partial<Pod>, boolean][] = [
    ["running", {}, true],
    ["pending", { phase: "Pending" }, true],
    ["terminating", { isTerminating: true }, false],
    ["succeeded", { phase: "Succeeded" }, false],
    ["failed or evicted", { phase: "Failed" }, false],
  ];
  for (const [what, changes, counts] of rows) {
    it(`${counts ? "keeps" : "leaves out"} a pod that is ${what}`, () => {
      const pod = aPod("p1", "x", changes);
      assert.deepEqual(countingPods([pod]), counts ? [pod] : []);
    });
  }
});
