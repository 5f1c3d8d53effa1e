/**
 * How figwasp asks a server, be it a registry, its token server or the API server: deadlines, errors that say what
 * was asked, bounded bodies, and redirects that carry nothing along and lead to no private place. What is asked, and
 * what the answer means, is in figwasp.ts.
 */
import { STATUS_CODES } from "node:http";
import { isObject, messageOf, oneLine, parseObject, withoutQuery } from "../text.ts";
import { type Agents, refusalLimitBytes, type RequestInit, type Response } from "./fetch.ts";
import { refuseInward } from "./inward.ts";

export { HttpError, statusOf } from "../errors.ts";

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** `fetch` as all of figwasp uses it, towards registries and the API server: each request has a deadline in
 *  milliseconds and ends with the run; what fails says what was asked. */
export function boundFetch(fetch: Fetch, timeoutMs: number, runSignal: AbortSignal): Fetch {
  return async (url, init) => {
    const deadline = AbortSignal.timeout(timeoutMs);
    try {
      return await fetch(url, { ...init, signal: AbortSignal.any([runSignal, deadline]) });
    } catch (cause) {
      let outcome = `failed: ${reasonOf(cause)}`;
      if (deadline.aborted) outcome = `gave no answer within ${timeoutMs / 1000} s`;
      if (runSignal.aborted) outcome = `was ended: ${reasonOf(runSignal.reason)}`;
      throw new Error(`${init.method} ${withoutQuery(url)} ${outcome}`, { cause });
    }
  };
}

/** Down to what happened: Node tries several addresses at once, and older releases of it name a proxy with its password. */
export function reasonOf(error: unknown): string {
  return messageOf(rootOf(error)).replace(/\/\/[^/\s@]*@/g, "//");
}

/** The error code of Node or OpenSSL at the root of what was thrown: `ECONNRESET`. */
export function codeOf(error: unknown): string | undefined {
  return (rootOf(error) as NodeJS.ErrnoException | undefined)?.code;
}

/** Whether a deadline of boundFetch has passed. */
export function isLate(error: unknown): boolean {
  return (rootOf(error) as Error | undefined)?.name === "TimeoutError";
}

function rootOf(error: unknown): unknown {
  if (error instanceof AggregateError && error.errors.length > 0) return rootOf(error.errors[0]);
  return error instanceof Error && error.cause instanceof Error ? rootOf(error.cause) : error;
}

/** What a request needs beside its URL. */
export interface Question {
  method: string;
  headers: Record<string, string>;
  /** How the host of the URL is reached: its CA, client certificate, proxy. */
  agents?: Agents | undefined;
  /** How any other host is reached, to which a redirect leads. */
  otherAgents?: Agents | undefined;
}

/** What came, and from which address in the end. */
export interface Answer {
  response: Response;
  url: string;
}

const redirectLimit = 5;

/** Asks, and follows redirects by itself: never from https to http, never inwards from a public host, and with nothing
 *  but `accept` and `user-agent` on to another scheme, host or port (distribution-spec, "Redirects";
 *  GHSA-vh4v-2xq2-g5cg). Throws Error. */
export async function send(fetch: Fetch, url: string, question: Question, hops = 0): Promise<Answer> {
  const { otherAgents, agents = otherAgents, ...init } = question;
  const response = await fetch(url, { ...init, agents });
  const location = response.headers.get("location");
  if (response.status < 300 || response.status > 399 || location === null) return { response, url };

  const from = new URL(url);
  const asked = `${init.method} ${from.origin}${from.pathname}`;
  const to = parseAddress(location, url, `${asked} was redirected, and the address`);
  const isDowngrade = from.protocol === "https:" && to.protocol !== "https:";
  if (isDowngrade) throw new Error(`${asked} was redirected from https to ${to.origin}`);
  if (hops === redirectLimit) throw new Error(`${asked} was redirected more than ${redirectLimit} times`);
  if (to.origin === from.origin) return send(fetch, to.href, question, hops + 1);

  await refuseInward(from.hostname, to.hostname, `${asked} was redirected, and ${to.origin}`);
  const { accept = "*/*", "user-agent": userAgent = "" } = init.headers;
  const headers = { accept, "user-agent": userAgent };
  return send(fetch, to.href, { method: init.method, headers, otherAgents }, hops + 1);
}

/** An address that a server gave: http or https, without a user name, and without what a URL parser would read
 *  otherwise than the next one. Throws Error, which begins with `what`. */
export function parseAddress(text: string, base: string, what: string): URL {
  // eslint-disable-next-line no-control-regex -- they are what is looked for
  const isOdd = /[\u0000-\u0020\u007f\\]/.test(text) || !URL.canParse(text, base);
  // The text itself is not shown: it may hold what was signed or a password.
  if (isOdd) throw new Error(`${what} is not a URL`);
  if (/^[^?#]*@/.test(text)) throw new Error(`${what} holds a user name`);
  const url = new URL(text, base);
  if (!/^https?:$/.test(url.protocol)) throw new Error(`${what} is neither https nor http`);
  return url;
}

/** The whole body; throws where it breaks off or is longer than the limit. */
export async function readBody(response: Response, limitBytes: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunksOf(response)) {
    chunks.push(chunk);
    size += chunk.length;
    if (size > limitBytes)
      throw new Error(`The answer of ${withoutQuery(response.url)} is longer than ${limitBytes} bytes`);
  }
  return Buffer.concat(chunks);
}

/** The whole body as a text, which takes half the memory of its bytes and their copy; throws where it breaks off. */
export async function readText(response: Response): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of chunksOf(response)) text += decoder.decode(chunk, { stream: true });
  return text + decoder.decode();
}

async function* chunksOf({ body, url }: Response): AsyncGenerator<Uint8Array> {
  try {
    yield* body ?? [];
  } catch (cause) {
    throw new Error(`The answer of ${withoutQuery(url)} broke off: ${reasonOf(cause)}`, { cause });
  }
}

/** A status in words, with code and message of the error body, which are a registry's own words for it; on one line,
 *  and cut. See distribution-spec, "Error Codes". */
export async function describeRefusal(response: Response): Promise<string> {
  const status = `${response.status} ${STATUS_CODES[response.status] ?? ""}`.trim();
  const { errors } = parseObject(await readBody(response, refusalLimitBytes).catch(() => Buffer.alloc(0))) ?? {};
  const first: unknown = Array.isArray(errors) ? errors[0] : undefined;
  const { code, message } = isObject(first) ? first : {};
  const words = [code, message].flatMap((word) => (typeof word === "string" && word !== "" ? [oneLine(word)] : []));
  return words.length > 0 ? `${status} (${words.join(": ")})` : status;
}
