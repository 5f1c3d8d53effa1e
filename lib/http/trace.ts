/**
 * What `-v` tells: each request and what came of it, to be read beside the verdicts. Never a body, a credential, or
 * what a server signed.
 */
import { STATUS_CODES } from "node:http";
import { printable } from "../text.ts";
import type { Response } from "./fetch.ts";
import { type Fetch, reasonOf } from "./transport.ts";

const tellingHeaders = [
  "www-authenticate",
  "location",
  "docker-content-digest",
  "content-type",
  "ratelimit-remaining",
  "retry-after",
  "warning",
];
const tellingParameters = new Set([
  "scope",
  "service",
  "ns",
  "labelSelector",
  "fieldSelector",
  "limit",
  "fieldManager",
]);

/** `fetch`, with a line for each request: `HEAD https://r.example/v2/app/manifests/latest: 200 OK in 12 ms`. */
export function traced(fetch: Fetch, tell: (line: string) => void): Fetch {
  return async (url, init) => {
    const names = Object.keys(init.headers ?? {});
    const authorization = names.find((name) => name.toLowerCase() === "authorization");
    const [scheme = "a credential"] = /^(?:Basic|Bearer)(?= )/i.exec(init.headers?.[authorization ?? ""] ?? "") ?? [];
    const as = authorization === undefined ? "" : ` with ${scheme}`;
    const began = performance.now();
    const say = (outcome: string, ...more: string[]) => {
      const took = `${outcome} in ${Math.round(performance.now() - began)} ms`;
      tell(printable(`  ${init.method} ${describeUrl(url)}${as}: ${[took, ...more].join(", ")}`));
    };
    try {
      const response = await fetch(url, init);
      say(`${response.status} ${STATUS_CODES[response.status] ?? ""}`.trim(), ...describeHeaders(response));
      return response;
    } catch (error) {
      say(reasonOf(error));
      throw error;
    }
  };
}

function describeHeaders({ headers }: Response): string[] {
  return tellingHeaders.flatMap((name) => {
    const value = headers.get(name);
    if (value === null || value === "application/json") return [];
    return [`${name} ${name === "location" ? value.replace(/[?#].*$/s, "?…") : value}`];
  });
}

// A query may hold what was signed.
function describeUrl(url: string): string {
  const { origin, pathname, searchParams } = new URL(url);
  const query = [...searchParams].flatMap(([name, value]) => {
    if (value === "") return [];
    return [`${name}=${tellingParameters.has(name) ? value : "…"}`];
  });
  return `${origin}${pathname}${query.length > 0 ? `?${query.join("&")}` : ""}`;
}
