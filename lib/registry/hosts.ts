/**
 * How a registry's host is reached, as the nodes' containerd reads it from the same folder (its docs/hosts.md): other
 * addresses and mirrors, plain http, CAs, client certificates; and, beside it, the system's trust store and the proxy
 * variables.
 */
import { X509Certificate } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { parse as parseToml } from "smol-toml";
import { type Agents, isUntrusted, newAgents } from "../http/fetch.ts";
import { codeOf } from "../http/transport.ts";
import { isObject, messageOf, parseGoDuration, quote } from "../text.ts";

/** Where a registry's API is, and how it is reached. */
export interface Endpoint {
  /** `http://kind-registry:5000/v2`. */
  base: string;
  /** Whether this stands in for the registry, rather than being its own address. */
  isMirror: boolean;
  /** What a host of another name than the registry's learns which registry is meant by: `?ns=docker.io`, or empty. */
  query: string;
  /** What hosts.toml adds to each request to this host. */
  headers: Record<string, string>;
  /** The file that turns off the verification of this host's certificate, if one does. */
  unverifiedBy: string | undefined;
  agents: Agents;
  /** For the hosts that this one leads to, its token server for one: its CAs, and nothing else that is its own. */
  otherAgents: Agents;
}

/** The proxy variables; an empty text is none. */
export interface Proxies {
  /** HTTP_PROXY. */
  httpProxy: string;
  /** HTTPS_PROXY. */
  httpsProxy: string;
  /** NO_PROXY. */
  noProxy: string;
}

/** The hosts of registries, from a folder in containerd's format. */
export class Hosts {
  readonly #folder: string;
  readonly #proxies: Proxies;
  readonly #byDefault: Agents;

  constructor(folder: string, proxies: Proxies) {
    this.#folder = folder;
    this.#proxies = proxies;
    this.#byDefault = this.#newAgents({});
  }

