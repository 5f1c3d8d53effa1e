/** A realistic cluster of a given size, and the registries of its images. Objects have every field that the API server
 *  adds, and each Deployment has ten older ReplicaSets. Nothing in the cluster is outdated. */
import { giving, routes } from "./doors.ts";
import { digestOf, types } from "./registry.ts";
import type { Answer } from "./serve.ts";

export interface Size {
  pods: number;
  workloads: number;
  namespaces: number;
  images: number;
  registries: number;
}

/** For 10 000 pods: 2 000 workloads in 20 namespaces, with 400 images from 5 registries. */
export function sizeOf(pods: number): Size {
  const share = (of: number) => Math.ceil(pods / of);
  return { pods, workloads: share(5), namespaces: share(500), images: share(25), registries: share(2000) };
}

const kinds: Record<string, string> = {
  pods: "Pod",
  deployments: "Deployment",
  statefulsets: "StatefulSet",
  daemonsets: "DaemonSet",
  replicasets: "ReplicaSet",
  controllerrevisions: "ControllerRevision",
};

interface Listed {
  resource: string;
  namespace: string;
  name: string;
  labels: Record<string, string>;
  json: string;
}

type Made = { resource: string; object: { metadata: Metadata } };
type Metadata = { namespace: string; name: string; labels: Record<string, string> };

/** An API server with all these objects, which answers lists in pages. The images are spread over the registries. */
export function crowd(size: Size, registries: string[]): Answer {
  const numbers = Array.from({ length: size.workloads }, (_each, number) => number);
  const all = numbers.flatMap((number) => workloadOf(number, size, registries)).map(toListed);
  const byPlace = Map.groupBy(all, ({ resource, namespace }) => `${namespace}/${resource}`);
  const byResource = Map.groupBy(all, ({ resource }) => resource);
  return ({ path }, response) => {
    const { pathname, searchParams } = new URL(path, "http://crowd");
    const [, version = "", namespace, resource = "", name] =
      /^\/(?:api|apis)\/(v1|apps\/v1)(?:\/namespaces\/([^/]+))?\/([^/]+)(?:\/([^/]+))?$/.exec(pathname) ?? [];
    const found = (namespace === undefined ? byResource.get(resource) : byPlace.get(`${namespace}/${resource}`)) ?? [];
    const one = found.find((each) => each.name === name);
    const kind = kinds[resource] ?? "";
    const list = () => typed(`${kind}List`, version, pageOf(found, searchParams));
    const body = name === undefined ? list() : one && typed(kind, version, one.json);
    response.writeHead(body === undefined ? 404 : 200, { "content-type": "application/json" });
    response.end(body ?? JSON.stringify({ kind: "Status", code: 404, message: `no ${pathname}` }));
  };
}

// Like the API server: a single object and a list have these fields, an object within a list does not.
function typed(kind: string, apiVersion: string, json: string): string {
  return JSON.stringify({ kind, apiVersion }).slice(0, -1) + json.replace("{", ",");
}

function pageOf(found: Listed[], query: URLSearchParams): string {
  const wanted = (query.get("labelSelector") ?? "").split(",").filter((term) => term !== "");
  const selected = found.filter(({ labels }) => wanted.every((term) => isTrue(term, labels)));
  const from = Number(query.get("continue") ?? 0);
  const to = from + (Number(query.get("limit") ?? 0) || selected.length);
  const metadata = { resourceVersion: "1", ...(to < selected.length && { continue: String(to) }) };
  const items = selected.slice(from, to).map(({ json }) => json);
  return `{"metadata":${JSON.stringify(metadata)},"items":[${items.join(",")}]}`;
}

function isTrue(term: string, labels: Record<string, string>): boolean {
  const [key = "", value] = term.split("=");
  return labels[key] === value;
}

/** A registry that serves each image only with a token and gives a token to everybody, as most public ones do. */
export function publicRegistry(): Answer {
  const images: Answer = ({ path }, response) => {
    const [, repository = ""] = /^\/v2\/(.*)\/manifests\//.exec(path) ?? [];
    const headers = { "content-type": types.index, "content-length": 1024 };
    response.writeHead(200, { ...headers, "docker-content-digest": digestOf(repository) }).end();
  };
  // With a Content-Length also without a body, as registries send it: otherwise a client may end the connection.
  const challenge: Answer = ({ headers: { host } }, response) => {
    const realm = `Bearer realm="https://${host}/token",service="crowd"`;
    response.writeHead(401, { "www-authenticate": realm, "content-length": 0 }).end();
  };
  return routes({
    "/token": giving({ "": "open" }),
    "/v2/": (request, response) => (request.headers.authorization ? images : challenge)(request, response),
  });
}

// A Deployment with its ReplicaSets and pods; one workload in ten is a StatefulSet, and one in ten a DaemonSet.
function workloadOf(number: number, size: Size, registries: string[]): Made[] {
  const kind = ({ 8: "StatefulSet", 9: "DaemonSet" } as const)[number % 10] ?? "Deployment";
  const isDeployment = kind === "Deployment";
  const name = `app-${number}`;
  const imageNumber = number % size.images;
  const app: App = {
    namespace: `shop-${number % size.namespaces}`,
    name,
    labels: { "app.kubernetes.io/name": name },
    owner: { apiVersion: "apps/v1", kind, name, uid: `uid-of-${name}`, controller: true },
    podCount: Math.min(5, size.pods - 5 * number),
    repository: `team/image-${imageNumber}`,
    registry: registries[imageNumber % registries.length] ?? "",
    hashLabel: isDeployment ? "pod-template-hash" : "controller-revision-hash",
  };
  const revisions = Array.from({ length: newest }, (_each, at) => revisionOf(app, at + 1));
  const pods = Array.from({ length: app.podCount }, (_each, at) => podOf(app, at));
  return [
    { resource: `${kind.toLowerCase()}s`, object: templateOf(app) },
    ...revisions.map((object) => ({ resource: isDeployment ? "replicasets" : "controllerrevisions", object })),
    ...pods.map((object) => ({ resource: "pods", object })),
  ];
}

