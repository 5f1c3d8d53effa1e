/**
 * What a test of this folder has to itself: a namespace, a registry, nodes that are played, and a figwasp with the rights
 * of its recommended Role.
 */
import { randomBytes } from "node:crypto";
import type { TestContext } from "node:test";
import type { V1Pod } from "@kubernetes/client-node";
import { connectCluster, main } from "../../../figwasp.ts";
import type { Outside } from "../../../lib/command/outside.ts";
import { fetch } from "../../../lib/http/fetch.ts";
import { eventually as repeat } from "../../../step-definitions/support/eventually.ts";
import { folderOf, imageOf, serveRegistry, sha256, type StubRegistry } from "../../support/registry.ts";
import { access, call, kubectl } from "./api.ts";
import { kubeconfigOf } from "./control-plane.ts";
import { makeNode, type Nodes, playNodes } from "./nodes.ts";
import { manifestOf, type Workload, type WorkloadKind } from "./workloads.ts";

export interface Run {
  code: number;
  lines: string[];
  /** What the API server was asked and answered: `PATCH deployments/web 200`. */
  asked: string[];
}

/** Is told what figwasp asks of the API server, before that is sent: `PATCH`, `deployments/web`. */
export type Watch = (method: string, resource: string) => Promise<void> | void;

export interface Shop {
  namespace: string;
  registry: StubRegistry;
  nodes: Nodes;
  /** kubectl as the administrator, in the namespace. */
  kubectl: (...argv: string[]) => Promise<string>;
  /** Makes a workload `web` of two pods with a container `app` of the image `app:latest`. */
  make: (kind: WorkloadKind) => Promise<void>;
  read: (kind: WorkloadKind) => Promise<Workload>;
  /** Waits until `web` has rolled out, as kubectl sees it. */
  rollOut: (kind: WorkloadKind) => Promise<void>;
  list: <T>(resource: string, group?: "api/v1" | "apis/apps/v1") => Promise<T[]>;
  /** The digests that its pods run, but for those that are to end or were evicted. */
  running: () => Promise<string[]>;
  /** Runs figwasp for `web`, as the ServiceAccount `figwasp`. */
  figwasp: (kind: WorkloadKind, argv?: string[], watch?: Watch) => Promise<Run>;
}

interface ShopOptions {
  /** The file that grants figwasp its rights. */
  role?: string;
}

/** Opens one for the time of a test. */
export async function openShop(t: TestContext, { role = "deploy/base/rbac.yaml" }: ShopOptions = {}): Promise<Shop> {
  const namespace = `shop-${randomBytes(4).toString("hex")}`;
  await call("POST", "/api/v1/namespaces", { body: { metadata: { name: namespace } } });
  const inNamespace = (...argv: string[]) => kubectl("--namespace", namespace, ...argv);
  await inNamespace("apply", "--filename", role);
  const registry = await serveRegistry(t);
  const nodes = playNodes(namespace, (image) => {
    const stored = registry.manifests.get(image.replace(/.*:/, ""));
    return stored && sha256(stored.body);
  });
  t.after(() => closeShop(t, nodes, inNamespace));
  const kubeconfig = await kubeconfigOfAccount(t, namespace);
  const path = (kind: WorkloadKind, name = "") => `/apis/apps/v1/namespaces/${namespace}/${kind}s${name}`;
  const list = async <T>(resource: string, group = "api/v1") =>
    (await call<{ items: T[] }>("GET", `/${group}/namespaces/${namespace}/${resource}`)).items;
  let ownNodes: Promise<void> | undefined;
  return {
    namespace,
    registry,
    nodes,
    kubectl: inNamespace,
    make: async (kind) => {
      if (kind === "daemonset") await (ownNodes ??= makeOwnNodes(namespace));
      await call("POST", path(kind), { body: manifestOf(kind, registry.image("latest"), ownNodesOf(namespace)) });
    },
    read: (kind) => call("GET", path(kind, "/web")),
    rollOut: async (kind) => void (await inNamespace("rollout", "status", `${kind}/web`, "--timeout=60s")),
    list,
    running: async () => (await list<V1Pod>("pods")).flatMap(digestsOf),
    figwasp: (kind, argv = [], watch = () => {}) => {
      return runFigwasp([...argv, `${kind}/web`, "-n", namespace, "--kubeconfig", kubeconfig], namespace, watch);
    },
  };
}

// Of a test that has failed it tells what is in the namespace.
async function closeShop(t: TestContext, nodes: Nodes, inNamespace: Shop["kubectl"]): Promise<void> {
  try {
    // The types do not know it.
    const { passed } = t as TestContext & { passed: boolean };
    if (!passed) t.diagnostic(await inNamespace("get", "all,controllerrevisions,events", "--output=wide"));
  } finally {
    await nodes.end();
  }
}

function digestsOf({ metadata, status }: V1Pod): string[] {
  if (metadata?.deletionTimestamp !== undefined || status?.phase === "Failed") return [];
  return (status?.containerStatuses ?? []).map(({ imageID }) => imageID.replace(/.*@/, ""));
}

/** One with a Deployment that has rolled out, and whose tag has moved since. */
export async function openOutdated(t: TestContext, options?: ShopOptions): Promise<Shop> {
  const shop = await openShop(t, options);
  shop.registry.put("latest", imageOf("old"));
  await shop.make("deployment");
  await shop.rollOut("deployment");
  shop.registry.put("latest", imageOf("new"));
  return shop;
}

// Nodes belong to no namespace. A DaemonSet shall find two, and not those of other tests.
async function makeOwnNodes(namespace: string): Promise<void> {
  for (const letter of ["a", "b"]) await makeNode(`${namespace}-${letter}`, ownNodesOf(namespace));
}

function ownNodesOf(namespace: string): Record<string, string> {
  return { shop: namespace };
}

// A ServiceAccount's token, as the kubelet would ask for it.
async function kubeconfigOfAccount(t: TestContext, namespace: string): Promise<string> {
  const path = `/api/v1/namespaces/${namespace}/serviceaccounts/figwasp/token`;
  const { status } = await call<{ status: { token: string } }>("POST", path, { body: { spec: {} } });
  const folder = await folderOf(t, { kubeconfig: kubeconfigOf({ ...access, token: status.token, namespace }) });
  return `${folder}/kubeconfig`;
}

async function runFigwasp(argv: string[], namespace: string, watch: Watch): Promise<Run> {
  const lines: string[] = [];
  const asked: string[] = [];
  const watched: Outside["fetch"] = async (url, init) => {
    if (!url.startsWith(access.server)) return fetch(url, init);
    const resource = new URL(url).pathname.replace(/^.*\/namespaces\/[^/]+\//, "");
    await watch(init.method, resource);
    const response = await fetch(url, init);
    asked.push(`${init.method} ${resource} ${response.status}`);
    return response;
  };
  const log = (line: string) => void lines.push(...line.split("\n"));
  // A test may keep a request waiting.
  const env = { FIGWASP_CLIENT_TIMEOUT: "60s" };
  const code = await main(argv, env, { fetch: watched, connect: connectCluster, now: () => new Date(), log });
  // Each test has a namespace of another name.
  const inShop = (line: string) => line.replaceAll(namespace, "shop");
  return { code, lines: lines.map(inShop), asked };
}

/** Waits for a check to pass. */
export function eventually<T>(check: () => Promise<T>): Promise<T> {
  return repeat(check, { deadlineMs: 30_000, everyMs: 100 });
}
