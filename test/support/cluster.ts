import type { Pod, PodContainer, Workload } from "../../lib/kubernetes/objects.ts";
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
    isDeleted: false,
    isObserved: true,
    isPaused: false,
    isOnDelete: false,
    rollout: { isComplete: true, progress: "2 of 2 pods updated, 2 available", failure: undefined },
    obstacle: undefined,
    replicas: 2,
    partition: 0,
    selector: "app=api",
    revision: "2",
    revisionHistoryLimit: 10,
    templateAnnotations: {},
    templateManagers: [],
    metadataKeys: [],
    ownLabels: {},
    ownAnnotations: {},
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
    createdAtMs: Date.parse("2026-11-21T09:00:00Z"),
    ownerUid: "uid-rs2",
    revisionHash: "",
    isTerminating: false,
    phase: "Running",
    node: "",
    unreadySinceMs: undefined,
    pullSecrets: [],
    containers: [aContainer({ imageID })],
    ...changes,
  };
}

/** A container `app` of a pod, which has started in containerd. Its image is that of the template (`owning`). */
export function aContainer(changes: Partial<PodContainer>): PodContainer {
  return { name: "app", image: "", pullPolicy: "Always", imageID: "", runtime: "containerd", ...changes };
}

/** What a workload owns, so that these are its current pods. */
export function owning({ uid, kind, revision, containers }: Workload, pods: Pod[]): OwnedObjects {
  const hash = kind === "statefulset" ? revision : "hash";
  const ownerUid = kind === "deployment" ? "uid-rs2" : uid;
  const imageOf = (name: string) => containers.find((container) => container.name === name)?.image ?? "";
  const owned = pods.map((pod) => ({
    ...pod,
    ownerUid,
    revisionHash: kind === "deployment" ? "" : hash,
    containers: pod.containers.map((container) => ({
      ...container,
      image: container.image || imageOf(container.name),
    })),
  }));
  const replicaSet = { uid: "uid-rs2", ownerUid: uid, revision, name: "api-rs2", isReused: false, ownAnnotations: {} };
  return {
    replicaSets: kind === "deployment" ? [replicaSet] : [],
    controllerRevisions: kind === "daemonset" ? [{ ownerUid: uid, hash, number: 1 }] : [],
    podsByOwner: new Map([[ownerUid, owned]]),
  };
}

export const verdicts = {
  current: { kind: "current", resolved: digestOf("new"), isEquivalent: false },
  outdated: {
    kind: "outdated",
    image: "ghcr.io/acme/api:1.2",
    running: digestOf("old"),
    resolved: digestOf("new"),
    pods: ["p1"],
    isAbsent: false,
    isPartial: false,
    unclear: [],
  },
  unknown: { kind: "unknown", reason: "who knows" },
  skipped: { kind: "skipped", reason: "pinned by digest" },
  failed: { kind: "failed", error: new Error("no answer") },
} as const satisfies Record<string, ContainerVerdict>;
