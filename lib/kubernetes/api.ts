/**
 * How the API server is found and asked: plain JSON over one connection, because the typed calls of the client library open
 * one each, drop the fields that they do not know, and take no deadline.
 */
import { existsSync, readFileSync } from "node:fs";
import { STATUS_CODES } from "node:http";
import { homedir } from "node:os";
import { join } from "node:path";
import { oneAtATime } from "../calls.ts";
import { ConfigError } from "../errors.ts";
import { type Agents, newAgents } from "../http/fetch.ts";
import { type Fetch, HttpError, readText, statusOf } from "../http/transport.ts";
import { messageOf, parseObject, withoutQuery } from "../text.ts";
import { userAgent } from "../version.ts";
import { readKubeconfig } from "./kubeconfig.ts";

const pageSize = 500;

type CallInit = { method?: string; headers?: Record<string, string>; body?: string };

/** Asks for a path of the API server, and gives the JSON object that it answers. Throws HttpError. */
export type Call = (path: string, init?: CallInit) => Promise<unknown>;

/** Which cluster is asked, and how its workloads are written. */
export interface ClusterConfig {
  /** File; absent: KUBECONFIG, ~/.kube/config, the pod's ServiceAccount. */
  kubeconfig: string | undefined;
  /** Of the kubeconfig; absent: its current one. */
  context: string | undefined;
  /** Under which name the API server notes who wrote the annotations. */
  fieldManager: string;
  /** The pod-template annotation that makes the workload roll. */
  restartAnnotation: string;
}

/** Finds the API server as kubectl does: KUBECONFIG, ~/.kube/config, the pod's ServiceAccount. It is not asked yet.
 *  Throws ConfigError where there is none, and Error where a credential plugin fails. */
export async function connectApi(fetch: Fetch, config: ClusterConfig): Promise<Api> {
  const connection = await findCluster(config);
  const clock: Clock = { aheadMs: undefined };
  // One after the other, so that one connection does and nobody's deadline passes while he waits for his turn.
  const turns = new Map<string, Promise<unknown>>();
  const ask: Call = (path, init = {}) => callApi(fetch, connection, { path, clock, ...init });
  const call: Call = (path, init) => oneAtATime(turns, connection.server, () => ask(path, init));
  return { namespace: connection.namespace, call, clock };
}

export interface Api {
  /** Where to look when no namespace is named. */
  namespace: string;
  call: Call;
  clock: Clock;
}

/** How far this machine's clock is ahead of the API server's, by its latest answer; undefined before. */
export interface Clock {
  aheadMs: number | undefined;
}

/** Where the API server is, and as whom it is asked. */
export interface Connection {
  server: string;
  namespace: string;
  headers: Record<string, string>;
  agents: Agents;
}

// A kubeconfig comes first, as for kubectl. In a pod there is none, and nothing has to be loaded to read it.
async function findCluster(config: ClusterConfig): Promise<Connection> {
  const isGiven = config.kubeconfig !== undefined || config.context !== undefined || process.env["KUBECONFIG"];
  const pod = isGiven || existsSync(join(homedir(), ".kube/config")) ? undefined : readServiceAccount();
  return pod ?? readKubeconfig(config);
}

const accountFolder = "/var/run/secrets/kubernetes.io/serviceaccount";

/** What a pod finds of the API server, in files and variables (kubernetes.io, "Accessing the Kubernetes API from a Pod");
 *  undefined where there is none of it. Throws ConfigError. */
export function readServiceAccount(
  folder = accountFolder,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Connection | undefined {
  if (!existsSync(join(folder, "token"))) return undefined;
  const { KUBERNETES_SERVICE_HOST: host = "", KUBERNETES_SERVICE_PORT: port = "" } = env;
  const server = `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
  if (!URL.canParse(server)) {
    throw new ConfigError(
      "Cannot find a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not say where",
    );
  }
  try {
    const read = (name: string) => readFileSync(join(folder, name), "utf8").trim();
    const headers = { authorization: `Bearer ${read("token")}` };
    return { server, namespace: read("namespace") || "default", headers, agents: newAgents({ ca: read("ca.crt") }) };
  } catch (cause) {
    throw new ConfigError(`Cannot use the ServiceAccount in ${folder}: ${messageOf(cause)}`, { cause });
  }
}

async function callApi(
  fetch: Fetch,
  { server, headers, agents }: Connection,
  { path, clock, ...init }: CallInit & { path: string; clock: Clock },
): Promise<unknown> {
  const { method = "GET" } = init;
  const type = init.body === undefined ? {} : { "content-type": "application/json" };
  const sent = { ...headers, accept: "application/json", "user-agent": userAgent, ...type, ...init.headers };
  const options = { ...init, method, headers: sent, agents };
  const response = await fetch(server.replace(/\/+$/, "") + path, options);
  const time = Date.parse(response.headers.get("date") ?? "");
  if (!Number.isNaN(time)) clock.aheadMs = Date.now() - time;
  const body = await readText(response);
  // A proxy in between may answer with a page of its own.
  const object = parseObject(body);
  if (object && response.status < 300) return object;
  const { message } = object ?? {}; // of a Status
  const reason = typeof message === "string" ? message : STATUS_CODES[response.status];
  const asked = `${method} ${withoutQuery(path)}`;
  if (response.status < 300) throw new Error(`${asked} returned no JSON object`);
  throw new HttpError(response.status, `${asked} returned ${response.status}: ${reason}`);
}

/** What `pick` takes of each object of a list, read in pages, of which no more is kept. The API server forgets a list
 *  after some minutes and then answers 410: it starts over. */
export async function listAll<Picked>(
  call: Call,
  path: string,
  { selector, pick, accept }: { selector: string; pick: (object: never) => Picked; accept?: string },
): Promise<Picked[]> {
  let items: Picked[] = [];
  let token: string | undefined = "";
  for (let expired = 0; token !== undefined;) {
    const query = new URLSearchParams({ labelSelector: selector, limit: `${pageSize}`, continue: token });
    try {
      const init = accept === undefined ? {} : { headers: { accept } };
      const page = (await call(`${path}?${query.toString()}`, init)) as Partial<KubernetesList<never>>;
      if (page.items === undefined) throw new Error(`GET ${path} returned no list`);
      for (const item of page.items ?? []) items.push(pick(item));
      token = page.metadata?.continue || undefined;
    } catch (error) {
      if (statusOf(error) !== 410 || ++expired === 3) throw error;
      [items, token] = [[], ""];
    }
  }
  return items;
}

export type KubernetesList<T> = { items: T[] | null; metadata: { continue?: string } };
