/**
 * How the API server is found and asked. The client library finds the cluster and authenticates; the calls themselves
 * are plain JSON over one connection, because its typed calls open one each, drop the fields that they do not know, and
 * take no deadline.
 */
import { STATUS_CODES } from "node:http";
import { HttpMethod, KubeConfig, RequestContext } from "@kubernetes/client-node";
import { type Config, ConfigError, userAgent } from "./config.ts";
import { type Fetch, HttpError, messageOf, parseObject, quote, readBody, statusOf, withoutQuery } from "./transport.ts";

const pageSize = 500;

type CallInit = { method?: string; headers?: Record<string, string>; body?: string };

/** Asks for a path of the API server, and gives the JSON that it answers. Throws HttpError. */
export type Call = (path: string, init?: CallInit) => Promise<unknown>;

/** A kubeconfig file and one of its contexts, in place of those that kubectl would take; as whom to write, and where. */
export type Where = Pick<Config, "kubeconfig" | "context" | "fieldManager" | "restartAnnotation">;

/** Finds the API server as kubectl does: KUBECONFIG, ~/.kube/config, the pod's ServiceAccount. No request yet. Throws
 *  ConfigError where there is none or it cannot be used. */
export async function connectApi(fetch: Fetch, where: Where): Promise<Api> {
  const connection = await readKubeconfig(where);
  const clock: Clock = { aheadMs: undefined };
  const call: Call = (path, init = {}) => callApi(fetch, connection, { path, clock, ...init });
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

type Connection = Awaited<ReturnType<typeof readKubeconfig>>;

async function callApi(
  fetch: Fetch,
  { server, headers, dispatcher }: Connection,
  { path, clock, ...init }: CallInit & { path: string; clock: Clock },
): Promise<unknown> {
  const { method = "GET" } = init;
  const type = init.body === undefined ? {} : { "content-type": "application/json" };
  const sent = { ...headers, accept: "application/json", "user-agent": userAgent, ...type, ...init.headers };
  const options = { ...init, method, headers: sent, ...(dispatcher && { dispatcher }) };
  const response = await fetch(server.replace(/\/+$/, "") + path, options);
  const time = Date.parse(response.headers.get("date") ?? "");
  if (!Number.isNaN(time)) clock.aheadMs = Date.now() - time;
  const body = await readBody(response, Infinity);
  if (response.ok) return JSON.parse(body.toString("utf8"));
  // The message of a Status object; a proxy in between may answer with a page of its own.
  const { message } = parseObject(body) ?? {};
  const reason = typeof message === "string" ? message : STATUS_CODES[response.status];
  throw new HttpError(response.status, `${method} ${withoutQuery(path)} returned ${response.status}: ${reason}`);
}

/** What `pick` takes of each object of a list, read in pages, of which no more is kept. The API server forgets a list
 *  after some minutes and then answers 410: it starts over. */
export async function listAll<Picked>(
  call: Call,
  path: string,
  { selector, pick, accept }: { selector: string; pick: (object: never) => Picked; accept?: string | undefined },
): Promise<Picked[]> {
  let items: Picked[] = [];
  let token: string | undefined = "";
  for (let expired = 0; token !== undefined;) {
    const query = new URLSearchParams({ labelSelector: selector, limit: `${pageSize}`, continue: token });
    try {
      const init = accept === undefined ? {} : { headers: { accept } };
      const page = (await call(`${path}?${query.toString()}`, init)) as KubernetesList<never>;
      for (const item of page.items ?? []) items.push(pick(item));
      token = page.metadata.continue || undefined;
    } catch (error) {
      if (statusOf(error) !== 410 || ++expired === 3) throw error;
      [items, token] = [[], ""];
    }
  }
  return items;
}

export type KubernetesList<T> = { items: T[] | null; metadata: { continue?: string } };

async function readKubeconfig({ kubeconfig: file, context: wanted }: Where) {
  const kubeconfig = new KubeConfig();
  try {
    if (file === undefined) kubeconfig.loadFromDefault();
    else kubeconfig.loadFromFile(file);
  } catch (cause) {
    const which = file === undefined ? "the kubeconfig" : `the kubeconfig ${quote(file)}`;
    throw new ConfigError(`Cannot read ${which}: ${messageOf(cause)}`, { cause });
  }
  if (wanted !== undefined) {
    const names = kubeconfig.getContexts().map(({ name }) => name);
    if (!names.includes(wanted))
      throw new ConfigError(`Cannot find context ${quote(wanted)}: one of ${names.join(", ")} is needed`);
    kubeconfig.setCurrentContext(wanted);
  }
  const server = kubeconfig.getCurrentCluster()?.server;
  const context = kubeconfig.getContextObject(kubeconfig.getCurrentContext());
  // The library's last resort is a server that nobody has run since Kubernetes 1.20.
  if (!server || (context?.name === "loaded-context" && server === "http://localhost:8080")) {
    const needed = "a kubeconfig with a current context is needed, or a pod with a ServiceAccount token";
    throw new ConfigError(`Cannot find a cluster: ${needed}`);
  }
  // Once, for all calls: the library makes a new connection pool each time that it is asked.
  const sample = new RequestContext(server, HttpMethod.GET);
  await kubeconfig.applySecurityAuthentication(sample).catch((cause: unknown) => {
    const reason = messageOf(cause) || "its credential plugin failed";
    throw new Error(`Cannot authenticate as the kubeconfig says: ${reason}`, { cause });
  });
  const authentication = { headers: sample.getHeaders(), dispatcher: sample.getDispatcher() };
  return { server, namespace: context?.namespace || "default", ...authentication };
}
