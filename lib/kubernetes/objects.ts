/**
 * Kubernetes objects, reduced to the fields that figwasp reads. What they mean for a verdict is decided in figwasp.ts.
 */
import type {
  V1ControllerRevision,
  V1DaemonSet,
  V1Deployment,
  V1LabelSelector,
  V1ManagedFieldsEntry,
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

/** Which workload it is. */
export interface WorkloadName {
  kind: Kind;
  namespace: string;
  name: string;
}

/** A Deployment, StatefulSet or DaemonSet. */
export interface Workload extends WorkloadName {
  uid: string;
  resourceVersion: string;
  /** Whether it is being deleted; a finalizer may hold that up. */
  isDeleted: boolean;
  /** Whether its controller has seen the newest template: `status.observedGeneration`. */
  isObserved: boolean;
  isPaused: boolean;
  /** Whether its update strategy is `OnDelete`. */
  isOnDelete: boolean;
  /** Pods that are wanted; of a DaemonSet, nodes that want one. */
  replicas: number;
  /** Pods of a StatefulSet that a rollout leaves on the older template. */
  partition: number;
  rollout: Rollout;
  /** What its controller cannot do, by the conditions that it has set, whether it has given up or tries again. */
  obstacle: string | undefined;
  /** Label selector of its pods in the API's query form: `app=api,tier in (a,b)`. */
  selector: string;
  /** What the controller calls the newest template: of a Deployment the number of its revision, of a StatefulSet the
   *  name of a ControllerRevision. Empty for a DaemonSet, whose status does not name it. */
  revision: string;
  /** How many older revisions its controller keeps. */
  revisionHistoryLimit: number;
  /** Of the pod template. */
  templateAnnotations: Record<string, string>;
  /** Who has written fields of the pod template, the latest first. Who has only removed some is not recorded. */
  templateManagers: FieldManager[];
  /** Keys of the workload's own labels and annotations: tools that apply manifests mark them this way. */
  metadataKeys: string[];
  /** What its owner says to figwasp: the workload's own labels and annotations whose keys begin with `figwasp/`. */
  ownLabels: Record<string, string>;
  ownAnnotations: Record<string, string>;
  /** Of the pod template, init containers and sidecars first. */
  containers: { name: string; image: string }[];
  /** Volumes of the pod template whose image a push can move. */
  imageVolumes: { name: string; image: string }[];
}

/** Who has written fields of an object, and when for the last time, in milliseconds. */
export interface FieldManager {
  name: string;
  atMs: number;
}

/** Who else than this one has written the pod template, the latest first. */
export function managersBeside(fieldManager: string, { templateManagers }: Workload): FieldManager[] {
  return templateManagers.filter(({ name }) => name !== fieldManager);
}

/** How far the newest template is, by the rules of `kubectl rollout status`. */
export interface Rollout {
  isComplete: boolean;
  /** `1 of 3 pods updated, 0 available`. */
  progress: string;
  /** Why the controller has given up; undefined if it has not. */
  failure: string | undefined;
}

/** The name of a workload, without anything else that is known about it. */
export function nameOf({ kind, namespace, name }: WorkloadName): WorkloadName {
  return { kind, namespace, name };
}

/** The ReplicaSet of one revision of a Deployment. The Deployment's pods name its uid as their owner. */
export interface ReplicaSet {
  uid: string;
  ownerUid: string;
  /** Number of the revision; an undo gives an older ReplicaSet the highest number. */
  revision: string;
  name: string;
  /** Whether the template has gone back to it. */
  isReused: boolean;
  /** The annotations that the Deployment had while this was its newest revision, those of figwasp alone. */
  ownAnnotations: Record<string, string>;
}

/** One revision of a DaemonSet. */
export interface ControllerRevision {
  ownerUid: string;
  /** The pods carry it as the label `controller-revision-hash`. */
  hash: string;
  /** An undo gives an older revision the highest number. */
  number: number;
}

/** One revision of a workload in full: a ReplicaSet, or a ControllerRevision of a StatefulSet or DaemonSet. */
export interface Revision {
  /** An undo gives an older revision the highest number. */
  number: number;
  /** When its object was made, in milliseconds. */
  createdAtMs: number;
  /** Whether the template has gone back to it: its object was there before it got its number. Undefined if that cannot
   *  be told, since another one is of the same second. */
  isReused: boolean | undefined;
  /** Of its pod template. */
  templateAnnotations: Record<string, string>;
}

export interface Pod {
  name: string;
  createdAtMs: number;
  /** Of the object that manages it: a ReplicaSet, a StatefulSet or a DaemonSet. */
  ownerUid: string;
  /** Its label `controller-revision-hash`; empty for a pod of a Deployment. */
  revisionHash: string;
  isTerminating: boolean;
  /** `status.phase`. */
  phase: string;
  /** Names of Secrets. Admission has added those of its ServiceAccount, if the pod had none of its own. */
  pullSecrets: string[];
  /** The name of its node; empty before it has one. */
  node: string;
  /** Since when it has not been ready, in milliseconds; undefined if it is, or nobody has said so. */
  unreadySinceMs: number | undefined;
  /** Init containers and sidecars first. */
  containers: PodContainer[];
}

export interface PodContainer {
  name: string;
  /** As admission made it. */
  image: string;
  pullPolicy: string;
  /** Empty until the container has started once. */
  imageID: string;
  /** What runs it: `containerd`, `cri-o`, `docker`. Empty until the container has started once. */
  runtime: string;
}

/** A Secret that a pod names as an imagePullSecret. */
export interface Secret {
  type: string;
  /** Whether the type is `kubernetes.io/dockercfg`, whose value has no `auths` around the entries. */
  isOlderForm: boolean;
  /** The docker config; undefined if type and key are not those of one. */
  config: Buffer | undefined;
}

export type AnyWorkload = V1Deployment & V1StatefulSet & V1DaemonSet;

/** The annotation in which a Deployment and its ReplicaSets carry the number of the revision. */
const revisionAnnotation = "deployment.kubernetes.io/revision";
/** The annotation in which a ReplicaSet carries the numbers that it had before the template went back to it. */
const formerRevisionsAnnotation = "deployment.kubernetes.io/revision-history";
const hashLabel = "controller-revision-hash";
const ownPrefix = "figwasp/";
const defaultHistoryLimit = 10;

export function toWorkload(kind: Kind, object: AnyWorkload): Workload {
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
    isDeleted: metadata?.deletionTimestamp !== undefined,
    isObserved,
    isPaused: spec?.paused ?? false,
    isOnDelete: spec?.updateStrategy?.type === "OnDelete",
    replicas,
    partition,
    obstacle: toObstacle(status, isObserved),
    rollout: toRollout(kind, object, { isObserved, replicas, partition }),
    selector: toSelector(spec?.selector ?? {}),
    revision: (kind === "deployment" ? metadata?.annotations?.[revisionAnnotation] : status?.updateRevision) ?? "",
    revisionHistoryLimit: spec?.revisionHistoryLimit ?? defaultHistoryLimit,
    templateAnnotations: template?.metadata?.annotations ?? {},
    templateManagers: toTemplateManagers(metadata?.managedFields ?? []),
    metadataKeys: [...Object.keys(metadata?.labels ?? {}), ...Object.keys(metadata?.annotations ?? {})],
    ownLabels: pickOwn(metadata?.labels),
    ownAnnotations: pickOwn(metadata?.annotations),
    containers: containers.map(({ name, image = "" }) => ({ name, image })),
    imageVolumes: toImageVolumes(template?.spec?.volumes ?? []),
  };
}

