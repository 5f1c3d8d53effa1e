import type { V1Deployment } from "@kubernetes/client-node";

/** The kinds of workloads that roll out a new template. */
export type Kind = "Deployment" | "StatefulSet" | "DaemonSet";

/** The fields by which the three kinds tell how far a rollout is. Each kind has some of them. */
export interface RollingWorkload {
  metadata?: { generation?: number };
  spec?: { replicas?: number };
  status?: V1Deployment["status"] & {
    currentRevision?: string;
    updateRevision?: string;
    currentNumberScheduled?: number;
    desiredNumberScheduled?: number;
    updatedNumberScheduled?: number;
    numberAvailable?: number;
  };
}

/** Says what is missing until the newest template runs everywhere, by the rules of `kubectl rollout status`. Returns
 *  undefined if nothing is missing, and throws if the controller has given up. */
export function missingOf(kind: Kind, { metadata, spec, status = {} }: RollingWorkload): string | undefined {
  if ((status.observedGeneration ?? 0) < (metadata?.generation ?? NaN))
    return "its controller has not seen the template";
  if (kind === "DaemonSet") {
    const { desiredNumberScheduled: desired = 0, updatedNumberScheduled: updated = 0, numberAvailable = 0 } = status;
    if (updated < desired) return `${updated} of ${desired} pods are updated`;
    return numberAvailable < desired ? `${numberAvailable} of ${desired} updated pods are available` : undefined;
  }
  const replicas = spec?.replicas ?? 1;
  const { updatedReplicas: updated = 0, readyReplicas: ready = 0, availableReplicas: available = 0 } = status;
  if (kind === "StatefulSet") {
    if (ready < replicas) return `${ready} of ${replicas} pods are ready`;
    const isUpdated = status.updateRevision === status.currentRevision;
    return isUpdated ? undefined : `${updated} of ${replicas} pods are updated`;
  }
  const progressing = status.conditions?.find(({ type }) => type === "Progressing");
  if (progressing?.reason === "ProgressDeadlineExceeded") throw new Error(`it gave up: ${progressing.message}`);
  if (updated < replicas) return `${updated} of ${replicas} pods are updated`;
  if ((status.replicas ?? 0) > updated) return `${(status.replicas ?? 0) - updated} old pods are still there`;
  return available < updated ? `${available} of ${updated} updated pods are available` : undefined;
}
