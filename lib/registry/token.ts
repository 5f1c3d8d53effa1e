/**
 * Token servers: which realm a Bearer challenge names, whether the registry's credential may go there, and how a token
 * is requested (distribution's token specification).
 */
import type { Credential } from "../credentials/docker-config.ts";
import { parseAddress, refuseInward } from "../http/addresses.ts";
import type { RequestInit } from "../http/fetch.ts";
import { HttpError } from "../errors.ts";
import { describeRefusal, type Fetch, readBody } from "../http/transport.ts";
import { parseObject } from "../text.ts";
import type { Challenge } from "./challenge.ts";
import type { Endpoint } from "./hosts.ts";

/** The token server that a Bearer challenge names, and what it is asked for. */
export interface Realm {
  url: URL;
  /** `service`, where the challenge has it, and `scope`. */
  parameters: Record<string, string>;
  /** Whether it is on the host of the registry's endpoint. */
  isOnRegistryHost: boolean;
  /** Whether the registry's credential may be sent to it. */
  isTrusted: boolean;
}

/** Reads the realm of a Bearer challenge of an endpoint. A challenge without a scope is about pulling the repository.
 *  `tokenHosts` are the hosts that the user's settings allow for this registry; see isTrusted below for the others.
 *  Throws Error where the realm gets no request, not even an anonymous one:
 *  1. it is missing or malformed;
 *  2. it is not https, unless registry and realm are the same host and the registry is plain http;
 *  3. it leads from a public address into a private network, and is neither the registry's host nor in `tokenHosts`. */
export async function readRealm(
  { params }: Challenge,
  { base }: Endpoint,
  { repository, tokenHosts }: { repository: string; tokenHosts: string[] },
): Promise<Realm> {
  const { realm = "", service, scope } = params;
  const registry = new URL(base);
  const what = `Cannot get a token for ${registry.origin}: its realm`;
  if (realm === "") throw new Error(`${what} is missing`);
  const url = parseAddress(realm, base, what);
  const isOnRegistryHost = url.hostname === registry.hostname;
  const isPlainAsRegistry = registry.protocol === "http:" && isOnRegistryHost;
  if (url.protocol !== "https:" && !isPlainAsRegistry) throw new Error(`${what} ${url.origin} is not https`);
  const isAllowed = isOnRegistryHost || tokenHosts.includes(url.host);
  if (!isAllowed) await refuseInward(registry.hostname, url.hostname, `${what} ${url.origin}`);
  url.hash = "";
  const parameters = { ...(service && { service }), scope: scope || pullScope(repository) };
  return { url, parameters, isOnRegistryHost, isTrusted: isAllowed || isRelated(registry.hostname, url.hostname) };
}

/** `library/nginx` → `repository:library/nginx:pull`. */
export function pullScope(repository: string): string {
  return `repository:${repository}:pull`;
}

// Public registries whose token server has a name in another domain.
const knownTokenHosts: Record<string, string> = {
  "registry-1.docker.io": "auth.docker.io",
  "registry.gitlab.com": "gitlab.com",
  "nvcr.io": "authn.nvidia.com",
  "lscr.io": "ghcr.io",
  "docker.elastic.co": "docker-auth.elastic.co",
};
// Domains in which anybody may register a name: `co.uk`, `com.br`.
const publicSuffix = /^(?:ac|co|com|edu|go|gov|ne|net|or|org)\.[a-z]{2}$/;

// Whether a realm is in the domain of its registry: the parent domain, unless anybody may register a name in that; then
// the registry's own name. Compared by whole labels: `registry.example.org` and `gitlab.example.org` have the parent
// domain `example.org`, while `example.org` and `evilexample.org` have nothing in common (GHSA-6c87-g9pw-78fx).
function isRelated(registry: string, realm: string): boolean {
  if (knownTokenHosts[registry] === realm) return true;
  const [, parent = ""] = /^[^.]+\.(.+)$/.exec(registry) ?? [];
  const isAddress = /^[\d.]+$|:/.test(registry);
  if (parent === "" || isAddress) return false;
  const domain = !parent.includes(".") || publicSuffix.test(parent) ? registry : parent;
  return realm === domain || realm.endsWith(`.${domain}`);
}

const tokenLimitBytes = 128 * 1024;

/** Requests a token: anonymously without a credential, by POST with an identity token, otherwise by GET with Basic. It
 *  is the caller who withholds a credential from a realm that is not trusted. Follows no redirect, since it would carry
 *  what the token server is sent to somebody else. Throws HttpError with the status of another response than 200, and
 *  Error for one without a token. */
export async function fetchToken(
  fetch: Fetch,
  realm: Realm,
  { credential, userAgent, endpoint }: { credential: Credential | undefined; userAgent: string; endpoint: Endpoint },
): Promise<string> {
  const { basic, identityToken } = credential ?? {};
  const url = new URL(realm.url);
  const headers: Record<string, string> = { "user-agent": userAgent };
  const agents = realm.isOnRegistryHost ? endpoint.agents : endpoint.otherAgents;
  const request: RequestInit = { method: "GET", headers, agents };
  if (identityToken) {
    const grant = { grant_type: "refresh_token", client_id: "figwasp", refresh_token: identityToken };
    request.method = "POST";
    headers["content-type"] = "application/x-www-form-urlencoded";
    request.body = new URLSearchParams({ ...realm.parameters, ...grant }).toString();
  } else {
    if (basic) headers["authorization"] = `Basic ${basic}`;
    for (const [name, value] of Object.entries(realm.parameters)) url.searchParams.append(name, value);
  }
  const response = await fetch(url.href, request);

  const sent = `${request.method} ${url.origin}${url.pathname}`;
  if (response.status !== 200) {
    throw new HttpError(response.status, `${sent} returned ${await describeRefusal(response)}`);
  }
  const { token, access_token: accessToken } = parseObject(await readBody(response, tokenLimitBytes)) ?? {};
  const value = token || accessToken;
  // Node refuses other characters in a header, by an error whose message would show the token.
  if (typeof value !== "string" || !/^[\x21-\x7e]+$/.test(value)) throw new Error(`${sent} returned no token`);
  return value;
}