function pickOwn(words: Record<string, string> = {}): Record<string, string> {
  return Object.fromEntries(Object.entries(words).filter(([key]) => key.startsWith(ownPrefix)));
}

function toTemplateManagers(entries: V1ManagedFieldsEntry[]): FieldManager[] {
  const ofTemplate = entries.filter(({ fieldsV1 }) => {
    return (fieldsV1 as { "f:spec"?: Record<string, unknown> } | undefined)?.["f:spec"]?.["f:template"] !== undefined;
  });
  const managers = ofTemplate.map(({ manager = "", time }) => ({ name: manager, atMs: toMs(time) }));
  return managers.toSorted((a, b) => b.atMs - a.atMs);
}

// Objects come as plain JSON, in which the types of the client library are wrong about times. NaN if there is none.
function toMs(time: unknown): number {
  return Date.parse(String(time));
}

// A volume that is pinned by digest cannot move. Kubernetes before 1.36 does not report which digest a volume holds.
function toImageVolumes(volumes: V1Volume[]): Workload["imageVolumes"] {
  return volumes.flatMap(({ name, image: { reference = "" } = {} }) => {
    return reference === "" || reference.includes("@") ? [] : [{ name, image: reference }];
  });
}

function toRollout(
  kind: Kind,
  { status }: AnyWorkload,
  { isObserved, replicas, partition }: Pick<Workload, "isObserved" | "replicas" | "partition">,
): Rollout {
  const isDaemonSet = kind === "daemonset";
  const updated = (isDaemonSet ? status?.updatedNumberScheduled : status?.updatedReplicas) ?? 0;
  const ready = kind === "statefulset" ? status?.readyReplicas : status?.availableReplicas;
  const available = (isDaemonSet ? status?.numberAvailable : ready) ?? 0;
  const old = kind === "deployment" ? (status?.replicas ?? 0) - updated : 0;
  return {
    isComplete: isObserved && updated >= replicas - partition && old <= 0 && available >= replicas,
    progress: `${updated} of ${replicas} pods updated, ${available} available${old > 0 ? `, ${old} old` : ""}`,
    failure: isObserved ? toFailure(status) : undefined,
  };
}

