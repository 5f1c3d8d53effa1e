import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  type ContainerFacts,
  countingPods,
  exitCodeOf,
  judgeContainer,
  judgeWithoutPods,
  judgeWorkload,
  type Lookup,
  type Meaning,
  restartedFor,
  type Running,
} from "../figwasp.ts";
import type { Pod, Workload } from "../lib/kubernetes/objects.ts";
import type { Digest } from "../lib/registry/manifest.ts";
import type { ContainerVerdict, WorkloadVerdict } from "../lib/verdicts.ts";
import { aPod, aWorkload, verdicts } from "./support/cluster.ts";
import { digestOf } from "./support/registry.ts";

/** The tag resolves to "new"; what runs and is not told otherwise is other content. */
const resolved = (told: Record<string, Meaning["kind"]> = {}): Lookup => {
  const meanings = new Map<Digest, Meaning>();
  const words: Record<string, Meaning["kind"]> = { new: "same", old: "other", older: "other", ...told };
  for (const [word, kind] of Object.entries(words)) {
    meanings.set(digestOf(word), kind === "failed" ? { kind, error: new Error("no answer") } : { kind });
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
    ["unknown beside current", facts([[running("new")], [notStarted]], resolved()), "unknown"],
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
    const told = { pods: ["p1", "p3"], isAbsent: true, isPartial: false };
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

describe("judgeWorkload()", () => {
  const now = new Date("2026-11-21T12:00:00Z");
  const { current, outdated, unknown, skipped, failed } = verdicts;

  function judge(
    containers: Record<string, ContainerVerdict>,
    pods: Pod[] = [aPod("p1", "old")],
    retryIntervalMs?: number,
  ) {
    return judgeWorkload({ pods, containers: new Map(Object.entries(containers)), now, retryIntervalMs });
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
    assert.deepEqual(judge({ a: outdated, b: current, c: outdated }), { kind: "restarted", outdated: expected });
  });

  it("does not wait for all containers of a pod to start", () => {
    const init = { name: "init", pullPolicy: "Always", imageID: `x@${digestOf("old")}` };
    const half = aPod("p1", "", { containers: [init, { name: "app", pullPolicy: "Always", imageID: "" }] });
    assert.equal(judge({ init: outdated, app: unknown }, [half]).kind, "restarted");
  });

  it("waits while no pod of the current revision has started", () => {
    for (const none of [[], [aPod("p1", "")]]) assert.equal(judge({ app: unknown }, none).kind, "waiting");
  });

  const restarted = (digests: Record<string, string>, at = "2026-11-21T11:00:00Z") => ({
    annotations: { "kubectl.kubernetes.io/restartedAt": at, "figwasp/restarted-for": JSON.stringify(digests) },
  });
  const again = [aPod("p1", "old", restarted({ app: digestOf("new") }))];

  it("does not converge where the pods come from the restart for this very digest", () => {
    const verdict = judge({ app: outdated }, again);
    assert(verdict.kind === "not converged");
    assert.match(verdict.reason, /^app was restarted for sha256:\w+ at 2026-11-21T11:00:00Z, and its pods run sha256:/);
    assert.match(
      verdict.reason,
      /Likely they pull through a mirror or cache that still serves an older image; or a proxy/,
    );
    assert.match(verdict.reason, /FIGWASP_CERTS_DIR.*FIGWASP_RETRY_INTERVAL, or restart it by hand$/);
  });

  it("says so where no pod tells when it was restarted, and does not advise what is set already", () => {
    const { annotations } = restarted({ app: digestOf("new") });
    const undated = aPod("p1", "old", {
      annotations: { "figwasp/restarted-for": annotations["figwasp/restarted-for"] },
    });
    const verdict = judge({ app: outdated }, [undated], 1);
    assert(verdict.kind === "not converged");
    assert.match(verdict.reason, /^app was restarted for sha256:\w+ at a time that no pod tells, and its pods run/);
    assert.doesNotMatch(verdict.reason, /FIGWASP_RETRY_INTERVAL/);
  });

  it("cannot tell where the pods come from that restart, and the tag has some of their images still", () => {
    const verdict = judge({ app: { ...outdated, isPartial: true } }, again, 1);
    assert(verdict.kind === "unknown");
    assert.match(verdict.reason, /^app was restarted for sha256:\w+, and its pods run sha256:\w+, an older index with/);
    assert.equal(judge({ app: { ...outdated, isPartial: true }, web: outdated }, again).kind, "restarted");
    assert.equal(judge({ app: { ...outdated, isPartial: true }, web: failed }, again).kind, "failed");
  });

  it("names a rewriting proxy first where the repository does not have the running digest", () => {
    const verdict = judge({ app: { ...outdated, isAbsent: true } }, again);
    assert(verdict.kind === "not converged");
    assert.match(verdict.reason, /Likely a proxy rewrites the image, .*; or they pull through a mirror/);
  });

  const guards: [string, Pod[], WorkloadVerdict["kind"]][] = [
    ["for another digest", [aPod("p1", "old", restarted({ app: digestOf("other") }))], "restarted"],
    ["for another container", [aPod("p1", "old", restarted({ web: digestOf("new") }))], "restarted"],
    [
      "by somebody else",
      [aPod("p1", "old", { annotations: { "kubectl.kubernetes.io/restartedAt": "x" } })],
      "restarted",
    ],
    [
      "with a note that is not figwasp's",
      [aPod("p1", "old", { annotations: { "figwasp/restarted-for": "?" } })],
      "restarted",
    ],
    ["for this digest, beside a pod that was not", [...again, aPod("p2", "old")], "not converged"],
  ];
  for (const [what, pods, kind] of guards) {
    it(`finds ${kind} after a restart ${what}`, () => assert.equal(judge({ app: outdated }, pods).kind, kind));
  }

  it("restarts for another container's new digest, and keeps to itself what did not converge", () => {
    const verdict = judge({ app: outdated, web: outdated }, again);
    assert.deepEqual(verdict, { kind: "restarted", outdated: { app: digestOf("new"), web: digestOf("new") } });
  });

  it("restarts once more for the same digest when the retry interval has passed", () => {
    const hour = 3_600_000;
    assert.equal(judge({ app: outdated }, again, hour).kind, "restarted");
    assert.equal(judge({ app: outdated }, again, hour + 1).kind, "not converged");
    const undated = [aPod("p1", "old", restarted({ app: digestOf("new") }, "soon"))];
    assert.equal(judge({ app: outdated }, undated, hour).kind, "not converged");
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
      const subject = { kind: "deployment", namespace: "shop", name: "api" } as const;
      const containers = containerVerdicts.map((own) => ({ name: "app", image: "api", verdict: own, podCount: 1 }));
      assert.equal(exitCodeOf({ subject, verdict, containers }), code);
    });
  }
});

describe("restartedFor()", () => {
  for (const text of ["", "null", "[]", "1", '"x"', "{"]) {
    it(`takes ${JSON.stringify(text)} for nothing`, () => {
      assert.deepEqual(Object.keys(restartedFor({ "figwasp/restarted-for": text })), []);
    });
  }
});

describe("judgeWithoutPods()", () => {
  const rows: [string, Partial<Workload>, string | undefined, RegExp?][] = [
    ["a settled workload", {}, undefined],
    ["a paused Deployment", { isPaused: true }, "skipped", /kubectl rollout resume/],
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
