/**
 * Requests to the API server: plain JSON over one connection. The typed calls of the client library are not used
 * because they open a connection each, drop the fields that they do not know, and take no deadline.
 */
import { existsSync } from "node:fs";
import { STATUS_CODES } from "node:http";
import { homedir } from "node:os";
import { join } from "node:path";
import { oneAtATime } from "../calls.ts";
import { HttpError, statusOf } from "../errors.ts";
import { parseRetryAfter } from "../http/retry-after.ts";
import { type Fetch, readText } from "../http/transport.ts";
import { parseObject, withoutQuery } from "../text.ts";
import { userAgent } from "../version.ts";
import { type ClusterConfig, type Connection, readServiceAccount } from "./connection.ts";
import { readKubeconfig } from "./kubeconfig.ts";
import { askPatiently, type Patience } from "./patience.ts";

interface CallOptions {
  /** Default: GET. */
  method?: string;
  headers?: Record<string, string>;
  body?: string;
}

/** Asks for a path of the API server and resolves to the JSON object of the answer. Throws HttpError for any status of
 *  300 and above, with the message of the API server. */
export type Call = (path: string, options?: CallOptions) => Promise<unknown>;

/** The API server of one cluster. */
export interface Api {
  /** Where to look when no namespace is named. */
  namespace: string;
  call: Call;
  clock: Clock;
}

/** How far this machine's clock is ahead of the API server's, by its latest answer; undefined before the first one. */
export interface Clock {
  aheadMs: number | undefined;
}

/** Finds the API server as kubectl does: KUBECONFIG, ~/.kube/config, the pod's ServiceAccount. Sends no request yet.
 *  Throws ConfigError if there is none, and Error if a credential plugin fails. */
export async function connectApi(fetch: Fetch, config: ClusterConfig, patience: Patience): Promise<Api> {
  const connection = await findCluster(config);
  const clock: Clock = { aheadMs: undefined };
  // One request at a time, so that one connection is enough and a queued request does not spend its own deadline
  // waiting.
  const lastCalls = new Map<string, Promise<unknown>>();
  const send: Call = (path, options = {}) => request(fetch, connection, { path, clock, ...options });
  // While a request waits to be sent again, others are not held: of the few workloads that a run looks at at once, one
  // may be refused for a reason of its own, such as a webhook that is busy.
  const call: Call = (path, options) =>
    askPatiently(() => oneAtATime(lastCalls, connection.server, () => send(path, options)), patience);
  return { namespace: connection.namespace, call, clock };
}

// A kubeconfig comes first, as for kubectl. A pod has none, and then the library that reads it is not loaded.
async function findCluster(config: ClusterConfig): Promise<Connection> {
  const isGiven = config.kubeconfig !== undefined || config.context !== undefined || process.env["KUBECONFIG"];
  const hasKubeconfig = isGiven || existsSync(join(homedir(), ".kube/config"));
  const ofPod = hasKubeconfig ? undefined : readServiceAccount();
  return ofPod ?? readKubeconfig(config);
}

async function request(
  fetch: Fetch,
  { server, headers, agents }: Connection,
  { path, clock, method = "GET", ...options }: CallOptions & { path: string; clock: Clock },
): Promise<unknown> {
  const contentType = options.body === undefined ? {} : { "content-type": "application/json" };
  const allHeaders = {
    ...headers,
    accept: "application/json",
    "user-agent": userAgent,
    ...contentType,
    ...options.headers,
  };
  const url = server.replace(/\/+$/, "") + path;
  const response = await fetch(url, { ...options, method, headers: allHeaders, agents });
  const serverTime = Date.parse(response.headers.get("date") ?? "");
  if (!Number.isNaN(serverTime)) clock.aheadMs = Date.now() - serverTime;

  // A proxy between figwasp and the API server may answer with an HTML page.
  const object = parseObject(await readText(response));
  const isSuccess = response.status < 300;
  if (object && isSuccess) return object;
  const asked = `${method} ${withoutQuery(path)}`;
  if (isSuccess) throw new Error(`${asked} returned no JSON object`);
  const { message } = object ?? {}; // of a Status
  const reason = typeof message === "string" ? message : STATUS_CODES[response.status];
  const retryAfterSeconds = parseRetryAfter(response.headers.get("retry-after"), new Date());
  throw new HttpError(response.status, `${asked} returned ${response.status}: ${reason}`, { retryAfterSeconds });
}

export interface KubernetesList<Item> {
  items: Item[] | null;
  metadata: { continue?: string };
}

const pageSize = 500;
const maxExpiredLists = 3;

/** Reads a list in pages, and keeps of each object only what `pick` takes. The API server forgets an unfinished list
 *  after some minutes and then answers 410; the list is read again from its beginning, three times in all. */
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
      const options = accept === undefined ? {} : { headers: { accept } };
      const page = (await call(`${path}?${query.toString()}`, options)) as Partial<KubernetesList<never>>;
      if (page.items === undefined) throw new Error(`GET ${path} returned no list`);
      for (const item of page.items ?? []) items.push(pick(item));
      token = page.metadata?.continue || undefined;
    } catch (error) {
      if (statusOf(error) !== 410 || ++expired === maxExpiredLists) throw error;
      [items, token] = [[], ""];
    }
  }
  return items;
}
