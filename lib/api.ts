/**
 * How the API server is found and asked. The client library finds the cluster and authenticates; the calls themselves
 * are plain JSON over one connection, because its typed calls open one each, drop the fields that they do not know, and
 * take no deadline.
 */
import { STATUS_CODES } from "node:http";
import { HttpMethod, KubeConfig, RequestContext } from "@kubernetes/client-node";
import { ConfigError, userAgent } from "./config.ts";
import { type Fetch, HttpError, messageOf, parseObject, readBody } from "./transport.ts";

const pageSize = 500;

type CallInit = { method?: string; headers?: Record<string, string>; body?: string };

/** Asks for a path of the API server, and gives the JSON that it answers. Throws HttpError. */
export type Call = (path: string, init?: CallInit) => Promise<unknown>;

/** Finds the API server as kubectl does: KUBECONFIG, ~/.kube/config, the pod's ServiceAccount. No request yet. Throws
 *  ConfigError where there is none or it cannot be used. */
export async function connectApi(fetch: Fetch): Promise<{ namespace: string; call: Call }> {
  const connection = await readKubeconfig();
  return { namespace: connection.namespace, call: (path, init = {}) => callApi(fetch, connection, path, init) };
}

type Connection = Awaited<ReturnType<typeof readKubeconfig>>;

async function callApi(fetch: Fetch, connection: Connection, path: string, init: CallInit): Promise<unknown> {
  const { server, headers, dispatcher } = connection;
  const { method = "GET" } = init;
  const sent = { ...headers, accept: "application/json", "user-agent": userAgent, ...init.headers };
  const options = { ...init, method, headers: sent, ...(dispatcher && { dispatcher }) };
  const response = await fetch(server.replace(/\/+$/, "") + path, options);
  const body = await readBody(response, Infinity);
  if (response.ok) return JSON.parse(body.toString("utf8"));
  // The message of a Status object; a proxy in between may answer with a page of its own.
  const { message } = parseObject(body) ?? {};
  const reason = typeof message === "string" ? message : STATUS_CODES[response.status];
  throw new HttpError(response.status, `${method} ${path.split("?")[0]} returned ${response.status}: ${reason}`);
}

/** All of a list, in pages. The API server forgets a list after some minutes and then answers 410: it starts over. */
export async function listAll<T>(call: Call, path: string, labelSelector: string, headers = {}): Promise<T[]> {
  let items: T[] = [];
  let token: string | undefined = "";
  for (let expired = 0; token !== undefined;) {
    const query = new URLSearchParams({ labelSelector, limit: `${pageSize}`, continue: token });
    try {
      const page = (await call(`${path}?${query.toString()}`, { headers })) as KubernetesList<T>;
      items.push(...(page.items ?? []));
      token = page.metadata.continue || undefined;
    } catch (error) {
      if (!(error instanceof HttpError && error.status === 410 && ++expired < 3)) throw error;
      [items, token] = [[], ""];
    }
  }
  return items;
}

export type KubernetesList<T> = { items: T[] | null; metadata: { continue?: string } };

async function readKubeconfig() {
  const kubeconfig = new KubeConfig();
  try {
    kubeconfig.loadFromDefault();
  } catch (cause) {
    throw new ConfigError(`Cannot read the kubeconfig: ${messageOf(cause)}`, { cause });
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
