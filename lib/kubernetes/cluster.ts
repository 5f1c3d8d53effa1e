/**
 * What figwasp asks of a cluster: the reads, one change, and an Event. Each method is a verb of the Role in deploy/.
 */
import type { V1Node, V1Secret, V1SelfSubjectAccessReview } from "@kubernetes/client-node";
import { oneAtATime, shareCall } from "../calls.ts";
import { HttpError, isHttpError, statusOf } from "../errors.ts";
import type { Fetch } from "../http/transport.ts";
import { type Call, type Clock, connectApi, type KubernetesList, listAll } from "./api.ts";
import type { ClusterConfig } from "./connection.ts";
import type { WorkloadEvent } from "./events.ts";
import {
  type AnyWorkload,
  type Kind,
  type Revision,
  type Secret,
  sortRevisions,
  toRevision,
  toSecret,
  toWorkload,
  type Workload,
  type WorkloadName,
} from "./objects.ts";
import { type OwnedObjects, OwnedObjectsReader } from "./owned-objects.ts";
import type { Patience } from "./patience.ts";

/** The cluster, as far as figwasp asks it. The methods throw HttpError. */
export interface Cluster {
  clock: Clock;
  /** Where to look when no namespace is named. */
  namespace: string;
  getWorkload: (name: WorkloadName) => Promise<Workload>;
  /** In all namespaces if none is given. */
  listWorkloads: (kind: Kind, namespace: string | undefined, selector: string) => Promise<Workload[]>;
  readOwnedObjects: (workload: Workload) => Promise<OwnedObjects>;
  /** Its revisions in full, the newest first. */
  readRevisions: (workload: Workload) => Promise<Revision[]>;
  /** Undefined if the Secret does not exist. Status 403: the Role grants neither `get` nor `list`. */
  getSecret: (namespace: string, name: string) => Promise<Secret | undefined>;
  /** `linux/arm64`; undefined if there is no such node, or the Role does not grant to know it. Asked once for each. */
  getNodePlatform: (name: string) => Promise<string | undefined>;
  /** Whether the API server would allow it. */
  mayI: (right: Right) => Promise<boolean>;
  /** Status 403: the Role does not grant it. Status 409: an Event of this name exists already. */
  recordEvent: (event: WorkloadEvent) => Promise<void>;
  /** Sets annotations of the pod template, and resolves to what came of it. With `isDryRun` the API server writes
   *  nothing, and answers what it would write. Status 409: the workload is no longer the one given. */
  annotateTemplate: (workload: Workload, annotations: Annotations, options: WriteOptions) => Promise<WrittenTemplate>;
}

export interface WriteOptions {
  isDryRun: boolean;
}

/** The pod template after a change, as admission made it. */
export interface WrittenTemplate {
  /** The keys of annotations that were set and are not there: a webhook may remove what it does not know. */
  lostAnnotations: string[];
  /** By the name of the container. */
  images: ReadonlyMap<string, string>;
}

/** One right of a Role, or of a ClusterRole. */
export interface Right {
  /** Undefined for all namespaces. */
  namespace: string | undefined;
  verb: string;
  group: string;
  resource: string;
  name: string | undefined;
}

type Annotations = Record<string, string>;

/** Connects to the cluster of a kubeconfig, or to the pod's own. Throws ConfigError if there is no cluster, and Error
 *  if the kubeconfig does not authenticate. */
export async function connectCluster(fetch: Fetch, config: ClusterConfig, patience: Patience = {}): Promise<Cluster> {
  const { namespace: ownNamespace, call, clock } = await connectApi(fetch, config, patience);
  const ownedObjects = new OwnedObjectsReader(call);
  const getNodePlatform = nodePlatformReader(call);
  return {
    clock,
    namespace: ownNamespace,
    async getWorkload(name) {
      return toWorkload(name.kind, (await call(workloadPath(name))) as AnyWorkload);
    },
    async listWorkloads(kind, namespace, selector) {
      const pick = (object: AnyWorkload) => toWorkload(kind, object);
      const workloads = await listAll(call, appsPath(namespace, `${kind}s`), { selector, pick });
      ownedObjects.noteListed(workloads);
      return workloads;
    },
    readOwnedObjects: (workload) => ownedObjects.read(workload),
    async readRevisions({ kind, namespace, selector, uid }) {
      const path = appsPath(namespace, kind === "deployment" ? "replicasets" : "controllerrevisions");
      return sortRevisions(await listAll(call, path, { selector, pick: toRevision }), uid);
    },
    async getSecret(namespace, name) {
      const secret = await readSecret(call, namespace, name);
      return secret && toSecret(secret);
    },
    getNodePlatform,
    mayI: (right) => reviewAccess(call, right),
    async recordEvent(event) {
      const path = `/api/v1/namespaces/${event.metadata.namespace}/events`;
      await call(path, { method: "POST", body: JSON.stringify(event) });
    },
    annotateTemplate(workload, annotations, { isDryRun }) {
      return annotateTemplate(call, workload, { annotations, isDryRun, fieldManager: config.fieldManager });
    },
  };
}

function appsPath(namespace: string | undefined, resource: string): string {
  return `/apis/apps/v1/${namespace === undefined ? "" : `namespaces/${namespace}/`}${resource}`;
}

function workloadPath({ kind, namespace, name }: WorkloadName): string {
  return appsPath(namespace, `${kind}s/${name}`);
}

