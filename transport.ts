/**
 * How figwasp reaches a server, be it a registry or the API server: deadlines, errors that say what was asked,
 * bounded bodies, redirects that carry nothing along, and containerd's hosts.toml. What is asked, and what the
 * answer means, is in figwasp.ts.
 */
import { readFile } from "node:fs/promises";
import { STATUS_CODES } from "node:http";
import { join } from "node:path";
import { parse as parseToml } from "smol-toml";
import type { RequestInit, Response } from "undici";

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** `fetch` as all of figwasp uses it, towards registries and the API server: each request has a deadline in
 *  milliseconds and ends with the run; what fails says what was asked. Undici hides the reason in `cause`. */
export function boundFetch(fetch: Fetch, timeoutMs: number, runSignal: AbortSignal): Fetch {
  return async (url, init) => {
    const deadline = AbortSignal.timeout(timeoutMs);
    try {
      return await fetch(url, { ...init, signal: AbortSignal.any([runSignal, deadline]) });
    } catch (cause) {
      let outcome = `failed: ${reasonOf(cause)}`;
      if (deadline.aborted) outcome = `gave no answer within ${timeoutMs / 1000} s`;
      if (runSignal.aborted) outcome = `was ended: ${reasonOf(runSignal.reason)}`;
      throw new Error(`${init.method} ${url.split("?")[0]} ${outcome}`, { cause });
    }
  };
}

/** An answer other than the one asked for, of a registry or the API server. */
export class HttpError extends Error {
  /** Undefined where the answer was none of HTTP, such as a connection that broke off. */
  readonly status: number | undefined;
  constructor(status: number | undefined, message: string) {
    super(message);
    this.status = status;
  }
}

/** Down to what happened: undici says no more than "fetch failed", Node tries several addresses at once. */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  return error instanceof Error && error.cause instanceof Error ? reasonOf(error.cause) : messageOf(error);
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const redirectLimit = 5;

/** Asks, and follows redirects by itself: never from https to http, and never with an Authorization header on to
 *  another scheme, host or port (distribution-spec, "Redirects"; GHSA-vh4v-2xq2-g5cg). */
export async function send(
  fetch: Fetch,
  url: string,
  { method, headers, hops = 0 }: { method: string; headers: Record<string, string>; hops?: number },
): Promise<Response> {
  const response = await fetch(url, { method, headers, redirect: "manual" });
  const location = response.headers.get("location");
  if (response.status < 300 || response.status > 399 || location === null) return response;

  await response.body?.cancel();
  const [from, to] = [new URL(url), new URL(location, url)];
  const asked = `${method} ${from.origin}${from.pathname}`;
  const isDowngrade = from.protocol === "https:" && to.protocol !== "https:";
  if (isDowngrade) throw new Error(`${asked} was redirected from https to ${to.origin}`);
  if (hops === redirectLimit) throw new Error(`${asked} was redirected more than ${redirectLimit} times`);
  const { authorization: _withheld, ...others } = headers;
  return send(fetch, to.href, { method, headers: to.origin === from.origin ? headers : others, hops: hops + 1 });
}

/** The whole body; throws where it breaks off or is longer than the limit. */
export async function readBody(response: Response, limitBytes: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  const from = response.url.split("?")[0];
  try {
    for await (const chunk of response.body ?? []) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > limitBytes) break;
    }
  } catch (cause) {
    throw new Error(`The answer of ${from} broke off: ${reasonOf(cause)}`, { cause });
  }
  if (size > limitBytes) throw new Error(`The answer of ${from} is longer than ${limitBytes} bytes`);
  return Buffer.concat(chunks);
}