  /** Where to ask for the images of a registry, in containerd's order: the mirrors of hosts.toml, then its server.
   *  The first folder that is there counts: HOST_PORT_, HOST:PORT, _default. Where it has no hosts.toml, its `*.crt`
   *  are CAs, and its `*.cert` with their `*.key` client certificates, as Docker has them. Throws Error, with the file. */
  async endpointsOf(registry: string): Promise<Endpoint[]> {
    for (const name of new Set([registry.replace(/:(\d+)$/, "_$1_"), registry, "_default"])) {
      const folder = resolve(this.#folder, name);
      const files = listFiles(folder);
      if (!files) continue;
      const file = files.includes("hosts.toml") ? resolve(folder, "hosts.toml") : folder;
      try {
        const hosts = file === folder ? [withCertificates(files, registry)] : readHosts(file, registry);
        return hosts.map((host) => this.#connect(registry, host, folder, file));
      } catch (cause) {
        throw new Error(`Cannot use ${file}: ${messageOf(cause).split("\n")[0]}`, { cause });
      }
    }
    return [this.#connect(registry, defaultHost(registry), "", "")];
  }

  #connect(registry: string, host: Host, folder: string, file: string): Endpoint {
    const { base, isMirror, headers, isUnverified, dialTimeoutMs } = host;
    const isOther = new URL(base).host !== new URL(defaultHost(registry).base).host;
    const query = isOther ? `?ns=${encodeURIComponent(registry)}` : "";
    const cas = host.cas.map((ca) => readCa(resolve(folder, ca)));
    const clients = host.clients.map(([cert, key]) => readClient(resolve(folder, cert), resolve(folder, key)));

    let otherAgents = this.#byDefault;
    if (cas.length > 0) otherAgents = this.#newAgents({ cas });
    let agents = otherAgents;
    if (clients.length > 0 || isUnverified || dialTimeoutMs !== undefined) {
      agents = this.#newAgents({ cas, clients, isUnverified, dialTimeoutMs });
    }
    return {
      base,
      isMirror,
      query,
      headers,
      unverifiedBy: isUnverified ? file : undefined,
      agents,
      otherAgents,
    };
  }

  #newAgents({ cas = [], clients = [], isUnverified = false, dialTimeoutMs }: Reach): Agents {
    const { httpProxy, httpsProxy, noProxy } = this.#proxies;
    const proxyEnv = { HTTP_PROXY: httpProxy, HTTPS_PROXY: httpsProxy, NO_PROXY: toNodesOwn(noProxy) };
    const isOwn = cas.length > 0 || clients.length > 0;
    const options = { rejectUnauthorized: !isUnverified, ...((httpProxy || httpsProxy) && { proxyEnv }) };
    const by = (secureContext?: SecureContext) => newAgents({ ...options, ...(secureContext && { secureContext }) });
    const agents: Agents = { ...by(isOwn ? trusting("default", cas, clients) : undefined), dialTimeoutMs };
    agents.trustSystemStore = () => {
      agents["https:"] = by(trusting("system", cas, clients))["https:"];
      agents.trustSystemStore = () => undefined;
    };
    return agents;
  }
}

interface Reach {
  cas?: string[];
  clients?: Client[];
  isUnverified?: boolean;
  dialTimeoutMs?: number | undefined;
}

// What Go and curl take, as Node does: a domain with all that is in it, and a network as a range of addresses.
function toNodesOwn(noProxy: string): string {
  const entries = noProxy.split(/[\s,]+/).filter((entry) => entry !== "");
  return entries
    .flatMap((entry) => {
      const [, address = "", bits] = /^((?:\d{1,3}\.){3}\d{1,3})\/(\d{1,2})$/.exec(entry) ?? [];
      if (bits !== undefined) return [rangeOf(address, Number(bits))];
      if (/^[*[]|^[\d.:-]+$/.test(entry)) return [entry];
      // Older releases of Node take `.example` for the end of any name.
      return entry.startsWith(".") ? [`*${entry}`] : [entry, `*.${entry}`];
    })
    .join(",");
}

// `10.0.0.0/8` is `10.0.0.0-10.255.255.255`.
function rangeOf(address: string, bits: number): string {
  const size = 2 ** (32 - bits);
  const number = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  const first = number - (number % size);
  return `${toAddress(first)}-${toAddress(first + size - 1)}`;
}

function toAddress(number: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join(".");
}

// Node knows the system's store and its own, and by default looks into its own alone. Go reads the system's, so that
// users of figwasp v1 mount their CA into /etc/ssl/certs; that is read where Node's own does not do, since it takes longer
// than the question.
function trusting(stores: "default" | "system", cas: string[], clients: Client[]): SecureContext {
  const system = stores === "system" ? getCACertificates("system") : [];
  const ca = [...new Set([...getCACertificates("default"), ...system, ...cas])];
  const client = { cert: clients.map(({ cert }) => cert), key: clients.map(({ key }) => key) };
  return createSecureContext({ ca, ...(clients.length > 0 && client) });
}

// OpenSSL passes over what is no certificate, and the error would come later and say something else.
function readCa(file: string): string {
  const ca = readFileSync(file, "utf8");
  check(() => new X509Certificate(ca), `${file} is no certificate`);
  return ca;
}

/** A certificate with its key, to be shown to a server. */
interface Client {
  cert: string;
  key: string;
}

function readClient(certFile: string, keyFile: string): Client {
  const [cert, key] = [readFileSync(certFile, "utf8"), readFileSync(keyFile, "utf8")];
  check(() => createSecureContext({ cert, key }), `${certFile} is no certificate with its key in ${keyFile}`);
  return { cert, key };
}

function check(use: () => unknown, what: string): void {
  try {
    use();
  } catch (cause) {
    throw new Error(`${what}: ${messageOf(cause)}`, { cause });
  }
}

function listFiles(folder: string): string[] | undefined {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw new Error(`Cannot read ${folder}: ${messageOf(error)}`, { cause: error });
  }
}

/** One host, as the folder has it. */
interface Host {
  base: string;
  isMirror: boolean;
  headers: Record<string, string>;
  /** Files, from the folder. */
  cas: string[];
  /** The file of the certificate and the file of its key, which may be the same. */
  clients: [string, string][];
  isUnverified: boolean;
  dialTimeoutMs: number | undefined;
}

const bare = { headers: {}, cas: [], clients: [], isUnverified: false, dialTimeoutMs: undefined };

// Plain http only for loopback names with a port of their own, as containerd does; *.localhost by RFC 6761.
function defaultHost(registry: string): Host {
  const [, name = "", port = "443"] = /^(.*?)(?::(\d+))?$/.exec(registry) ?? [];
  const isLoopback = /^(?:(?:[^.]+\.)*localhost|127(?:\.\d{1,3}){3}|\[::1\])$/.test(name);
  const scheme = isLoopback && port !== "443" ? "http" : "https";
  const host = registry === "docker.io" ? "registry-1.docker.io" : registry;
  return { base: `${scheme}://${host}/v2`, isMirror: false, ...bare };
}

function withCertificates(files: string[], registry: string): Host {
  const clients = files
    .filter((file) => file.endsWith(".cert"))
    .map((file): [string, string] => {
      const key = file.replace(/cert$/, "key");
      return [file, files.includes(key) ? key : file];
    });
  return { ...defaultHost(registry), cas: files.filter((file) => file.endsWith(".crt")), clients };
}

// The mirrors in their order, the server last. Its own address in the list of mirrors is no mirror.
function readHosts(file: string, registry: string): Host[] {
  const { server, host = {}, ...serverKeys } = parseToml(readFileSync(file, "utf8"));
  if (!isObject(host)) throw new Error(`"host" is not a table`);
  const own = server === undefined ? defaultHost(registry).base : readBase(server, serverKeys);
  const mirrors = Object.entries(host).flatMap(([address, keys]) => {
    if (!isObject(keys)) throw new Error(`host ${quote(address)} is not a table`);
    const base = readBase(address, keys);
    return readHost({ base, isMirror: base !== own }, keys);
  });
  const isRepeated = Object.keys(serverKeys).length === 0 && mirrors.some(({ isMirror }) => !isMirror);
  return isRepeated ? mirrors : [...mirrors, ...readHost({ base: own, isMirror: false }, serverKeys)];
}

// As containerd does, take an address without a scheme as https, and put /v2 where it is not.
function readBase(address: unknown, { override_path: isWholePath }: Record<string, unknown>): string {
  if (typeof address !== "string") throw new Error(`"server" is not an address`);
  const url = address.replace(/^(?!https?:\/\/)/, "https://");
  if (!URL.canParse(url)) throw new Error(`${quote(address)} is not an address`);
  const { origin, pathname } = new URL(url);
  const path = pathname.replace(/\/+$/, "");
  return origin + (isWholePath === true || path.endsWith("/v2") ? path : `${path}/v2`);
}

const hostKeys = new Set(["capabilities", "ca", "client", "skip_verify", "override_path", "header", "dial_timeout"]);

// Throws Error on a key that is not acted on here: it changes where or how the nodes ask, so that without it the
// comparison would be with another registry than theirs.
function readHost(at: Pick<Host, "base" | "isMirror">, keys: Record<string, unknown>): Host[] {
  const unknown = Object.keys(keys).find((key) => !hostKeys.has(key));
  if (unknown) throw new Error(`${quote(unknown)} is not a key of containerd's hosts.toml that figwasp knows`);
  const take = <T>(key: string, read: (value: unknown) => T | undefined, needed: string): T | undefined => {
    const value = keys[key] === undefined ? undefined : read(keys[key]);
    if (keys[key] === undefined || value !== undefined) return value;
    throw new Error(`${quote(key)} of ${at.base} is not ${needed}`);
  };
  take("override_path", booleanOf, "true or false");
  const capabilities = take("capabilities", textsOf, "a list of words") ?? [];
  const host: Host = {
    ...at,
    cas: take("ca", textsOrOneOf, "a file or a list of files") ?? [],
    clients: take("client", clientsOf, "a file, or a list of files or of pairs of them") ?? [],
    isUnverified: take("skip_verify", booleanOf, "true or false") ?? false,
    headers: take("header", headersOf, "a table of texts") ?? {},
    dialTimeoutMs: take("dial_timeout", durationOf, "a Go duration"),
  };
  // Without this one, a host does not say which digest a tag has. None named are all of them.
  const canResolve = capabilities.length === 0 || capabilities.some((word) => word.toLowerCase() === "resolve");
  return canResolve ? [host] : [];
}

// Each gives undefined for what it cannot read.

function booleanOf(value: unknown): boolean | undefined {
  return typeof value === "boolean" ? value : undefined;
}

function textsOf(value: unknown): string[] | undefined {
  return Array.isArray(value) && value.every((each) => typeof each === "string") ? value : undefined;
}

function textsOrOneOf(value: unknown): string[] | undefined {
  return textsOf(typeof value === "string" ? [value] : value);
}

// `"a.pem"`, `["a.pem", "b.pem"]`, `[["a.cert", "a.key"], ["b.cert", "b.key"]]`.
function clientsOf(value: unknown): [string, string][] | undefined {
  const list: unknown[] = Array.isArray(value) ? value : [value];
  const pairs = list.map((client) => (typeof client === "string" ? [client, client] : client));
  return pairs.every(isPair) ? pairs : undefined;
}

function isPair(value: unknown): value is [string, string] {
  return textsOf(value)?.length === 2;
}

// Names in lower case, as figwasp has its own, so that no header is sent twice.
function headersOf(value: unknown): Record<string, string> | undefined {
  if (!isObject(value)) return undefined;
  const headers: Record<string, string> = {};
  for (const [name, each] of Object.entries(value)) {
    const texts = textsOrOneOf(each);
    if (!texts) return undefined;
    headers[name.toLowerCase()] = texts.join(", ");
  }
  return headers;
}

function durationOf(value: unknown): number | undefined {
  const ms = typeof value === "string" ? parseGoDuration(value) : NaN;
  return Number.isNaN(ms) ? undefined : ms;
}

/** What went wrong with a host, and what to do where its certificate is nobody's. */
export function describeFailure(error: unknown, registry: string): string {
  const hint = `: put its CA into ${registry}/ca.crt of --certs-dir (FIGWASP_CERTS_DIR), or into the system's trust store`;
  return messageOf(error) + (isUntrusted(codeOf(error)) ? hint : "");
}
