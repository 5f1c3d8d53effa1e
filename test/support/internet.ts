import dns from "node:dns/promises";
import { syncBuiltinESMExports } from "node:module";
import { fetch } from "../../lib/http/fetch.ts";
import type { Fetch } from "../../lib/http/transport.ts";
import { type Ending, witnessOf } from "./leaks.ts";
import { type Answer, serve, type Stub } from "./serve.ts";

/** Servers on loopback under the names that they have on the internet; `fetch` leads `https://NAME` to them. */
export interface Internet {
  fetch: Fetch;
  /** Each request in order as `NAME METHOD /path`, also those for which there is no server. */
  lines: string[];
  /** The Authorization header of each request, or an empty text. */
  authorizations: string[];
  at: (name: string) => Stub;
}

/** `addresses` are those of names that do not have a public address. */
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

// Names in a test are not looked up outside, since the answer would depend on the machine and take time.
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
