/**
 * Kubernetes objects, as far as figwasp reads them.
 */
import type {
  V1ControllerRevision,
  V1DaemonSet,
  V1Deployment,
  V1LabelSelector,
  V1ObjectMeta,
  V1Pod,
  V1ReplicaSet,
  V1Secret,
  V1StatefulSet,
  V1Volume,
} from "@kubernetes/client-node";

/** The kinds of workloads that figwasp looks at. */
export const kinds = ["deployment", "statefulset", "daemonset"] as const;
export type Kind = (typeof kinds)[number];

/** Where a Deployment says which ReplicaSet is its newest. */
const revisionAnnotation = "deployment.kubernetes.io/revision";

/** A Deployment, StatefulSet or DaemonSet, as far as figwasp reads it. */
export type Workload = ReturnType<typeof toWorkload>;
/** Which one it is. */
export type Named = Pick<Workload, "kind" | "namespace" | "name">;
export type AnyWorkload = V1Deployment & V1StatefulSet & V1DaemonSet;

export function toWorkload(kind: Kind, object: AnyWorkload) {
  const { metadata, spec, status } = object;
  const template = spec?.template;
  const containers = [...(template?.spec?.initContainers ?? []), ...(template?.spec?.containers ?? [])];
  const isObserved = (status?.observedGeneration ?? 0) >= (metadata?.generation ?? 0);
  const replicas = kind === "daemonset" ? (status?.desiredNumberScheduled ?? 0) : (spec?.replicas ?? 1);
  const partition = spec?.updateStrategy?.rollingUpdate?.partition ?? 0;
  return {
    kind,
    namespace: metadata?.namespace ?? "",
    name: metadata?.name ?? "",
    uid: metadata?.uid ?? "",
    resourceVersion: metadata?.resourceVersion ?? "",
    isObserved,
    isPaused: spec?.paused ?? false,
    isOnDelete: spec?.updateStrategy?.type === "OnDelete",
    replicas,
    /** Pods of a StatefulSet that a rollout leaves on the older template. */
    partition,
    rollout: rolloutOf(kind, object, { isObserved, wanted: replicas, kept: partition }),
    /** In the API's query form: `app=api,tier in (a,b)`. */
    selector: toSelector(spec?.selector ?? {}),
    /** What the controller calls the newest template; a DaemonSet does not say. */
    revision: (kind === "deployment" ? metadata?.annotations?.[revisionAnnotation] : status?.updateRevision) ?? "",
    /** Of the pod template. */
    annotations: template?.metadata?.annotations ?? {},
    /** Keys of its own labels and annotations: tools mark so what they apply. */
    marks: [...Object.keys(metadata?.labels ?? {}), ...Object.keys(metadata?.annotations ?? {})],
    /** Init containers, sidecars among them, first. */
    containers: containers.map(({ name, image = "" }) => ({ name, image })),
    imageVolumes: imageVolumesOf(template?.spec?.volumes ?? []),
  };
}

/** Volumes whose image a push can move. Kubernetes before 1.36 does not tell which digest they hold. */
function imageVolumesOf(volumes: V1Volume[]): { name: string; image: string }[] {
  return volumes.flatMap(({ name, image: { reference = "" } = {} }) => {
    return reference === "" || reference.includes("@") ? [] : [{ name, image: reference }];
  });
}

/** How far the newest template is, as `kubectl rollout status` tells it. */
export interface Rollout {
  isComplete: boolean;
  /** `1 of 3 pods updated, 0 available`. */
  progress: string;
  /** Why the controller has given up, if it has. */
  failure: string | undefined;
}

