/**
 * What figwasp adds to `fetch` for every server, be it a registry, its token server or the API server: a deadline,
 * errors that say what was requested, and bodies that are read up to a limit.
 */
import { STATUS_CODES } from "node:http";
import { isObject, messageOf, oneLine, parseObject, withoutQuery } from "../text.ts";
import { errorBodyLimitBytes, type RequestInit, type Response } from "./fetch.ts";

/** The part of `fetch` that figwasp uses. It follows no redirect, and rejects where no response came. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** `fetch` with a deadline in milliseconds for each request, its body included, that also ends with the run. Throws
 *  Error with method and URL, without the query: `GET https://r.example/v2/ failed: connect ECONNREFUSED`. */
export function boundFetch(fetch: Fetch, timeoutMs: number, runSignal: AbortSignal): Fetch {
  return async (url, init) => {
    const deadline = AbortSignal.timeout(timeoutMs);
    try {
      return await fetch(url, { ...init, signal: AbortSignal.any([runSignal, deadline]) });
    } catch (cause) {
      let outcome = `failed: ${reasonOf(cause)}`;
      if (runSignal.aborted) outcome = `was ended: ${reasonOf(runSignal.reason)}`;
      else if (deadline.aborted) outcome = `gave no answer within ${timeoutMs / 1000} s`;
      throw new Error(`${init.method} ${withoutQuery(url)} ${outcome}`, { cause });
    }
  };
}

/** The message of the innermost cause: `connect ECONNREFUSED 10.0.0.1:443`. User names and passwords of URLs are left
 *  out, since older releases of Node name a proxy with its password. */
export function reasonOf(error: unknown): string {
  return messageOf(rootOf(error)).replace(/\/\/[^/\s@]*@/g, "//");
}

/** The error code of Node or OpenSSL at the innermost cause: `ECONNRESET`. */
export function codeOf(error: unknown): string | undefined {
  return (rootOf(error) as NodeJS.ErrnoException | undefined)?.code;
}

/** Whether the innermost cause is that a deadline of boundFetch passed. */
export function isTimeout(error: unknown): boolean {
  return (rootOf(error) as Error | undefined)?.name === "TimeoutError";
}

// Node tries the addresses of a name at once, and throws an AggregateError where none of them answers.
function rootOf(error: unknown): unknown {
  if (error instanceof AggregateError && error.errors.length > 0) return rootOf(error.errors[0]);
  return error instanceof Error && error.cause instanceof Error ? rootOf(error.cause) : error;
}

/** The whole body as bytes. Throws Error where it breaks off, or is longer than the limit; then no more of it is
 *  read. */
export async function readBody(response: Response, limitBytes: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of chunksOf(response)) {
    chunks.push(chunk);
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) {
      throw new Error(`The answer of ${withoutQuery(response.url)} is longer than ${limitBytes} bytes`);
    }
  }
  return Buffer.concat(chunks);
}

/** The whole body as text, without a limit: only for the API server. It takes half the memory of reading the bytes
 *  first and decoding a copy of them. Throws Error where it breaks off. */
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

/** Describes an error response by its status, and by code and message of its first error where the body has one:
 *  `404 Not Found (MANIFEST_UNKNOWN: manifest unknown)`. The server's words are cut and put on one line. Never throws.
 *  See distribution-spec, "Error Codes". */
export async function describeRefusal(response: Response): Promise<string> {
  const status = `${response.status} ${STATUS_CODES[response.status] ?? ""}`.trim();
  const body = await readBody(response, errorBodyLimitBytes).catch(() => Buffer.alloc(0));
  const { errors } = parseObject(body) ?? {};
  const firstError: unknown = Array.isArray(errors) ? errors[0] : undefined;
  const { code, message } = isObject(firstError) ? firstError : {};
  const words = [code, message].flatMap((word) => (typeof word === "string" && word !== "" ? [oneLine(word)] : []));
  return words.length > 0 ? `${status} (${words.join(": ")})` : status;
}
