/**
 * Sends a request and follows its redirects, without carrying a credential to another host.
 */
import { parseAddress, refuseInward } from "./addresses.ts";
import type { Agents, Response } from "./fetch.ts";
import type { Fetch } from "./transport.ts";

/** What a request needs beside its URL. */
export interface RequestOptions {
  method: string;
  headers: Record<string, string>;
  /** How the host of the URL is reached: its CA, client certificate, proxy. */
  agents?: Agents | undefined;
  /** How any other host is reached, to which a redirect leads. */
  otherAgents?: Agents | undefined;
}

/** The response that ended a chain of redirects, and the URL that gave it. */
export interface FinalResponse {
  response: Response;
  url: string;
}

const maxRedirects = 5;

/** Sends a request and follows its redirects (distribution-spec, "Redirects"; GHSA-vh4v-2xq2-g5cg):
 *  1. never from https to http;
 *  2. at most five of them;
 *  3. on the same scheme, host and port with the same request;
 *  4. elsewhere only where refuseInward allows it, with `otherAgents` and no header but `accept` and `user-agent`.
 *  A response without a `location` is final, whatever its status. Throws Error. */
export async function send(
  fetch: Fetch,
  url: string,
  options: RequestOptions,
  redirectCount = 0,
): Promise<FinalResponse> {
  const { otherAgents, ...request } = options;
  const response = await fetch(url, request);
  const location = response.headers.get("location");
  if (response.status < 300 || response.status > 399 || location === null) return { response, url };

  const from = new URL(url);
  const sent = `${request.method} ${from.origin}${from.pathname}`;
  const to = parseAddress(location, url, `${sent} was redirected, and the address`);
  const isDowngrade = from.protocol === "https:" && to.protocol !== "https:";
  if (isDowngrade) throw new Error(`${sent} was redirected from https to ${to.origin}`);
  if (redirectCount === maxRedirects) throw new Error(`${sent} was redirected more than ${maxRedirects} times`);
  if (to.origin === from.origin) return send(fetch, to.href, options, redirectCount + 1);

  await refuseInward(from.hostname, to.hostname, `${sent} was redirected, and ${to.origin}`);
  const { accept = "*/*", "user-agent": userAgent = "" } = request.headers;
  const headers = { accept, "user-agent": userAgent };
  const elsewhere = { method: request.method, headers, agents: otherAgents, otherAgents };
  return send(fetch, to.href, elsewhere, redirectCount + 1);
}
