/**
 * Reads a `hosts.toml`, in which containerd finds the hosts of a registry (its docs/hosts.md):
 *
 *   server = "https://registry.example"
 *   [host."https://mirror.example"]
 *   capabilities = ["pull", "resolve"]
 *   ca = "company.crt"
 */
import { readFileSync } from "node:fs";
import { parse as parseToml } from "smol-toml";
import { isObject, parseGoDuration, quote } from "../text.ts";

/** One host, as it is configured. */
export interface HostSettings {
  /** Where its API is: `https://mirror.example/v2`. */
  base: string;
  /** Whether it stands in for the registry, rather than being the registry's own address. */
  isMirror: boolean;
  /** Added to each request to it. Names are in lower case. */
  headers: Record<string, string>;
  /** CA files, relative to the folder of the hosts.toml. */
  cas: string[];
  /** Client certificates: the file of the certificate and the file of its key, which may be the same; relative too. */
  clients: [string, string][];
  isUnverified: boolean;
  dialTimeoutMs: number | undefined;
}

/** Settings of a host about which nothing is configured. */
export const unconfigured = { headers: {}, cas: [], clients: [], isUnverified: false, dialTimeoutMs: undefined };

/** The hosts of a registry that can say which digest a tag has, in containerd's order: mirrors as they are written,
 *  then the server. `defaultBase` is the server's where the file names none: `https://registry.example/v2`. Throws
 *  Error for what containerd would not read, and for a key that figwasp does not act on. */
export function readHostsToml(file: string, defaultBase: string): HostSettings[] {
  const { server, host = {}, ...serverKeys } = parseToml(readFileSync(file, "utf8"));
  if (!isObject(host)) throw new Error(`"host" is not a table`);
  const serverBase = server === undefined ? defaultBase : readBase(server, serverKeys);
  const hosts = Object.entries(host).flatMap(([address, keys]) => {
    if (!isObject(keys)) throw new Error(`host ${quote(address)} is not a table`);
    const base = readBase(address, keys);
    return readHost({ base, isMirror: base !== serverBase }, keys);
  });
  // A server that is in the list of hosts already, and has no keys of its own, is not asked a second time.
  const isServerListed = hosts.some(({ isMirror }) => !isMirror);
  if (isServerListed && Object.keys(serverKeys).length === 0) return hosts;
  return [...hosts, ...readHost({ base: serverBase, isMirror: false }, serverKeys)];
}

// As containerd does, take an address without a scheme as https, and append /v2 where it is missing.
function readBase(address: unknown, { override_path: isWholePath }: Record<string, unknown>): string {
  if (typeof address !== "string") throw new Error(`"server" is not an address`);
  const url = address.replace(/^(?!https?:\/\/)/, "https://");
  if (!URL.canParse(url)) throw new Error(`${quote(address)} is not an address`);
  const { origin, pathname } = new URL(url);
  const path = pathname.replace(/\/+$/, "");
  return origin + (isWholePath === true || path.endsWith("/v2") ? path : `${path}/v2`);
}

const knownKeys = new Set(["capabilities", "ca", "client", "skip_verify", "override_path", "header", "dial_timeout"]);

// One host, or none where it does not resolve tags. Throws Error for an unknown key, since it may change where or how
// the nodes pull: figwasp would then compare with another registry than theirs.
function readHost(place: Pick<HostSettings, "base" | "isMirror">, keys: Record<string, unknown>): HostSettings[] {
  const unknownKey = Object.keys(keys).find((key) => !knownKeys.has(key));
  if (unknownKey) throw new Error(`${quote(unknownKey)} is not a key of containerd's hosts.toml that figwasp knows`);
  const read = <T>(key: string, convert: (value: unknown) => T | undefined, expected: string): T | undefined => {
    if (keys[key] === undefined) return undefined;
    const value = convert(keys[key]);
    if (value === undefined) throw new Error(`${quote(key)} of ${place.base} is not ${expected}`);
    return value;
  };
  read("override_path", toBoolean, "true or false"); // used by readBase, and checked here
  const capabilities = read("capabilities", toTexts, "a list of words") ?? [];
  const host: HostSettings = {
    ...place,
    cas: read("ca", toOneOrMoreTexts, "a file or a list of files") ?? [],
    clients: read("client", toFilePairs, "a file, or a list of files or of pairs of them") ?? [],
    isUnverified: read("skip_verify", toBoolean, "true or false") ?? false,
    headers: read("header", toHeaders, "a table of texts") ?? {},
    dialTimeoutMs: read("dial_timeout", toMilliseconds, "a Go duration"),
  };
  // A host without the capability "resolve" is not asked which digest a tag has. An empty list means all capabilities.
  const canResolve = capabilities.length === 0 || capabilities.some((word) => word.toLowerCase() === "resolve");
  return canResolve ? [host] : [];
}

// Each of the following converts a value of the file, and gives undefined for one of another form.

function toBoolean(value: unknown): boolean | undefined {
  return typeof value === "boolean" ? value : undefined;
}

function toTexts(value: unknown): string[] | undefined {
  return Array.isArray(value) && value.every((text) => typeof text === "string") ? value : undefined;
}

function toOneOrMoreTexts(value: unknown): string[] | undefined {
  return toTexts(typeof value === "string" ? [value] : value);
}

// `"a.pem"`, `["a.pem", "b.pem"]`, `[["a.cert", "a.key"], ["b.cert", "b.key"]]`. A single file holds certificate and
// key.
function toFilePairs(value: unknown): [string, string][] | undefined {
  const clients: unknown[] = Array.isArray(value) ? value : [value];
  const pairs = clients.map((client) => (typeof client === "string" ? [client, client] : client));
  return pairs.every(isPair) ? pairs : undefined;
}

function isPair(value: unknown): value is [string, string] {
  return toTexts(value)?.length === 2;
}

// Names in lower case, as those of figwasp's own headers are, so that no header is sent twice.
function toHeaders(value: unknown): Record<string, string> | undefined {
  if (!isObject(value)) return undefined;
  const headers: Record<string, string> = {};
  for (const [name, values] of Object.entries(value)) {
    const texts = toOneOrMoreTexts(values);
    if (!texts) return undefined;
    headers[name.toLowerCase()] = texts.join(", ");
  }
  return headers;
}

function toMilliseconds(value: unknown): number | undefined {
  const durationMs = typeof value === "string" ? parseGoDuration(value) : NaN;
  return Number.isNaN(durationMs) ? undefined : durationMs;
}