// The right is optional. Once it was refused, no other node is asked about, also if several wait for their turn.
function nodePlatformReader(call: Call): Cluster["getNodePlatform"] {
  const platforms = new Map<string, Promise<string | undefined>>();
  const lastCalls = new Map<string, Promise<unknown>>();
  let isRefused = false;
  const read = async (name: string) => {
    if (isRefused || name === "") return undefined;
    try {
      const { status } = (await call(`/api/v1/nodes/${encodeURIComponent(name)}`)) as V1Node;
      const { operatingSystem, architecture } = status?.nodeInfo ?? {};
      return operatingSystem && architecture ? `${operatingSystem}/${architecture}` : undefined;
    } catch (error) {
      isRefused ||= statusOf(error) === 403;
      if (![403, 404].includes(statusOf(error) ?? 0)) throw error;
      return undefined;
    }
  };
  return (name) => shareCall(platforms, name, () => oneAtATime(lastCalls, "nodes", () => read(name)));
}

// figwasp v1's Role grants `list` instead of `get`. The list is limited to this one Secret by a field selector.
async function readSecret(call: Call, namespace: string, name: string): Promise<V1Secret | undefined> {
  const path = `/api/v1/namespaces/${namespace}/secrets`;
  try {
    return (await call(`${path}/${encodeURIComponent(name)}`)) as V1Secret;
  } catch (refusal) {
    if (statusOf(refusal) === 404) return undefined;
    if (statusOf(refusal) !== 403) throw refusal;
    const query = new URLSearchParams({ fieldSelector: `metadata.name=${name}` });
    const list = await call(`${path}?${query.toString()}`).catch(rethrowFirst(refusal));
    return (list as KubernetesList<V1Secret>).items?.[0];
  }
}

// If the fallback is also forbidden, report the first refusal: it names the verb that the recommended Role should
// grant.
function rethrowFirst(refusal: unknown): (error: unknown) => never {
  return (error) => {
    throw statusOf(error) === 403 ? refusal : error;
  };
}

async function reviewAccess(call: Call, { namespace, verb, group, resource, name }: Right): Promise<boolean> {
  const resourceAttributes = { namespace, verb, group, resource, name };
  const body = JSON.stringify({ spec: { resourceAttributes } });
  const review = await call("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", { method: "POST", body });
  return (review as V1SelfSubjectAccessReview).status?.allowed === true;
}

/** What is written to which workload, and by whom. */
interface TemplateChange {
  path: string;
  /** With `dryRun=All` where nothing is to be written. */
  query: string;
  resourceVersion: string;
  annotations: Annotations;
}

async function annotateTemplate(
  call: Call,
  workload: Workload,
  { annotations, fieldManager, isDryRun }: WriteOptions & { annotations: Annotations; fieldManager: string },
): Promise<WrittenTemplate> {
  const { resourceVersion } = workload;
  const query = new URLSearchParams({ fieldManager, ...(isDryRun && { dryRun: "All" }) }).toString();
  const change = { path: workloadPath(workload), query, resourceVersion, annotations };
  const changed = await patchTemplate(call, change)
    .catch((error: unknown) => {
      if (statusOf(error) !== 403) throw error;
      return putTemplate(call, change, rethrowFirst(error));
    })
    .catch((error: unknown) => findChange(call, change, error));
  // An answer without a template is not one of an API server, and tells nothing about annotations.
  const { template } = changed.spec ?? {};
  if (!template) return { lostAnnotations: [], images: new Map() };
  const { metadata, spec } = template;
  return {
    lostAnnotations: Object.entries(annotations).flatMap(([key, value]) => {
      return metadata?.annotations?.[key] === value ? [] : [key];
    }),
    images: new Map(
      [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])].map(({ name, image = "" }) => [name, image]),
    ),
  };
}

// A change whose answer was lost is sent again, and conflicts with itself. So it is looked for before it counts as a
// conflict with somebody else's.
async function findChange(call: Call, { path, annotations }: TemplateChange, error: unknown): Promise<AnyWorkload> {
  const isRepeated = isHttpError(error) && error.status === 409 && error.tries > 1;
  if (!isRepeated) throw error;
  const object = (await call(path).catch(() => undefined)) as AnyWorkload | undefined;
  const found = object?.spec?.template.metadata?.annotations ?? {};
  const isMade = Object.entries(annotations).every(([key, value]) => found[key] === value);
  if (object && isMade) return object;
  throw error;
}

// With the resourceVersion the API server answers 409 if the workload is no longer the one that was judged. So two runs
// at the same time restart once.
async function patchTemplate(call: Call, change: TemplateChange): Promise<AnyWorkload> {
  const { path, query, resourceVersion, annotations } = change;
  const patch = { metadata: { resourceVersion }, spec: { template: { metadata: { annotations } } } };
  const headers = { "content-type": "application/strategic-merge-patch+json" };
  return (await call(`${path}?${query}`, { method: "PATCH", headers, body: JSON.stringify(patch) })) as AnyWorkload;
}

// figwasp v1's Role grants `update` instead of `patch`. The object goes back as it came, unknown fields included.
async function putTemplate(
  call: Call,
  { path, query, resourceVersion, annotations }: TemplateChange,
  onRefusal: (error: unknown) => never,
): Promise<AnyWorkload> {
  const object = (await call(path).catch(onRefusal)) as {
    metadata: { resourceVersion: string };
    spec: { template: { metadata?: { annotations?: Annotations } } };
  };
  if (object.metadata.resourceVersion !== resourceVersion) throw new HttpError(409, `${path} has changed in between`);
  const { template } = object.spec;
  template.metadata = { ...template.metadata, annotations: { ...template.metadata?.annotations, ...annotations } };
  return (await call(`${path}?${query}`, { method: "PUT", body: JSON.stringify(object) }).catch(
    onRefusal,
  )) as AnyWorkload;
}