/** The JSON object that a body holds, or undefined. The text itself is never part of a message: it may be secret. */
export function parseObject(body: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body.toString("utf8"));
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A status in words, with the code of the error body, which is a registry's own word for it. */
export async function describeRefusal(response: Response): Promise<string> {
  const status = `${response.status} ${STATUS_CODES[response.status] ?? ""}`.trim();
  const body = await readBody(response, 64 * 1024).catch(() => Buffer.alloc(0));
  const code = /"code"\s*:\s*"([A-Z_]{1,40})"/.exec(body.toString("utf8"))?.[1];
  const hint = response.status === 401 ? ", the registry asks for a credential" : "";
  return status + (code === undefined ? "" : ` (${code})`) + hint;
}

/** Where a registry's API is: `http://kind-registry:5000/v2`. */
export interface Endpoint {
  base: string;
  /** Whether this is another host than the reference names. */
  isMirror: boolean;
}

/** How containerd finds the hosts of a registry (its docs/hosts.md): HOST/hosts.toml, the colon of the port also
 *  written as HOST_PORT_, else _default/hosts.toml, else the registry's own address. Throws Error, with the file. */
export async function readEndpoints(certsDir: string, registry: string): Promise<Endpoint[]> {
  for (const folder of [registry.replace(/:(\d+)$/, "_$1_"), registry, "_default"]) {
    const file = join(certsDir, folder, "hosts.toml");
    try {
      return parseHosts(await readFile(file, "utf8"), registry);
    } catch (cause) {
      const isAbsent = ["ENOENT", "ENOTDIR"].includes((cause as NodeJS.ErrnoException).code ?? "");
      if (!isAbsent) throw new Error(`Cannot use ${file}: ${messageOf(cause).split("\n")[0]}`, { cause });
    }
  }
  return [defaultEndpoint(registry)];
}

// Throws Error on any key that is not acted on here: it changes where or how the nodes ask, so that without it
// the comparison would be with another registry than theirs.
function parseHosts(text: string, registry: string): Endpoint[] {
  const { server, host = {}, ...serverKeys } = parseToml(text);
  if (!isObject(host)) throw new Error(`"host" is not a table`);
  const hosts = Object.entries(host).flatMap(([address, keys]) => toEndpoint(address, keys, registry));
  const last = toEndpoint(server ?? defaultEndpoint(registry).base, serverKeys, registry);
  return [...hosts, ...last.filter(({ base }) => !hosts.some((other) => other.base === base))];
}

function toEndpoint(address: unknown, keys: unknown, registry: string): Endpoint[] {
  const { capabilities = ["resolve"], override_path: isWholePath, ...others } = isObject(keys) ? keys : {};
  const unknown = Object.keys(others)[0];
  if (unknown !== undefined) throw new Error(`${quote(unknown)} is not supported`);
  // As containerd does, take an address without a scheme as https.
  const url = String(address).replace(/^(?!https?:\/\/)/, "https://");
  if (!URL.canParse(url)) throw new Error(`${quote(String(address))} is not an address`);
  if (!Array.isArray(capabilities) || !capabilities.includes("resolve")) return [];

  const { origin, host, pathname } = new URL(url);
  const path = pathname.replace(/\/+$/, "");
  const base = origin + (isWholePath === true ? path : `${path.replace(/\/v2$/, "")}/v2`);
  return [{ base, isMirror: host !== apiHost(registry) }];
}

// Plain http only for loopback names with a port of their own, as containerd does; *.localhost by RFC 6761.
function defaultEndpoint(registry: string): Endpoint {
  const [, name = "", port = "443"] = /^(.*?)(?::(\d+))?$/.exec(registry) ?? [];
  const isLoopback = /^(?:(?:[^.]+\.)*localhost|127(?:\.\d{1,3}){3}|\[::1\])$/.test(name);
  const scheme = isLoopback && port !== "443" ? "http" : "https";
  return { base: `${scheme}://${apiHost(registry)}/v2`, isMirror: false };
}

function apiHost(registry: string): string {
  return registry === "docker.io" ? "registry-1.docker.io" : registry;
}

/** Quoted, and cut, for a message of one line. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}