interface App extends Metadata {
  owner: { apiVersion: string; kind: string; name: string; uid: string; controller: true };
  podCount: number;
  repository: string;
  registry: string;
  hashLabel: string;
}

const newest = 11;

function templateOf(app: App) {
  const { namespace, name, labels, owner, podCount: count } = app;
  const status = { observedGeneration: newest, replicas: count, updatedReplicas: count, availableReplicas: count };
  return {
    metadata: metadataOf(
      { namespace, name, labels: { ...labels, "figwasp/target": "true" } },
      {
        uid: owner.uid,
        generation: newest,
        annotations: { "deployment.kubernetes.io/revision": `${newest}` },
      },
    ),
    spec: {
      replicas: count,
      selector: { matchLabels: labels },
      strategy: { type: "RollingUpdate" },
      template: { metadata: { labels, annotations: { "prometheus.io/scrape": "true" } }, spec: podSpec(app) },
    },
    status: { ...status, readyReplicas: count, desiredNumberScheduled: count, updateRevision: revisionName(app) },
  };
}

function revisionName({ name }: App, revision = newest): string {
  return `${name}-r${revision}`;
}

// A ReplicaSet as metadata only, since figwasp asks for no more; or a ControllerRevision.
function revisionOf(app: App, revision: number) {
  const name = revisionName(app, revision);
  const labels = { ...app.labels, [app.hashLabel]: name };
  const annotations = { "deployment.kubernetes.io/revision": `${revision}` };
  const more = { uid: `uid-of-${name}`, annotations, ownerReferences: [app.owner] };
  return { metadata: metadataOf({ namespace: app.namespace, name, labels }, more), revision };
}

function podOf(app: App, at: number) {
  const { namespace, name, owner } = app;
  const revision = revisionName(app);
  const labels = { ...app.labels, [app.hashLabel]: revision };
  const replicaSet = { ...owner, kind: "ReplicaSet", name: revision, uid: `uid-of-${revision}` };
  const ownerReferences = [owner.kind === "Deployment" ? replicaSet : owner];
  const metadata = metadataOf(
    { namespace, name: `${name}-${at}`, labels },
    { uid: `uid-${at}-of-${name}`, ownerReferences },
  );
  return { metadata, spec: { ...podSpec(app), nodeName: `node-${at}` }, status: podStatus(app) };
}

function metadataOf(of: Metadata, more: object) {
  return { ...of, resourceVersion: "4711", creationTimestamp: "2026-11-01T08:00:00Z", ...more };
}

function imageOf({ registry, repository }: App): string {
  return `${registry}/${repository}`;
}

function podSpec(app: App) {
  const env = Array.from({ length: 12 }, (_each, at) => ({ name: `SETTING_${at}`, value: `what setting ${at} says` }));
  const probe = { httpGet: { path: "/healthz", port: 8080, scheme: "HTTP" }, periodSeconds: 10, failureThreshold: 3 };
  const volumeMounts = [{ name: "kube-api-access", readOnly: true, mountPath: "/var/run/secrets/kubernetes.io" }];
  const resources = { requests: { cpu: "100m", memory: "128Mi" }, limits: { memory: "256Mi" } };
  const container = {
    name: "app",
    image: `${imageOf(app)}:latest`,
    imagePullPolicy: "Always",
    env,
    resources,
    volumeMounts,
  };
  return {
    containers: [{ ...container, livenessProbe: probe, readinessProbe: probe, ports: [{ containerPort: 8080 }] }],
    volumes: [{ name: "kube-api-access", projected: { sources: [{ serviceAccountToken: { path: "token" } }] } }],
    tolerations: [{ key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoExecute" }],
    serviceAccountName: "default",
    restartPolicy: "Always",
    securityContext: { runAsNonRoot: true },
  };
}

function podStatus(app: App) {
  const imageID = `${imageOf(app)}@${digestOf(app.repository)}`;
  const at = "2026-11-01T08:00:10Z";
  const conditions = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
  return {
    phase: "Running",
    podIP: "10.1.2.3",
    conditions: conditions.map((type) => ({ type, status: "True", lastProbeTime: null, lastTransitionTime: at })),
    containerStatuses: [{ name: "app", ready: true, restartCount: 0, imageID, state: { running: { startedAt: at } } }],
  };
}

// With managedFields, which are a large part of every object that the API server returns.
function toListed({ resource, object }: Made): Listed {
  const { namespace, name, labels } = object.metadata;
  const manager = { manager: "kube-controller-manager", operation: "Update", time: "2026-11-01T08:00:00Z" };
  const managedFields = [{ ...manager, fieldsType: "FieldsV1", fieldsV1: fieldsOf(object) }];
  const json = JSON.stringify({ ...object, metadata: { ...object.metadata, managedFields } });
  return { resource, namespace, name, labels, json };
}

function fieldsOf(value: unknown): object {
  if (Array.isArray(value)) return Object.fromEntries(value.map((each, at) => [`k:{"name":"${at}"}`, fieldsOf(each)]));
  if (typeof value !== "object" || value === null) return {};
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [`f:${key}`, fieldsOf(each)]));
}
