/**
 * HTTP requests by Node's own client, over connections that are kept: the part of the standard `fetch` that figwasp
 * needs. Node's built-in `fetch`, which is Undici, takes several times the CPU of a whole run to load, and closes a
 * connection after each HEAD.
 */
import { once } from "node:events";
import { Agent, type ClientRequest, type IncomingMessage, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, type AgentOptions, request as requestHttps } from "node:https";
import { Readable } from "node:stream";

/** How a host is reached, by the scheme of its URL. */
export interface Agents {
  "http:": Agent;
  "https:": Agent;
  /** How long it may take to make a connection, in milliseconds. */
  dialTimeoutMs?: number | undefined;
  /** Replaces the agent for https by one that also trusts the CAs of the system's store. Absent where that has happened
   *  or is not wanted. */
  trustSystemStore?: () => void;
}

/** Agents that keep one connection to each host. A second request to a host therefore waits inside the agent; a caller
 *  that does not want its deadline to pass there sends one request at a time. */
export function newAgents(options: AgentOptions = {}): Agents {
  const agentOptions = { keepAlive: true, maxSockets: 1, ...options };
  return { "http:": new Agent(agentOptions), "https:": new HttpsAgent(agentOptions) };
}

/** What a request is made of, beside its URL. */
export interface RequestInit {
  method: string;
  headers?: Record<string, string>;
  body?: string;
  /** Absent: agents for any host, which trust the CAs that Node brings along. */
  agents?: Agents | undefined;
  signal?: AbortSignal;
}

/** A response. One of the standard `fetch` has this shape too. */
export interface Response {
  status: number;
  url: string;
  headers: { get: (name: string) => string | null };
  /** Null after a HEAD. Otherwise to be read to its end or cancelled, since it occupies the connection until then. */
  body: (AsyncIterable<Uint8Array> & { cancel: () => Promise<void> }) | null;
}

let defaultAgents: Agents | undefined;
/** Connections that have carried a request. */
const usedSockets = new WeakSet<object>();

/** Sends a request, and follows no redirect. The body of a response other than 2xx is read at once, up to
 *  `errorBodyLimitBytes`, so that the connection is free for the next request.
 *
 *  A failed request is sent once more where another outcome is likely:
 *  1. the certificate was not trusted, and the system's store has not been asked yet;
 *  2. a GET or HEAD went over a kept connection that the server was just closing (RFC 9112, 9.3.1), or on which it had
 *     sent more than the response before.
 *  Rejects with Node's own error otherwise. */
export async function fetch(url: string, init: RequestInit): Promise<Response> {
  defaultAgents ??= newAgents();
  const { method, body, signal, agents = defaultAgents } = init;
  const isHttps = url.startsWith("https:");
  const agent = agents[isHttps ? "https:" : "http:"];
  const headers = { "accept-encoding": "identity", ...init.headers };
  const options = { method, headers, agent, ...(signal && { signal }) };
  const request = isHttps ? requestHttps(url, options) : requestHttp(url, options);
  if (agents.dialTimeoutMs !== undefined) limitDialing(request, agents.dialTimeoutMs);
  let isKeptConnection = false;
  request.once("socket", (socket) => {
    isKeptConnection = usedSockets.has(socket);
    usedSockets.add(socket);
  });
  // An error after the response has begun reaches the reader of the body; without a listener here it would end the
  // process.
  request.on("error", () => undefined);
  try {
    // The signal is given to `once` too: a request that waits for a proxy's tunnel does not react to its own.
    const response = once(request.end(body), "response", signal && { signal });
    const [message] = (await response) as [IncomingMessage];
    return await toResponse(message, url, init);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (isUntrusted(code)) agents.trustSystemStore?.();
    const hasNewAgent = isHttps && agents["https:"] !== agent;
    const isStaleConnection = isKeptConnection && (code === "ECONNRESET" || code?.startsWith("HPE_"));
    const isRepeatable = method === "GET" || method === "HEAD";
    if (hasNewAgent || (isStaleConnection && isRepeatable)) return fetch(url, init);
    throw error;
  }
}

function limitDialing(request: ClientRequest, dialTimeoutMs: number): void {
  request.once("socket", (socket) => {
    if (!socket.connecting) return;
    const giveUp = () => request.destroy(new Error(`no connection within ${dialTimeoutMs} ms`));
    const timer = setTimeout(giveUp, dialTimeoutMs);
    for (const event of ["connect", "close"]) socket.once(event, () => clearTimeout(timer));
  });
}

async function toResponse(message: IncomingMessage, url: string, { method, signal }: RequestInit): Promise<Response> {
  const status = message.statusCode ?? 0;
  const get = (name: string) => {
    const value = message.headers[name];
    return Array.isArray(value) ? value.join(", ") : (value ?? null);
  };
  const response = { status, url, headers: { get } };
  if (method === "HEAD") {
    message.resume();
    return { ...response, body: null };
  }
  const encoding = message.headers["content-encoding"] ?? "identity";
  if (encoding !== "identity") {
    message.destroy();
    throw new Error(`it answered in content-encoding ${encoding}, which was not asked for`);
  }
  const chunks = status < 300 ? readChunks(message, signal) : await readErrorBody(message);
  return { ...response, body: Object.assign(chunks, { cancel: async () => void message.destroy() }) };
}

// A body that breaks off because the signal fired is reported with the signal's reason, not with Node's "aborted".
async function* readChunks(message: IncomingMessage, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  try {
    yield* message as AsyncIterable<Uint8Array>;
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/** How much is read of the body of a response other than 2xx. */
export const errorBodyLimitBytes = 64 * 1024;

// A body that breaks off counts as empty, since the status is enough.
async function readErrorBody(message: IncomingMessage): Promise<AsyncIterable<Uint8Array>> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of message as AsyncIterable<Uint8Array>) {
      chunks.push(chunk);
      sizeBytes += chunk.length;
      if (sizeBytes > errorBodyLimitBytes) break;
    }
  } catch {
    chunks.length = 0;
  }
  return Readable.from(chunks);
}

const untrustedCodes =
  /^(?:SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE_TO_(?:VERIFY_LEAF_SIGNATURE|GET_ISSUER_CERT(?:_LOCALLY)?))$/;

/** Whether an error code of OpenSSL says that no trusted CA has issued the certificate: `SELF_SIGNED_CERT_IN_CHAIN`. */
export function isUntrusted(code: string | undefined): boolean {
  return untrustedCodes.test(code ?? "");
}
