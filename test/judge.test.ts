import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  type ContainerFacts,
  type ContainerVerdict,
  currentPods,
  judgeContainer,
  judgeWorkload,
  type Lookup,
  parseReference,
  reasonToPass,
  type Running,
  type Workload,
} from "../figwasp.ts";
import { aPod, aWorkload, revisions, verdicts } from "./support/cluster.ts";
import { digestOf } from "./support/registry.ts";

const resolved = (...children: string[]): Lookup => {
  return { kind: "resolved", digest: digestOf("new"), children: children.map(digestOf) };
};
const running = (word: string): Running => ({ digest: digestOf(word), isImageId: false });
const imageId = (word: string): Running => ({ digest: digestOf(word), isImageId: true });
const noReason: Running = { reason: "the container has not started" };
const lost: Lookup = { kind: "failed", error: new Error("no answer") };

function facts(pods: [Running, string?][], lookup?: Lookup, image = "ghcr.io/acme/api:1.2"): ContainerFacts {
  return {
    image,
    reference: parseReference(image),
    pods: pods.map(([found, pullPolicy = "Always"], at) => ({ pod: `p${at + 1}`, pullPolicy, running: found })),
    ...(lookup && { lookup }),
  };
}

describe("judgeContainer()", () => {
  const pinned = `ghcr.io/acme/api:1.2@${digestOf("old")}`;
  const rows: [string, ContainerFacts, ContainerVerdict["kind"], RegExp?][] = [
    ["the tag's digest", facts([[running("new")]], resolved()), "current"],
    ["a child of the tag's index", facts([[running("amd64")]], resolved("amd64", "arm64")), "current"],
    ["an older digest", facts([[running("old")]], resolved("amd64")), "outdated"],
    ["an image ID that is not in the set", facts([[imageId("old")]], resolved()), "unknown", /p1: .*not a registry/],
    ["no digest yet", facts([[noReason]], resolved()), "unknown", /p1: the container has not started/],
    ["no lookup made", facts([[running("old")]]), "unknown", /was not asked/],
    ["no pod with the container", facts([], resolved()), "unknown", /no pod/],
    ["a failed lookup", facts([[running("old")]], lost), "failed"],
    ["an image pinned by digest", facts([[running("old")]], resolved(), pinned), "skipped", /pinned by digest/],
    ["pull policy IfNotPresent", facts([[running("old"), "IfNotPresent"]], resolved()), "skipped", /set it to Always/],
    ["pull policy Never", facts([[running("old"), "Never"]], resolved()), "skipped", /imagePullPolicy is Never/],
    ["outdated beside a failed one", facts([[noReason], [running("old")]], resolved()), "outdated"],
    ["unknown beside a current one", facts([[running("new")], [noReason]], resolved()), "unknown"],
    ["failed beside an unknown one", facts([[noReason], [running("old")]], lost), "failed"],
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

  it("names both digests and every outdated pod", () => {
    const given = facts([[running("old")], [running("new")], [running("older")]], resolved());
    const expected = { kind: "outdated", running: digestOf("old"), resolved: digestOf("new"), pods: ["p1", "p3"] };
    assert.deepEqual(judgeContainer(given), expected);
  });

  it("fails with the parser's words for an image that is none", () => {
    const error = new SyntaxError("Cannot parse image");
    assert.deepEqual(judgeContainer({ ...facts([]), reference: error }), { kind: "failed", error });
  });
});

describe("judgeWorkload()", () => {
  const pods = [aPod("p1", "old")];
  const { current, outdated, unknown, skipped, failed } = verdicts;
  const rows: [string, ContainerVerdict[], string][] = [
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
      const containers = new Map(given.map((verdict, at) => [`c${at}`, verdict]));
      assert.equal(judgeWorkload(pods, containers).kind, kind);
    });
  }

  it("names every outdated container with its resolved digest", () => {
    const containers = new Map<string, ContainerVerdict>([
      ["a", outdated],
      ["b", current],
      ["c", outdated],
    ]);
    const expected = { a: digestOf("new"), c: digestOf("new") };
    assert.deepEqual(judgeWorkload(pods, containers), { kind: "restarted", outdated: expected });
  });

  it("waits while no pod of the current revision has started", () => {
    for (const none of [[], [aPod("p1", "")]]) {
      assert.equal(judgeWorkload(none, new Map([["app", unknown]])).kind, "waiting");
    }
  });
});

describe("reasonToPass()", () => {
  const rows: [string, Partial<Workload>, string | undefined][] = [
    ["a settled Deployment", {}, undefined],
    ["a paused Deployment", { isPaused: true }, "skipped"],
    ["one scaled to zero", { replicas: 0 }, "skipped"],
    ["one whose controller has not seen the template", { isObserved: false }, "waiting"],
    ["one without a ReplicaSet yet", { revision: "" }, "waiting"],
  ];
  for (const [what, changes, kind] of rows) {
    it(`finds ${kind ?? "nothing"} for ${what}`, () => assert.equal(reasonToPass(aWorkload(changes))?.kind, kind));
  }
});

describe("currentPods()", () => {
  const names = (...pods: Parameters<typeof aPod>[]) => {
    const listed = pods.map((given) => aPod(...given));
    return currentPods(aWorkload(), revisions, listed).map(({ name }) => name);
  };

  it("keeps the pods of the newest ReplicaSet, running or pending", () => {
    assert.deepEqual(names(["a", "x"], ["b", "", { phase: "Pending" }]), ["a", "b"]);
  });

  const others: [string, Parameters<typeof aPod>[2]][] = [
    ["of an older ReplicaSet", { ownerUid: "uid-rs1" }],
    ["of another owner", { ownerUid: "uid-other" }],
    ["of no owner", { ownerUid: "" }],
    ["that is terminating", { isTerminating: true }],
    ["that has succeeded", { phase: "Succeeded" }],
    ["that has failed or was evicted", { phase: "Failed" }],
  ];
  for (const [what, changes] of others) {
    it(`leaves out a pod ${what}`, () => assert.deepEqual(names(["a", "x"], ["b", "x", changes]), ["a"]));
  }

  it("does not take another workload's ReplicaSet of the same number", () => {
    const foreign = [{ uid: "uid-rs2", ownerUid: "uid-other", revision: "2" }];
    assert.deepEqual(currentPods(aWorkload(), foreign, [aPod("a", "x")]), []);
  });
});
