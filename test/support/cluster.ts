import type { Pod, Workload } from "../../lib/kubernetes/objects.ts";
import type { OwnedObjects } from "../../lib/kubernetes/owned-objects.ts";
import type { ContainerVerdict } from "../../lib/verdicts.ts";
import { digestOf } from "./registry.ts";

/** A Deployment with one container, `app`, whose rollout to its second revision is complete. */
export function aWorkload(changes: Partial<Workload> = {}): Workload {
  return {
    kind: "deployment",
    namespace: "shop",
    name: "api",
    uid: "uid-api",
    resourceVersion: "7",
    isObserved: true,
    isPaused: false,
    isOnDelete: false,
    rollout: { isComplete: true, progress: "2 of 2 pods updated, 2 available", failure: undefined },
    replicas: 2,
    partition: 0,
    selector: "app=api",
    revision: "2",
    templateAnnotations: {},
    metadataKeys: [],
    containers: [{ name: "app", image: "ghcr.io/acme/api:1.2" }],
    imageVolumes: [],
    ...changes,
  };
}

/** A running pod of the second revision; a word identifies its image. */
export function aPod(name: string, word: string, changes: Partial<Pod> = {}): Pod {
  const imageID = word === "" ? "" : `ghcr.io/acme/api@${digestOf(word)}`;
  return {
    name,
    ownerUid: "uid-rs2",
    revisionHash: "",
    isTerminating: false,
    phase: "Running",
    annotations: {},
    pullSecrets: [],
    containers: [{ name: "app", pullPolicy: "Always", imageID }],
    ...changes,
  };
}

/** What a workload owns, so that these are its current pods. */
export function owning({ uid, kind, revision }: Workload, pods: Pod[]): OwnedObjects {
  const hash = kind === "statefulset" ? revision : "hash";
  const ownerUid = kind === "deployment" ? "uid-rs2" : uid;
  const owned = pods.map((pod) => ({ ...pod, ownerUid, revisionHash: kind === "deployment" ? "" : hash }));
  return {
    replicaSets: kind === "deployment" ? [{ uid: "uid-rs2", ownerUid: uid, revision }] : [],
    controllerRevisions: kind === "daemonset" ? [{ ownerUid: uid, hash, number: 1 }] : [],
    podsByOwner: new Map([[ownerUid, owned]]),
  };
}

export const verdicts = {
  current: { kind: "current", resolved: digestOf("new"), isEquivalent: false },
  outdated: {
    kind: "outdated",
    running: digestOf("old"),
    resolved: digestOf("new"),
    pods: ["p1"],
    isAbsent: false,
    isPartial: false,
  },
  unknown: { kind: "unknown", reason: "who knows" },
  skipped: { kind: "skipped", reason: "pinned by digest" },
  failed: { kind: "failed", error: new Error("no answer") },
} as const satisfies Record<string, ContainerVerdict>;
