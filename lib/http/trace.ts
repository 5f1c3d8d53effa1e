/**
 * What `-v` prints: one line for each request and its response. Bodies, credentials and signatures are left out.
 */
import { STATUS_CODES } from "node:http";
import { printable } from "../text.ts";
import type { RequestInit, Response } from "./fetch.ts";
import { type Fetch, reasonOf } from "./transport.ts";

const printedHeaders = [
  "www-authenticate",
  "location",
  "docker-content-digest",
  "content-type",
  "ratelimit-remaining",
  "retry-after",
  "warning",
];
// Of any other parameter only the name is printed, since the query of a URL may be signed.
const printedParameters = new Set([
  "scope",
  "service",
  "ns",
  "labelSelector",
  "fieldSelector",
  "limit",
  "fieldManager",
]);

/** `fetch` that hands `tell` a line for each request, indented by two blanks:
 *  `HEAD https://r.example/v2/app/manifests/latest with Bearer: 200 OK in 12 ms, content-type text/plain`. */
export function traced(fetch: Fetch, tell: (line: string) => void): Fetch {
  return async (url, init) => {
    const startedMs = performance.now();
    const tellOutcome = (outcome: string, headers: string[] = []) => {
      const elapsedMs = Math.round(performance.now() - startedMs);
      const details = [`${outcome} in ${elapsedMs} ms`, ...headers].join(", ");
      tell(printable(`  ${init.method} ${describeUrl(url)}${describeCredential(init)}: ${details}`));
    };
    try {
      const response = await fetch(url, init);
      const { status } = response;
      tellOutcome(`${status} ${STATUS_CODES[status] ?? ""}`.trim(), describeHeaders(response));
      return response;
    } catch (error) {
      tellOutcome(reasonOf(error));
      throw error;
    }
  };
}

// ` with Basic`, ` with Bearer`, or empty where no credential was sent.
function describeCredential({ headers = {} }: RequestInit): string {
  const header = Object.entries(headers).find(([name]) => name.toLowerCase() === "authorization");
  if (!header) return "";
  const [scheme = "a credential"] = /^(?:Basic|Bearer)(?= )/i.exec(header[1]) ?? [];
  return ` with ${scheme}`;
}

function describeHeaders({ headers }: Response): string[] {
  return printedHeaders.flatMap((name) => {
    const value = headers.get(name);
    if (value === null || value === "application/json") return [];
    return [`${name} ${name === "location" ? value.replace(/[?#].*$/s, "?…") : value}`];
  });
}

function describeUrl(url: string): string {
  const { origin, pathname, searchParams } = new URL(url);
  const parameters = [...searchParams].flatMap(([name, value]) => {
    if (value === "") return [];
    return [`${name}=${printedParameters.has(name) ? value : "…"}`];
  });
  return `${origin}${pathname}${parameters.length > 0 ? `?${parameters.join("&")}` : ""}`;
}
