/**
 * HTTP by Node's own client: what of `fetch` figwasp needs, over connections that are kept. Undici, which is Node's
 * `fetch` too, takes several times the CPU of a whole run to load, and ends a connection after each HEAD.
 */
import { once } from "node:events";
import { Agent, type ClientRequest, type IncomingMessage, request as requestPlainly } from "node:http";
import { Agent as TlsAgent, type AgentOptions, request as requestSecurely } from "node:https";
import { Readable } from "node:stream";

/** How a host is reached, by the scheme of its URL. */
export interface Agents {
  "http:": Agent;
  "https:": Agent;
  /** How long a connection may take to be made, in milliseconds. */
  dialTimeoutMs?: number | undefined;
  /** Puts an agent that trusts further CAs in place of the one for https, where there are any. */
  widenTrust?: () => void;
}

/** One connection to each host, which is kept: who asks a host waits for his turn before his deadline begins. */
export function newAgents(options: AgentOptions = {}): Agents {
  const kept = { keepAlive: true, maxSockets: 1, ...options };
  return { "http:": new Agent(kept), "https:": new TlsAgent(kept) };
}

export interface RequestInit {
  method: string;
  headers?: Record<string, string>;
  body?: string;
  /** Absent: any host, by the CAs that Node brings along. */
  agents?: Agents | undefined;
  signal?: AbortSignal;
}

/** An answer; one of `fetch` would do as well. */
export interface Response {
  status: number;
  url: string;
  headers: { get: (name: string) => string | null };
  /** To be read to its end, or to be cancelled: until then the connection is taken. */
  body: (AsyncIterable<Uint8Array> & { cancel: () => Promise<void> }) | null;
}

let byDefault: Agents | undefined;
/** Connections over which something was asked before; a request that has waited for one does not tell. */
const used = new WeakSet<object>();

/** Asks, and follows no redirect. The body of what is no success is read at once, to a limit, so that the connection is
 *  free for the next question. Throws what Node throws. */
export async function fetch(url: string, init: RequestInit): Promise<Response> {
  const { method, body, signal, agents = (byDefault ??= newAgents()) } = init;
  const isSecure = url.startsWith("https:");
  const agent = agents[isSecure ? "https:" : "http:"];
  const headers = { "accept-encoding": "identity", ...init.headers };
  const options = { method, headers, agent, ...(signal && { signal }) };
  const request = isSecure ? requestSecurely(url, options) : requestPlainly(url, options);
  if (agents.dialTimeoutMs !== undefined) limitDialling(request, agents.dialTimeoutMs);
  let isKept = false;
  request.once("socket", (socket) => {
    isKept = used.has(socket);
    used.add(socket);
  });
  // What breaks off after the answer has begun is heard by who reads the body.
  request.on("error", () => undefined);
  try {
    // A request that waits for a proxy's tunnel does not hear of its signal by itself.
    const answered = once(request.end(body), "response", signal && { signal });
    const [message] = (await answered) as [IncomingMessage];
    return await toResponse(message, url, init);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (isUntrusted(code)) agents.widenTrust?.();
    const isWider = isSecure && agents["https:"] !== agent;
    // The server ended a kept connection at the moment at which it was used again (RFC 9112, 9.3.1), or had sent more
    // than it should before.
    const isOfBefore = isKept && (code === "ECONNRESET" || code?.startsWith("HPE_"));
    const isLost = isOfBefore && (method === "GET" || method === "HEAD");
    if (isWider || isLost) return fetch(url, init);
    throw error;
  }
}

function limitDialling(request: ClientRequest, dialTimeoutMs: number): void {
  request.once("socket", (socket) => {
    if (!socket.connecting) return;
    const late = () => request.destroy(new Error(`no connection within ${dialTimeoutMs} ms`));
    const timer = setTimeout(late, dialTimeoutMs);
    for (const event of ["connect", "close"]) socket.once(event, () => clearTimeout(timer));
  });
}

async function toResponse(message: IncomingMessage, url: string, { method, signal }: RequestInit): Promise<Response> {
  const status = message.statusCode ?? 0;
  const get = (name: string) => {
    const value = message.headers[name];
    return Array.isArray(value) ? value.join(", ") : (value ?? null);
  };
  const answer = { status, url, headers: { get } };
  if (method === "HEAD") {
    message.resume();
    return { ...answer, body: null };
  }
  const encoding = message.headers["content-encoding"] ?? "identity";
  if (encoding !== "identity") {
    message.destroy();
    throw new Error(`it answered in content-encoding ${encoding}, which was not asked for`);
  }
  const chunks = status < 300 ? readFrom(message, signal) : await readRefusal(message);
  return { ...answer, body: Object.assign(chunks, { cancel: async () => void message.destroy() }) };
}

// Where the request was ended, that is why the body breaks off.
async function* readFrom(message: IncomingMessage, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  try {
    yield* message as AsyncIterable<Uint8Array>;
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}

/** Of the body of what is no success; more of it is not read. */
export const refusalLimitBytes = 64 * 1024;

// Nothing where it breaks off: the status says enough.
async function readRefusal(message: IncomingMessage): Promise<AsyncIterable<Uint8Array>> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of message as AsyncIterable<Uint8Array>) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > refusalLimitBytes) break;
    }
  } catch {
    chunks.length = 0;
  }
  return Readable.from(chunks);
}

const untrusted =
  /^(?:SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE_TO_(?:VERIFY_LEAF_SIGNATURE|GET_ISSUER_CERT(?:_LOCALLY)?))$/;

/** Whether a certificate is of nobody who is trusted, by the code of OpenSSL. */
export function isUntrusted(code: string | undefined): boolean {
  return untrusted.test(code ?? "");
}
