/**
 * What a test of this folder has to itself: a namespace, a registry, nodes that are played, and a figwasp with the rights
 * of its recommended Role.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { V1Pod } from "@kubernetes/client-node";
import { connectCluster, main } from "../../../figwasp.ts";
import type { Digest } from "../../../lib/registry/manifest.ts";
import type { Outside } from "../../../lib/command/outside.ts";
import { fetch } from "../../../lib/http/fetch.ts";
import { eventually as repeat } from "../../../step-definitions/support/eventually.ts";
import { folderOf, imageOf, serveRegistry, sha256, type StubRegistry } from "../../support/registry.ts";
import { access, call, kubectl } from "./api.ts";
import { kubeconfigOf } from "./control-plane.ts";
import { makeNode, type Nodes, playNodes } from "./nodes.ts";
import { PlayedClock } from "./clock.ts";
import { hasRolledOut, manifestOf, type Wish, type Workload, type WorkloadKind } from "./workloads.ts";

export interface Run {
  code: number;
  lines: string[];
  /** What the API server was asked and answered: `PATCH deployments/web 200`, or `PATCH?dryRun=All deployments/web 200`
   *  of one that changes nothing. */
  asked: string[];
  /** The hosts that it asked beside the API server and those on loopback. Nobody is there. */
  strangers: string[];
}

/** Is told what figwasp asks of the API server, before that is sent: `PATCH`, `deployments/web`. A request that changes
 *  nothing is a `PATCH?dryRun=All`. */
export type Watch = (method: string, resource: string) => Promise<void> | void;

export interface Shop {
  namespace: string;
  /** Keeps what a tag pointed to, by its digest. */
  registry: StubRegistry;
  nodes: Nodes;
  /** The time that the API server tells figwasp. */
  clock: PlayedClock;
  /** kubectl as the administrator, in the namespace. */
  kubectl: (...argv: string[]) => Promise<string>;
  /** Makes a workload `web` of two pods, with a container `app` of the image `app:latest` if nothing else is wished. */
  make: (kind: WorkloadKind, wish?: Wish) => Promise<void>;
  read: (kind: WorkloadKind) => Promise<Workload>;
  /** Waits until `web` has rolled out. */
  rollOut: (kind: WorkloadKind) => Promise<void>;
  list: <T>(resource: string, group?: "api/v1" | "apis/apps/v1") => Promise<T[]>;
  /** The digests that its pods run, but for those that are to end or were evicted. */
  running: () => Promise<string[]>;
  /** The uids of its pods, but for those that are to end. */
  podUids: () => Promise<Set<string>>;
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
  const registry = keepAll(await serveRegistry(t));
  const nodes = playNodes(namespace, (image) => pulled(registry, image));
  t.after(() => closeShop(t, nodes, inNamespace));
  const kubeconfig = await kubeconfigOfAccount(t, namespace);
  const path = (kind: WorkloadKind, name = "") => `/apis/apps/v1/namespaces/${namespace}/${kind}s${name}`;
  const list = async <T>(resource: string, group = "api/v1") =>
    (await call<{ items: T[] }>("GET", `/${group}/namespaces/${namespace}/${resource}`)).items;
  let ownNodes: Promise<void> | undefined;
  const shop: Shop = {
    namespace,
    registry,
    nodes,
    clock: new PlayedClock(),
    kubectl: inNamespace,
    make: async (kind, wish = {}) => {
      if (kind === "daemonset") await (ownNodes ??= makeOwnNodes(namespace));
      const containers = [{ name: "app", image: registry.image("latest") }];
      const body = manifestOf(kind, ownNodesOf(namespace), { containers, ...wish });
      await call("POST", `${path(kind)}?fieldManager=${maker}`, { body });
    },
    read: (kind) => call("GET", path(kind, "/web")),
    rollOut: (kind) =>
      eventually(async () => assert(hasRolledOut(kind, await shop.read(kind)), `${kind}/web has not rolled out`)),
    list,
    running: async () => (await list<V1Pod>("pods")).flatMap(digestsOf),
    podUids: async () => new Set((await list<V1Pod>("pods")).flatMap(uidsOf)),
    figwasp: (kind, argv = [], watch = () => {}) => {
      return runFigwasp([...argv, `${kind}/web`, "-n", namespace, "--kubeconfig", kubeconfig], shop, watch);
    },
  };
  return shop;
}

