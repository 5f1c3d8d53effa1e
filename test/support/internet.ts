import dns from "node:dns/promises";
import { syncBuiltinESMExports } from "node:module";
import { fetch } from "../../lib/http/fetch.ts";
import type { Fetch } from "../../lib/http/transport.ts";
import { type Ending, witnessOf } from "./leaks.ts";
import { type Answer, serve, type Stub } from "./serve.ts";

/** Servers by the names that they have on the internet, each on loopback; `fetch` takes `https://NAME` there. */
export interface Internet {
  fetch: Fetch;
  /** `NAME METHOD /path` of each request in its order, also of those that led to no server. */
  lines: string[];
  /** The Authorization header of each, or an empty text. */
  authorizations: string[];
  at: (name: string) => Stub;
}

/** `addresses` are those of names that are not simply somewhere on the internet. */
export async function serveInternet(
  t: Ending,
  servers: Record<string, Answer>,
  addresses: Record<string, string> = {},
): Promise<Internet> {
  answerLookups(t, addresses);
  const stubs = new Map<string, Stub>();
  for (const [name, answer] of Object.entries(servers))
    stubs.set(name, Object.assign(await serve(t, answer), { name }));
  const lost: Stub = {
    host: "",
    name: "a host that is not there",
    requests: [],
    lines: () => [],
    connections: () => 0,
  };
  witnessOf(t).stubs.push(lost);
  const [lines, authorizations]: [string[], string[]] = [[], []];
  return {
    lines,
    authorizations,
    at: (name) => stubs.get(name) ?? lost,
    fetch: async (url, { agents: _loopbackNeedsNone, ...init }) => {
      const { protocol, host, pathname, search } = new URL(url);
      const name = protocol === "https:" ? host : `${protocol}//${host}`;
      const { headers = {} } = init;
      lines.push(`${name} ${init.method} ${pathname}`);
      authorizations.push(headers["authorization"] ?? "");
      const stub = stubs.get(name);
      if (stub) return fetch(`http://${stub.host}${pathname}${search}`, init);
      lost.requests.push({ method: init.method, path: url, headers, body: "", client: undefined });
      throw new Error(`there is no ${name}`);
    },
  };
}

// Nobody outside is asked for the names of a test: that would be another machine's answer, and take its time.
function answerLookups(t: Ending, addresses: Record<string, string>): void {
  const { lookup } = dns;
  const answer = async (name: string) => [{ address: addresses[name] ?? "192.0.2.1", family: 4 }];
  dns.lookup = answer as unknown as typeof lookup;
  syncBuiltinESMExports();
  witnessOf(t).endings.push(() => {
    dns.lookup = lookup;
    syncBuiltinESMExports();
  });
}