function toFailure(status: AnyWorkload["status"]): string | undefined {
  const isExceeded = status?.conditions?.some(({ reason }) => reason === "ProgressDeadlineExceeded") ?? false;
  return isExceeded ? "it has exceeded its progress deadline" : undefined;
}

// A Deployment tells why it can make no ReplicaSet, or its ReplicaSet no pod: a quota, or admission
// (kubernetes.io, "Deployments", "Failed Deployment"). Without a ReplicaSet, the newest template is not observed.
function toObstacle(status: AnyWorkload["status"], isObserved: boolean): string | undefined {
  const failure = isObserved ? toFailure(status) : undefined;
  const conditions = status?.conditions ?? [];
  // A rollout that a quota slows down goes on all the same, or runs into its deadline.
  const isMoving = conditions.some(({ type, status: is, reason }) => {
    return type === "Progressing" && is === "True" && reason !== "NewReplicaSetAvailable";
  });
  const isSlow = isMoving && (status?.updatedReplicas ?? 0) > 0;
  const messages = conditions.flatMap(({ type, reason, status: is, message = "" }) => {
    const isOfPods = isObserved && !isSlow && type === "ReplicaFailure" && is === "True";
    return isOfPods || reason === "ReplicaSetCreateError" ? [message] : [];
  });
  const all = [...(failure === undefined ? [] : [failure]), ...messages];
  return all.length > 0 ? all.join("; ") : undefined;
}

export function toReplicaSet({ metadata }: V1ReplicaSet): ReplicaSet {
  const { uid = "", name = "", annotations = {} } = metadata ?? {};
  const revision = annotations[revisionAnnotation] ?? "";
  const isReused = annotations[formerRevisionsAnnotation] !== undefined;
  return { uid, ownerUid: toOwnerUid(metadata), revision, name, isReused, ownAnnotations: pickOwn(annotations) };
}