function rolloutOf(
  kind: Kind,
  { status }: AnyWorkload,
  { isObserved, wanted, kept }: { isObserved: boolean; wanted: number; kept: number },
): Rollout {
  const isDaemonSet = kind === "daemonset";
  const updated = (isDaemonSet ? status?.updatedNumberScheduled : status?.updatedReplicas) ?? 0;
  const ready = kind === "statefulset" ? status?.readyReplicas : status?.availableReplicas;
  const available = (isDaemonSet ? status?.numberAvailable : ready) ?? 0;
  const old = kind === "deployment" ? (status?.replicas ?? 0) - updated : 0;
  const condition = status?.conditions?.find(({ reason }) => reason === "ProgressDeadlineExceeded");
  return {
    isComplete: isObserved && updated >= wanted - kept && old <= 0 && available >= wanted,
    progress: `${updated} of ${wanted} pods updated, ${available} available${old > 0 ? `, ${old} old` : ""}`,
    failure: isObserved && condition ? "it has exceeded its progress deadline" : undefined,
  };
}

const hashLabel = "controller-revision-hash";

/** The ReplicaSet of a revision of a Deployment, whose uid the pods name. */
export function toReplicaSet({ metadata }: V1ReplicaSet) {
  const revision = metadata?.annotations?.[revisionAnnotation] ?? "";
  return { uid: metadata?.uid ?? "", ownerUid: controllerOf(metadata), revision };
}

/** A revision of a DaemonSet, whose hash the pods carry as a label. */
export function toControllerRevision({ metadata, revision: number }: V1ControllerRevision) {
  return { ownerUid: controllerOf(metadata), hash: metadata?.labels?.[hashLabel] ?? "", number };
}

/** A pod, as far as figwasp reads it. */
export type Pod = ReturnType<typeof toPod>;

export function toPod({ metadata, spec, status }: V1Pod, annotationKeys: string[]) {
  const annotations = Object.entries(metadata?.annotations ?? {});
  const containers = [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])];
  const statuses = [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])];
  return {
    name: metadata?.name ?? "",
    ownerUid: controllerOf(metadata),
    /** Of a StatefulSet or DaemonSet, by the label that its controller gives; else empty. */
    revision: metadata?.labels?.[hashLabel] ?? "",
    isTerminating: metadata?.deletionTimestamp !== undefined,
    phase: status?.phase ?? "",
    annotations: Object.fromEntries(annotations.filter(([key]) => annotationKeys.includes(key))),
    /** Names of Secrets; those of its ServiceAccount are among them, if it had none of its own. */
    pullSecrets: (spec?.imagePullSecrets ?? []).flatMap(({ name }) => (name ? [name] : [])),
    /** `imageID` is empty until the container has started once. */
    containers: containers.map(({ name, imagePullPolicy: pullPolicy = "" }) => {
      return { name, pullPolicy, imageID: statuses.find((entry) => entry.name === name)?.imageID ?? "" };
    }),
  };
}

/** A Secret, as far as figwasp reads it. */
export type Secret = ReturnType<typeof toSecret>;

// The kubelet takes a docker config where type and key fit together, and passes over everything else.
export function toSecret({ type = "", data = {} }: V1Secret) {
  const forms = { "kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg" };
  const config = data[forms[type as keyof typeof forms]];
  return {
    type,
    isOlderForm: type === "kubernetes.io/dockercfg",
    config: config ? Buffer.from(config, "base64") : undefined,
  };
}

/** The uid of the object that manages this one; empty if none does. */
function controllerOf(metadata: V1ObjectMeta | undefined): string {
  return metadata?.ownerReferences?.find(({ controller }) => controller)?.uid ?? "";
}

function toSelector({ matchLabels = {}, matchExpressions = [] }: V1LabelSelector): string {
  const equal = Object.entries(matchLabels).map(([key, value]) => `${key}=${value}`);
  const rest = matchExpressions.map(({ key, operator, values = [] }) => {
    if (operator === "Exists") return key;
    if (operator === "DoesNotExist") return `!${key}`;
    return `${key} ${operator.toLowerCase()} (${values.join(",")})`;
  });
  return [...equal, ...rest].join(",");
}
