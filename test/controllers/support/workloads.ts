/** Manifests of a workload `web`: two pods with a container `app`. */
import type { V1Container, V1DaemonSet, V1Deployment, V1StatefulSet } from "@kubernetes/client-node";

export const workloadKinds = ["deployment", "statefulset", "daemonset"] as const;
export type WorkloadKind = (typeof workloadKinds)[number];

export type Workload = V1Deployment & V1StatefulSet & V1DaemonSet;

const names = { deployment: "Deployment", statefulset: "StatefulSet", daemonset: "DaemonSet" };

/** What a test may want otherwise. */
export interface Wish {
  containers?: V1Container[];
  /** Of the pod template. */
  annotations?: Record<string, string>;
  revisionHistoryLimit?: number;
}

/** A DaemonSet has a pod on each node with these labels. */
export function manifestOf(kind: WorkloadKind, nodeSelector: Record<string, string>, wish: Wish): object {
  const { containers, annotations, revisionHistoryLimit } = wish;
  const labels = { app: "web" };
  const isDaemonSet = kind === "daemonset";
  const podSpec = { containers, ...(isDaemonSet && { nodeSelector }) };
  return {
    apiVersion: "apps/v1",
    kind: names[kind],
    metadata: { name: "web" },
    spec: {
      selector: { matchLabels: labels },
      ...(isDaemonSet ? {} : { replicas: 2 }),
      ...(revisionHistoryLimit !== undefined && { revisionHistoryLimit }),
      template: { metadata: { labels, annotations }, spec: podSpec },
    },
  };
}

/** Whether it has rolled out, by the rules of `kubectl rollout status`, which takes a process each time. */
export function hasRolledOut(kind: WorkloadKind, { metadata, spec, status }: Workload): boolean {
  const isObserved = (status?.observedGeneration ?? 0) >= (metadata?.generation ?? 0);
  if (kind === "daemonset") {
    const { desiredNumberScheduled = 0, updatedNumberScheduled = 0, numberAvailable = 0 } = status ?? {};
    return isObserved && updatedNumberScheduled >= desiredNumberScheduled && numberAvailable >= desiredNumberScheduled;
  }
  const { replicas: wanted = 0 } = spec ?? {};
  const { replicas = 0, updatedReplicas = 0, availableReplicas = 0, readyReplicas = 0 } = status ?? {};
  if (kind === "statefulset") {
    return isObserved && readyReplicas >= wanted && status?.updateRevision === status?.currentRevision;
  }
  return isObserved && updatedReplicas >= wanted && replicas <= updatedReplicas && availableReplicas >= wanted;
}