// A registry has what no tag points to any more until somebody deletes it.
function keepAll(registry: StubRegistry): StubRegistry {
  const put: StubRegistry["put"] = (tag, stored) => {
    registry.manifests.set(sha256(stored.body), stored);
    return registry.put(tag, stored);
  };
  return { ...registry, put };
}

/** The field manager of the template that `make` makes. */
export const maker = "shop-operator";

/** What the registry gives for an image: what the tag has, or the digest that the image names. */
export function pulled(registry: StubRegistry, image: string): Digest | undefined {
  const [, digest] = image.split("@");
  const stored = registry.manifests.get(image.replace(/.*:/, ""));
  return digest !== undefined ? (digest as Digest) : stored && sha256(stored.body);
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

function uidsOf({ metadata }: V1Pod): string[] {
  return metadata?.uid === undefined || metadata.deletionTimestamp !== undefined ? [] : [metadata.uid];
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

/** Lets the controller of a Deployment give up after a second. Before the first rollout it might do so too early. */
export async function makeImpatient(shop: Shop): Promise<void> {
  await shop.kubectl("patch", "deployment/web", "--patch", '{"spec":{"progressDeadlineSeconds":1}}');
  await shop.rollOut("deployment");
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

async function runFigwasp(argv: string[], { namespace, clock }: Shop, watch: Watch): Promise<Run> {
  const run: Run = { code: -1, lines: [], asked: [], strangers: [] };
  const watched: Outside["fetch"] = async (url, init) => {
    const { hostname, pathname, searchParams } = new URL(url);
    if (!url.startsWith(access.server)) {
      if (hostname === "127.0.0.1") return fetch(url, init);
      run.strangers.push(hostname);
      throw new Error(`nobody is at ${hostname}`);
    }
    const resource = pathname.replace(/^.*\/namespaces\/[^/]+\//, "");
    const method = searchParams.has("dryRun") ? `${init.method}?dryRun=${searchParams.get("dryRun")}` : init.method;
    await watch(method, resource);
    const response = await fetch(url, init);
    run.asked.push(`${method} ${resource} ${response.status}`);
    return clock.translate(response);
  };
  const log = (line: string) => void run.lines.push(...line.split("\n"));
  // A test may keep a request waiting.
  const env = { FIGWASP_CLIENT_TIMEOUT: "60s" };
  const outside: Outside = { fetch: watched, connect: connectCluster, now: () => new Date(), log };
  run.code = await main(argv, env, outside);
  // Each test has a namespace of another name.
  return { ...run, lines: run.lines.map((line) => line.replaceAll(namespace, "shop")) };
}

/** Waits for a check to pass. */
export function eventually<T>(check: () => Promise<T>): Promise<T> {
  return repeat(check, { deadlineMs: 30_000, everyMs: 100 });
}

/** Waits until this second is over. The times of objects are whole seconds, and what was made in one second has no
 *  order. */
export async function nextSecond(): Promise<void> {
  await sleep(1000 - (Date.now() % 1000) + 1);
}

/** The PATCHes and PUTs of a run that were to change something. */
export function changesOf({ asked }: Run): string[] {
  return asked.filter((line) => /^(?:PATCH|PUT) /.test(line));
}

/** Lets figwasp look at `web` for the last time only after a check has passed. */
export function beforeTheLastLook(check: () => Promise<void>): Watch {
  let isRestarted = false;
  return async (method, resource) => {
    if (method === "PATCH") isRestarted = true;
    else if (isRestarted && resource.endsWith("/web")) await eventually(check);
  };
}

/** Whether a run restarted `web`, for whichever time. */
export function isRestart(run: Run): boolean {
  return /^restarted, outdated: app(?: \(try \d+\))?$/.test(verdictOf(run));
}

/** What the log says of `web` in the end: `restarted, outdated: app`. */
export function verdictOf({ lines }: Run): string {
  const subject = /^\w+ shop\/web: /;
  return lines.findLast((line) => subject.test(line))?.replace(subject, "") ?? lines.join("\n");
}
