/** Manifests of a workload `web`: two pods with a container `app`. */
import type { V1DaemonSet, V1Deployment, V1StatefulSet } from "@kubernetes/client-node";

export const workloadKinds = ["deployment", "statefulset", "daemonset"] as const;
export type WorkloadKind = (typeof workloadKinds)[number];

export type Workload = V1Deployment & V1StatefulSet & V1DaemonSet;

const names = { deployment: "Deployment", statefulset: "StatefulSet", daemonset: "DaemonSet" };

/** A DaemonSet has a pod on each node with these labels. */
export function manifestOf(kind: WorkloadKind, image: string, nodeSelector: Record<string, string>): object {
  const labels = { app: "web" };
  const isDaemonSet = kind === "daemonset";
  const podSpec = { containers: [{ name: "app", image }], ...(isDaemonSet && { nodeSelector }) };
  return {
    apiVersion: "apps/v1",
    kind: names[kind],
    metadata: { name: "web" },
    spec: {
      selector: { matchLabels: labels },
      ...(isDaemonSet ? {} : { replicas: 2 }),
      template: { metadata: { labels }, spec: podSpec },
    },
  };
}