export function toControllerRevision({ metadata, revision: number }: V1ControllerRevision): ControllerRevision {
  return { ownerUid: toOwnerUid(metadata), hash: metadata?.labels?.[hashLabel] ?? "", number };
}

export function toRevision(object: V1ReplicaSet & V1ControllerRevision): Revision & { ownerUid: string } {
  const { metadata, spec, data, revision } = object;
  const annotations = metadata?.annotations ?? {};
  // A ControllerRevision holds the template as a patch of its workload.
  const { template } = spec ?? (data as V1ReplicaSet | undefined)?.spec ?? {};
  return {
    ownerUid: toOwnerUid(metadata),
    number: revision ?? Number(annotations[revisionAnnotation] ?? 0),
    createdAtMs: toMs(metadata?.creationTimestamp),
    isReused: spec ? annotations[formerRevisionsAnnotation] !== undefined : undefined,
    templateAnnotations: template?.metadata?.annotations ?? {},
  };
}

/** Those of one owner, the newest first. A ReplicaSet tells that it is used again, a ControllerRevision only by its
 *  age. */
export function sortRevisions(revisions: (Revision & { ownerUid: string })[], owner: string): Revision[] {
  const own = revisions.filter(({ ownerUid }) => ownerUid === owner).toSorted((a, b) => b.number - a.number);
  for (const [index, revision] of own.entries()) {
    const youngestMs = Math.max(...own.slice(index + 1).map(({ createdAtMs }) => createdAtMs));
    if (revision.createdAtMs !== youngestMs) revision.isReused ??= revision.createdAtMs < youngestMs;
  }
  return own;
}

export function toPod({ metadata, spec, status }: V1Pod): Pod {
  const containers = [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])];
  const statuses = [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])];
  // A pod without a node has no kubelet that would say whether it is ready.
  const unready = status?.conditions?.find(
    ({ type, status: is }) => /^(?:Ready|PodScheduled)$/.test(type) && is === "False",
  );
  return {
    name: metadata?.name ?? "",
    createdAtMs: toMs(metadata?.creationTimestamp),
    ownerUid: toOwnerUid(metadata),
    revisionHash: metadata?.labels?.[hashLabel] ?? "",
    isTerminating: metadata?.deletionTimestamp !== undefined,
    phase: status?.phase ?? "",
    node: spec?.nodeName ?? "",
    unreadySinceMs: unready && toMs(unready.lastTransitionTime),
    pullSecrets: (spec?.imagePullSecrets ?? []).flatMap(({ name }) => (name ? [name] : [])),
    containers: containers.map(({ name, image = "", imagePullPolicy: pullPolicy = "" }) => {
      const { imageID = "", containerID = "" } = statuses.find((entry) => entry.name === name) ?? {};
      return { name, image, pullPolicy, imageID, runtime: containerID.replace(/:\/\/.*$/s, "") };
    }),
  };
}

/** The kubelet takes a docker config only where type and key fit together, and ignores every other Secret. */
export function toSecret({ type = "", data = {} }: V1Secret): Secret {
  const keys = { "kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg" };
  const config = data[keys[type as keyof typeof keys]];
  return {
    type,
    isOlderForm: type === "kubernetes.io/dockercfg",
    config: config ? Buffer.from(config, "base64") : undefined,
  };
}

/** The uid of the object that manages this one; empty if none does. */
function toOwnerUid(metadata: V1ObjectMeta | undefined): string {
  return metadata?.ownerReferences?.find(({ controller }) => controller)?.uid ?? "";
}

function toSelector({ matchLabels = {}, matchExpressions = [] }: V1LabelSelector): string {
  const equalities = Object.entries(matchLabels).map(([key, value]) => `${key}=${value}`);
  const expressions = matchExpressions.map(({ key, operator, values = [] }) => {
    if (operator === "Exists") return key;
    if (operator === "DoesNotExist") return `!${key}`;
    return `${key} ${operator.toLowerCase()} (${values.join(",")})`;
  });
  return [...equalities, ...expressions].join(",");
}
