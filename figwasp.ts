#!/usr/bin/env node
/**
 * figwasp restarts a Kubernetes workload when its image tag has moved in the registry.
 *
 * Kubernetes starts a pod from `app:latest` and never looks again. figwasp looks, once, and ends:
 *
 *   config      which workload, which deadlines                       readConfig
 *   workloads   the Deployment, and the pods of its current revision  Cluster, currentPods
 *   references  the tag from the pod template, what runs from imageID parseReference, runningDigest
 *   registry    the digest that the tag resolves to now, by one HEAD  Registry, lookUp
 *   verdicts    does a fresh pull bring other content?                judgeContainer, judgeWorkload
 *   restarts    one PATCH of two pod-template annotations; a report   restart, main
 *
 * Run it with `npx tsx figwasp.ts`, with `node figwasp.ts`, or as a Job. `--help` lists the settings.
 * It keeps no state: what it did stands in the pod template, and so in the pods.
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { STATUS_CODES } from "node:http";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { HttpMethod, KubeConfig, RequestContext } from "@kubernetes/client-node";
import type { V1Deployment, V1LabelSelector, V1ObjectMeta, V1Pod, V1ReplicaSet } from "@kubernetes/client-node";
import { parse as parseToml } from "smol-toml";
import { type RequestInit, type Response, fetch as undiciFetch } from "undici";

/** The release this file belongs to; package.json says the same, and a test compares them. */
export const RELEASE = "3.0.0-alpha.0";

// --- Config ---
// Everything that a user can set stands in one table, from which --help is printed too. A mistake is a
// ConfigError, found before any request and answered with exit code 2.

export class ConfigError extends Error {}

export interface Config {
  deployment: string;
  /** Absent: the pod's own namespace, else the kubeconfig context's, else `default`. */
  namespace: string | undefined;
  /** Deadline of each request, in milliseconds. */
  clientTimeoutMs: number;
  /** Deadline of the whole run, in milliseconds. */
  runTimeoutMs: number;
  /** Folder of `HOST/hosts.toml` files in containerd's format. */
  certsDir: string;
}

const settings = {
  FIGWASP_TARGET_DEPLOYMENT: { default: "", about: "name of the Deployment (required)" },
  FIGWASP_TARGET_NAMESPACE: {
    default: "",
    about: "its namespace; by default the pod's own or the kubeconfig context's, else default",
  },
  FIGWASP_CLIENT_TIMEOUT: { default: "30s", about: "deadline of each request, a Go duration" },
  FIGWASP_RUN_TIMEOUT: { default: "5m", about: "deadline of the whole run, a Go duration" },
  FIGWASP_CERTS_DIR: {
    default: "/etc/figwasp/certs.d",
    about: "folder of HOST/hosts.toml files, in containerd's format: how each registry is reached",
  },
} as const;

type Setting = keyof typeof settings;

/** What the arguments and variables ask for: a run, or a text to print (`--help`, `--version`).
 *  An empty variable counts as unset, as it did in figwasp v1. Throws ConfigError, naming the variable. */
export function readConfig(argv: readonly string[], env: Env): Config | { print: string } {
  const flags = readFlags(argv);
  if (flags.help) return { print: helpText() };
  if (flags.version) return { print: `figwasp ${RELEASE}` };

  const value = (name: Setting) => env[name] || settings[name].default;
  const deployment = value("FIGWASP_TARGET_DEPLOYMENT");
  if (!deployment) {
    throw new ConfigError("Cannot start: FIGWASP_TARGET_DEPLOYMENT is not set, the name of a Deployment is needed");
  }
  return {
    deployment: checkName("FIGWASP_TARGET_DEPLOYMENT", deployment),
    namespace: checkName("FIGWASP_TARGET_NAMESPACE", value("FIGWASP_TARGET_NAMESPACE")) || undefined,
    clientTimeoutMs: readTimeout("FIGWASP_CLIENT_TIMEOUT", value("FIGWASP_CLIENT_TIMEOUT")),
    runTimeoutMs: readTimeout("FIGWASP_RUN_TIMEOUT", value("FIGWASP_RUN_TIMEOUT")),
    certsDir: value("FIGWASP_CERTS_DIR"),
  };
}

type Env = Readonly<Record<string, string | undefined>>;

function readFlags(argv: readonly string[]): { help?: boolean; version?: boolean } {
  try {
    const options = { help: { type: "boolean", short: "h" }, version: { type: "boolean" } } as const;
    return parseArgs({ args: [...argv], options, strict: true, allowPositionals: false }).values;
  } catch (error) {
    const found = (error as Error).message.split(/[.\n]/)[0];
    throw new ConfigError(`Cannot start: ${found}, only --help and --version are flags, the rest is set by variables`);
  }
}

function helpText(): string {
  const rows = Object.entries(settings).map(([name, { default: unset, about }]) => {
    return `  ${name.padEnd(26)} ${about}${unset && ` (default ${unset})`}`;
  });
  const usage = "Usage: figwasp [--help | --version]";
  const purpose = "Restarts a Deployment when its image tag has moved in the registry. Set by variables:";
  const codes = "Exit code: 0 judged and acted on, 1 something failed, 2 bad flag or variable.";
  return [usage, "", purpose, ...rows, "", codes].join("\n");
}

// Object names go into URLs; the API server would answer a wrong one with a puzzling 404.
function checkName(variable: Setting, name: string): string {
  if (/^[a-z0-9.-]{0,253}$/.test(name)) return name;
  throw new ConfigError(`Cannot use ${variable} ${quote(name)}: a Kubernetes object name is needed, such as my-app`);
}

function readTimeout(variable: Setting, text: string): number {
  const needed = "a positive Go duration is needed, such as 30s or 1m30s";
  try {
    const ms = parseGoDuration(text);
    // Node's timers end at 2^31-1 ms, 24 days; a longer timer would fire at once.
    if (ms >= 1) return Math.min(ms, 2 ** 31 - 1);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new ConfigError(`Cannot use ${variable} ${quote(text)}: ${needed}`);
}

const unitMs: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, μs: 1e-3, ms: 1, s: 1e3, m: 6e4, h: 36e5 };

/** `1h30m` → 5400000, `250ms` → 250, `0` → 0; in milliseconds. Throws SyntaxError.
 *  The grammar of Go's time.ParseDuration, without signs: no deadline is negative. */
export function parseGoDuration(text: string): number {
  if (text === "0") return 0;
  const part = /(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/y;
  let sum = 0;
  do {
    const match = part.exec(text);
    if (!match) throw new SyntaxError(`not a Go duration: ${quote(text)}`);
    sum += Number(match[1]) * (unitMs[match[2] as string] as number);
  } while (part.lastIndex < text.length);
  return sum;
}

// --- Reference ---
// Which image a container names, and which digest its pod reports. The tag comes from the pod template and
// the digest from the status, never the other way round: imageID carries no tag, and may carry another
// repository's name (kubernetes/kubernetes#95385).

export type Digest = `sha256:${string}`;

export interface Reference {
  /** As in the image's full name: `docker.io`, `registry.example:5000`, `[fc00::1]:5000`. */
  registry: string;
  /** `library/nginx`. */
  repository: string;
  tag: string;
  /** Present where the image is pinned; the pull then uses it alone, and the tag says nothing. */
  digest?: string;
}

const domainComponent = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";
const domainPattern = new RegExp(
  String.raw`^(?:${domainComponent}(?:\.${domainComponent})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?$`,
);
const pathComponent = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const repositoryPattern = new RegExp(`^${pathComponent}(?:/${pathComponent})*$`);
const tagPattern = /^\w[\w.-]{0,127}$/;
const digestPattern = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;

/** Where the kubelet would pull from: `api` → docker.io/library/api:latest, `host:5001/a/b:1` → that host.
 *  Throws SyntaxError. See distribution/reference, "Grammar" and ParseDockerRef. */
export function parseReference(image: string): Reference {
  const malformed = (found: string) => new SyntaxError(`Cannot parse image ${quote(image)}: ${found}`);

  const [named = "", digest, ...rest] = image.split("@");
  if (rest.length > 0 || (digest !== undefined && !digestPattern.test(digest))) {
    throw malformed("its digest is not of the form algorithm:hex");
  }
  const slash = named.indexOf("/");
  const first = named.slice(0, Math.max(slash, 0));
  const isHost = /[.:]/.test(first) || first === "localhost" || first !== first.toLowerCase();
  const path = isHost ? named.slice(slash + 1) : named;
  const colon = path.lastIndexOf(":");
  const tag = colon < 0 ? undefined : path.slice(colon + 1);
  let registry = isHost ? first : "docker.io";
  let repository = colon < 0 ? path : path.slice(0, colon);

  if (registry === "index.docker.io") registry = "docker.io";
  if (registry === "docker.io" && !repository.includes("/")) repository = `library/${repository}`;
  if (!domainPattern.test(registry)) throw malformed(`${quote(registry)} is not a registry host`);
  if (!repositoryPattern.test(repository) || repository.length > 255) {
    throw malformed("its repository is not lower-case path components of at most 255 characters");
  }
  if (/^[a-f0-9]{64}$/.test(image)) throw malformed("64 hex digits are an image ID, a repository is needed");
  if (tag !== undefined && !tagPattern.test(tag)) throw malformed(`${quote(tag)} is not a tag`);
  return { registry, repository, tag: tag ?? "latest", ...(digest !== undefined && { digest }) };
}

/** The digest that a container runs, or why the status does not tell. An image ID is the digest of the
 *  image's config, not of a manifest, and compares with config digests alone. */
export type Running = { digest: Digest; isImageId: boolean } | { reason: string };

/** `status.*ContainerStatuses[].imageID` → the running digest: `docker.io/library/nginx@sha256:…` from
 *  containerd and CRI-O, `docker-pullable://…` from cri-dockerd, a bare `sha256:…` or 64 hex digits for an
 *  image ID, empty before the start. Never throws: what it cannot read is a reason. */
export function runningDigest(imageID: string): Running {
  if (imageID === "") return { reason: "the container has not started" };
  const name = imageID.replace(/^[a-z][a-z0-9+.-]*:\/\//, "");
  // `kind load` and `ctr import` make up a name; its digest was never in a registry (kubernetes-sigs/kind#4184).
  if (/(?:^|\/)import-\d{4}-\d{2}-\d{2}@/.test(name)) return { reason: "the image was imported into the node" };

  const at = name.lastIndexOf("@");
  const found = /^(sha256:)?([a-f0-9]{64})$/.exec(name.slice(at + 1));
  if (!found || (at >= 0 && !found[1])) return { reason: `imageID ${quote(imageID)} holds no sha256 digest` };
  return { digest: `sha256:${found[2]}`, isImageId: at < 0 };
}

// Quoted and cut for a message of one line.
function quote(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}

// --- Registry ---
// The conversation with a registry: how its host is reached, the challenge, the HEAD, and a GET only to explain
// a difference. One question is asked once a run and shared while in flight. Nothing is sent before the
// registry asks for it, and no header goes along when a redirect leaves the host.

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

// Down to what happened: undici says no more than "fetch failed", Node tries several addresses at once.
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  return error instanceof Error && error.cause instanceof Error ? reasonOf(error.cause) : messageOf(error);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

// All four in one Accept: without the index types some registries answer with the digest of another manifest,
// or with a converted schema-1 one (distribution-spec, "Pulling manifests"; keel-hq/keel#715).
const manifestTypes = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
];
const manifestLimitBytes = 4 * 1024 * 1024; // what the distribution-spec asks registries to take
const otherLimitBytes = 64 * 1024; // tokens and error bodies
const redirectLimit = 5;
const userAgent = `figwasp/${RELEASE} (+https://github.com/figwasp/figwasp)`;

/** What an index or an image manifest says, as far as figwasp reads it (image-spec, "Image Index"). */
export interface Manifest {
  manifests: { digest: Digest }[];
}

export class Registry {
  readonly #certsDir: string;
  readonly #fetch: Fetch;
  readonly #endpoints = new Map<string, Promise<Endpoint[]>>();
  readonly #tagDigests = new Map<string, Promise<Digest>>();
  readonly #manifests = new Map<string, Promise<Manifest>>();
  readonly #tokens = new Map<string, Promise<string>>();

  /** `certsDir` is a folder in containerd's format; `fetch` comes from boundFetch. */
  constructor(certsDir: string, fetch: Fetch) {
    this.#certsDir = certsDir;
    this.#fetch = fetch;
  }

  /** The digest that the reference's tag points at now. Throws Error with method, URL and answer. */
  resolve(reference: Reference): Promise<Digest> {
    return once(this.#tagDigests, nameOf(reference), async () => {
      const { headers, url } = await this.#ask("HEAD", reference, reference.tag);
      const digest = headers.get("docker-content-digest");
      // Red Hat's registry and some Nexus set-ups leave it out.
      if (digest === null)
        return sha256(await readBody(await this.#ask("GET", reference, reference.tag), manifestLimitBytes));
      if (isDigest(digest)) return digest;
      throw new Error(`HEAD ${url} returned the digest ${quote(digest)}, a sha256 one is needed`);
    });
  }

  /** The manifest of this digest. Throws Error, also where the bytes are not the digest's. */
  manifest(reference: Reference, digest: Digest): Promise<Manifest> {
    return once(this.#manifests, `${nameOf(reference)}@${digest}`, async () => {
      const response = await this.#ask("GET", reference, digest);
      const body = await readBody(response, manifestLimitBytes);
      if (sha256(body) === digest) return parseManifest(body, response.url);
      throw new Error(`GET ${response.url} returned other bytes than those of that digest`);
    });
  }

  // containerd's order: each host of hosts.toml in turn, the server last; the first that has it answers.
  async #ask(method: "HEAD" | "GET", reference: Reference, tagOrDigest: string): Promise<Response> {
    const { registry } = reference;
    const endpoints = await once(this.#endpoints, registry, () => readEndpoints(this.#certsDir, registry));
    const failures: string[] = [];
    for (const endpoint of endpoints) {
      try {
        return await this.#askEndpoint(method, endpoint, reference, tagOrDigest);
      } catch (error) {
        failures.push(messageOf(error));
      }
    }
    throw new Error(failures.join("; "));
  }

  async #askEndpoint(method: string, endpoint: Endpoint, reference: Reference, tagOrDigest: string): Promise<Response> {
    const url = `${endpoint.base}/${reference.repository}/manifests/${tagOrDigest}`;
    // A mirror of several registries learns from `ns` which one is meant, as it does from containerd.
    const query = endpoint.isMirror ? `?ns=${encodeURIComponent(reference.registry)}` : "";
    const headers = { accept: manifestTypes.join(", ") };
    let response = await this.#send(method, url + query, headers);
    if (response.status === 401) {
      const token = await this.#anonymousToken(response, endpoint, reference);
      if (token) response = await this.#send(method, url + query, { ...headers, authorization: `Bearer ${token}` });
    }
    if (response.status !== 200) throw new Error(`${method} ${url} returned ${await describeRefusal(response)}`);
    const type = response.headers.get("content-type") ?? "";
    if (/docker.*manifest\.v1\+/.test(type))
      throw new Error(`${url} is a manifest of the outdated type ${quote(type)}`);
    return response;
  }

  // distribution's token protocol without a credential: public images of most registries need it.
  async #anonymousToken(refusal: Response, { base }: Endpoint, { repository }: Reference): Promise<string | undefined> {
    await refusal.body?.cancel();
    const challenges = parseChallenges(refusal.headers.get("www-authenticate") ?? "");
    const bearer = challenges.find(({ scheme }) => scheme === "bearer");
    if (!bearer) return undefined;
    const url = tokenUrl(bearer.params, base, repository);
    return once(this.#tokens, url.href, async () => {
      const response = await this.#send("GET", url.href, {});
      const asked = `GET ${url.origin}${url.pathname}`;
      if (response.status !== 200) throw new Error(`${asked} returned ${await describeRefusal(response)}`);
      const { token, access_token: accessToken } = parseObject(await readBody(response, otherLimitBytes)) ?? {};
      const found = token || accessToken;
      if (typeof found !== "string" || found === "") throw new Error(`${asked} returned no token`);
      return found;
    });
  }

  async #send(method: string, url: string, headers: Record<string, string>): Promise<Response> {
    const sent: Record<string, string> = { ...headers, "user-agent": userAgent };
    let at = new URL(url);
    for (let hop = 0; hop <= redirectLimit; hop++) {
      const response = await this.#fetch(at.href, { method, headers: sent, redirect: "manual" });
      const location = response.headers.get("location");
      if (response.status < 300 || response.status > 399 || location === null) return response;

      await response.body?.cancel();
      const next = new URL(location, at);
      const isDowngrade = at.protocol === "https:" && next.protocol !== "https:";
      if (isDowngrade) throw new Error(`${method} ${at.origin} was redirected from https to ${next.origin}`);
      if (next.origin !== at.origin) delete sent["authorization"];
      at = next;
    }
    throw new Error(`${method} ${new URL(url).origin} was redirected more than ${redirectLimit} times`);
  }
}

/** What the registry says about a tag: its digest, and, where some running digest is another one, the digests
 *  of the index's children, which are the same content as well. */
export type Lookup = { kind: "resolved"; digest: Digest; children: Digest[] } | { kind: "failed"; error: Error };

/** Resolves the tag; looks into the index only to explain a difference. Never throws: a failure is the answer. */
export async function lookUp(registry: Registry, reference: Reference, running: Running[]): Promise<Lookup> {
  try {
    const digest = await registry.resolve(reference);
    const isExplained = running.every((found) => "reason" in found || found.digest === digest);
    const { manifests } = isExplained ? { manifests: [] } : await registry.manifest(reference, digest);
    return { kind: "resolved", digest, children: manifests.map((child) => child.digest) };
  } catch (cause) {
    const error = new Error(`Cannot resolve ${quote(nameOf(reference))}: ${messageOf(cause)}`, { cause });
    return { kind: "failed", error };
  }
}

/** Where a registry's API is: `http://kind-registry:5000/v2`. */
interface Endpoint {
  base: string;
  /** Whether this is another host than the reference names. */
  isMirror: boolean;
}

// How containerd finds the hosts of a registry (its docs/hosts.md): HOST/hosts.toml, the colon of the port also
// written as HOST_PORT_, else _default/hosts.toml, else the registry's own address.
async function readEndpoints(certsDir: string, registry: string): Promise<Endpoint[]> {
  for (const folder of [registry.replace(/:(\d+)$/, "_$1_"), registry, "_default"]) {
    const file = join(certsDir, folder, "hosts.toml");
    try {
      return parseHosts(await readFile(file, "utf8"), registry);
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code ?? "";
      if (!["ENOENT", "ENOTDIR"].includes(code))
        throw new Error(`Cannot use ${file}: ${messageOf(cause).split("\n")[0]}`, { cause });
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
  const last = server === undefined ? [defaultEndpoint(registry)] : toEndpoint(server, serverKeys, registry);
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

function nameOf({ registry, repository, tag }: Reference): string {
  return `${registry}/${repository}:${tag}`;
}

function tokenUrl(params: Record<string, string>, base: string, repository: string): URL {
  const { realm = "", service, scope } = params;
  const malformed = (found: string) => new Error(`Cannot get a token for ${base}: ${found}`);
  if (!URL.canParse(realm, base)) throw malformed(`its realm ${quote(realm)} is not a URL`);
  const url = new URL(realm, base);
  const registryUrl = new URL(base);
  const isAsPlain = registryUrl.protocol === "http:" && url.hostname === registryUrl.hostname;
  if (url.username || url.password) throw malformed("its realm holds a user name");
  if (url.protocol !== "https:" && !isAsPlain) throw malformed(`its realm ${quote(url.origin)} is not https`);
  if (service) url.searchParams.append("service", service);
  url.searchParams.append("scope", scope || `repository:${repository}:pull`);
  return url;
}

export interface Challenge {
  /** In lower case: `bearer`. */
  scheme: string;
  /** By name in lower case: `realm`, `service`, `scope`. */
  params: Record<string, string>;
}

const httpToken = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";

/** `WWW-Authenticate` → its challenges, also several in one header: `Basic realm="a", Bearer realm="b",scope="c:d,e"`.
 *  Throws SyntaxError. See RFC 9110, 11.6.1. */
export function parseChallenges(header: string): Challenge[] {
  const separators = /[ \t,]*/y;
  const param = new RegExp(
    `(${httpToken})[ \\t]*=[ \\t]*(?:(${httpToken})|"((?:[^"\\\\]|\\\\.)*)")[ \\t]*(?=,|$)`,
    "y",
  );
  const scheme = new RegExp(`(${httpToken})(?:[ \\t]+|(?=,|$))`, "y");
  const token68 = /[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)/y;
  let at = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    const match = pattern.exec(header);
    if (match) at = pattern.lastIndex;
    return match;
  };

  const challenges: Challenge[] = [];
  while (take(separators) && at < header.length) {
    const current = challenges.at(-1);
    const [, key, plain, quoted = ""] = (current && take(param)) ?? [];
    if (current && key !== undefined) {
      current.params[key.toLowerCase()] = plain ?? quoted.replace(/\\(.)/g, "$1");
      continue;
    }
    const name = take(scheme)?.[1];
    if (name === undefined) throw new SyntaxError(`Cannot parse the challenge ${quote(header)} at character ${at + 1}`);
    challenges.push({ scheme: name.toLowerCase(), params: {} });
    take(token68);
  }
  return challenges;
}

// The code of the error body is the registry's own word for what the status says roughly.
async function describeRefusal(response: Response): Promise<string> {
  const status = `${response.status} ${STATUS_CODES[response.status] ?? ""}`.trim();
  const body = await readBody(response, otherLimitBytes).catch(() => Buffer.alloc(0));
  const code = /"code"\s*:\s*"([A-Z_]{1,40})"/.exec(body.toString("utf8"))?.[1];
  const hint = response.status === 401 ? ", the registry asks for a credential" : "";
  return status + (code === undefined ? "" : ` (${code})`) + hint;
}

function parseManifest(body: Buffer, url: string): Manifest {
  const { manifests = [] } = parseObject(body) ?? {};
  if (Array.isArray(manifests) && manifests.every(hasDigest)) return { manifests };
  throw new Error(`GET ${url} returned an index whose children have no digests`);
}

function hasDigest(child: unknown): child is { digest: Digest } {
  return isObject(child) && isDigest(child["digest"]);
}

function parseObject(body: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body.toString("utf8"));
    return isObject(value) ? value : undefined;
  } catch {
    return undefined; // said by the caller, without the text: it may hold a token
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isDigest(value: unknown): value is Digest {
  return typeof value === "string" && /^sha256:[a-f0-9]{64}$/.test(value);
}

function sha256(body: Buffer): Digest {
  return `sha256:${createHash("sha256").update(body).digest("hex")}`;
}

async function readBody(response: Response, limitBytes: number): Promise<Buffer> {
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

// One question, one answer: those who ask while it is under way wait for the same promise.
function once<T>(answers: Map<string, Promise<T>>, key: string, ask: () => Promise<T>): Promise<T> {
  const answer = answers.get(key) ?? ask();
  answers.set(key, answer);
  return answer;
}

// --- Cluster ---
// The reads and the one write; each method is a verb of the Role in deploy/. The client library finds the
// cluster and authenticates; the calls themselves are plain JSON over one connection, because its typed
// calls open one each, drop the fields that they do not know, and take no deadline.

export interface Cluster {
  /** Where to look when no namespace is named. */
  readonly namespace: string;
  getDeployment(namespace: string, name: string): Promise<Workload>;
  listReplicaSets(namespace: string, selector: string): Promise<Revision[]>;
  listPods(namespace: string, selector: string): Promise<Pod[]>;
  /** A strategic-merge PATCH. Throws ApiError; 409 where the Deployment has changed since it was read. */
  patchDeployment(namespace: string, name: string, patch: object): Promise<void>;
}

/** An answer of the API server other than success; the message is the server's own. */
export class ApiError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const pageSize = 500;
// A ReplicaSet holds a template as large as the Deployment's; only its metadata is of use.
const metadataOnly = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/** Finds the cluster as kubectl does: KUBECONFIG, ~/.kube/config, the pod's ServiceAccount. No request yet.
 *  Throws ConfigError where there is none or it cannot be used. */
export async function connectCluster(fetch: Fetch): Promise<Cluster> {
  const { server, namespace, headers, dispatcher } = await readKubeconfig();
  const common = { ...headers, accept: "application/json", "user-agent": userAgent };

  async function call(path: string, init: { method?: string; headers?: object; body?: string } = {}): Promise<unknown> {
    const { method = "GET" } = init;
    const sent = { ...init, method, headers: { ...common, ...init.headers }, ...(dispatcher && { dispatcher }) };
    const response = await fetch(server.replace(/\/+$/, "") + path, sent);
    const body = await readBody(response, Infinity);
    if (response.ok) return JSON.parse(body.toString("utf8"));
    // The message of a Status object; a proxy in between may answer with a page of its own.
    const { message } = parseObject(body) ?? {};
    const reason = typeof message === "string" ? message : STATUS_CODES[response.status];
    throw new ApiError(response.status, `${method} ${path.split("?")[0]} returned ${response.status}: ${reason}`);
  }

  async function list<T>(path: string, labelSelector: string, extra = {}): Promise<T[]> {
    const items: T[] = [];
    let token: string | undefined = "";
    do {
      const query: URLSearchParams = new URLSearchParams({ labelSelector, limit: `${pageSize}`, continue: token });
      const page = (await call(`${path}?${query}`, { headers: extra })) as {
        items: T[];
        metadata: { continue?: string };
      };
      items.push(...page.items);
      token = page.metadata.continue;
    } while (token);
    return items;
  }

  return {
    namespace,
    async getDeployment(ns, name) {
      return toWorkload((await call(appsPath(ns, `deployments/${name}`))) as V1Deployment);
    },
    async listReplicaSets(ns, selector) {
      const found = await list<V1ReplicaSet>(appsPath(ns, "replicasets"), selector, { accept: metadataOnly });
      return found.map(toRevision);
    },
    async listPods(ns, selector) {
      return (await list<V1Pod>(`/api/v1/namespaces/${ns}/pods`, selector)).map(toPod);
    },
    async patchDeployment(ns, name, patch) {
      const contentType = { "content-type": "application/strategic-merge-patch+json" };
      const path = appsPath(ns, `deployments/${name}?fieldManager=figwasp`);
      await call(path, { method: "PATCH", headers: contentType, body: JSON.stringify(patch) });
    },
  };
}

function appsPath(namespace: string, rest: string): string {
  return `/apis/apps/v1/namespaces/${namespace}/${rest}`;
}

async function readKubeconfig() {
  try {
    const kubeconfig = new KubeConfig();
    kubeconfig.loadFromDefault();
    const cluster = kubeconfig.getCurrentCluster();
    const context = kubeconfig.getContextObject(kubeconfig.getCurrentContext());
    // The library's last resort is a server that nobody has run since Kubernetes 1.20.
    if (!cluster || (context?.name === "loaded-context" && cluster.server === "http://localhost:8080")) {
      throw new Error("a kubeconfig with a current context is needed, or a pod with a ServiceAccount token");
    }
    // Once, for all calls: the library makes a new connection pool each time that it is asked.
    const sample = new RequestContext(cluster.server, HttpMethod.GET);
    await kubeconfig.applySecurityAuthentication(sample);
    const authentication = { headers: sample.getHeaders(), dispatcher: sample.getDispatcher() };
    return { server: cluster.server, namespace: context?.namespace || "default", ...authentication };
  } catch (cause) {
    throw new ConfigError(`Cannot find a cluster: ${messageOf(cause)}`, { cause });
  }
}

/** A Deployment, as far as figwasp reads it. */
export type Workload = ReturnType<typeof toWorkload>;

function toWorkload({ metadata, spec, status }: V1Deployment) {
  const template = spec?.template;
  const containers = [...(template?.spec?.initContainers ?? []), ...(template?.spec?.containers ?? [])];
  return {
    kind: "deployment",
    namespace: metadata?.namespace ?? "",
    name: metadata?.name ?? "",
    uid: metadata?.uid ?? "",
    resourceVersion: metadata?.resourceVersion ?? "",
    isObserved: (status?.observedGeneration ?? 0) >= (metadata?.generation ?? 0),
    isPaused: spec?.paused ?? false,
    replicas: spec?.replicas ?? 1,
    /** In the API's query form: `app=api,tier in (a,b)`. */
    selector: toSelector(spec?.selector ?? {}),
    /** The number of the ReplicaSet of the newest template. */
    revision: metadata?.annotations?.[revisionAnnotation] ?? "",
    /** Init containers, sidecars among them, first. */
    containers: containers.map(({ name, image = "" }) => ({ name, image })),
  };
}

/** What says which pods belong to which revision of a workload. */
export type Revision = ReturnType<typeof toRevision>;

const revisionAnnotation = "deployment.kubernetes.io/revision";

function toRevision({ metadata }: V1ReplicaSet) {
  const revision = metadata?.annotations?.[revisionAnnotation] ?? "";
  return { uid: metadata?.uid ?? "", ownerUid: controllerOf(metadata), revision };
}

/** A pod, as far as figwasp reads it. */
export type Pod = ReturnType<typeof toPod>;

function toPod({ metadata, spec, status }: V1Pod) {
  const containers = [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])];
  const statuses = [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])];
  return {
    name: metadata?.name ?? "",
    ownerUid: controllerOf(metadata),
    isTerminating: metadata?.deletionTimestamp !== undefined,
    phase: status?.phase ?? "",
    /** `imageID` is empty until the container has started once. */
    containers: containers.map(({ name, imagePullPolicy: pullPolicy = "" }) => {
      return { name, pullPolicy, imageID: statuses.find((entry) => entry.name === name)?.imageID ?? "" };
    }),
  };
}

function controllerOf(metadata: V1ObjectMeta | undefined): string {
  return metadata?.ownerReferences?.find(({ controller }) => controller)?.uid ?? "";
}

function toSelector({ matchLabels = {}, matchExpressions = [] }: V1LabelSelector): string {
  const equal = Object.entries(matchLabels).map(([key, value]) => `${key}=${value}`);
  const rest = matchExpressions.map(({ key, operator, values = [] }) => {
    if (operator === "Exists") return key;
    if (operator === "DoesNotExist") return `!${key}`;
    return `${key} ${operator.toLowerCase()} (${values.join(",")})`;
  });
  return [...equal, ...rest].join(",");
}

// --- Judge ---
// Pure functions: from plain data to a verdict. Uncertain is never a restart and never "current".

/** One container of a workload, with all that is known of it. */
export interface ContainerFacts {
  /** As the pod template writes it. */
  image: string;
  reference: Reference | SyntaxError;
  /** The container in each pod of the current revision that has it. */
  pods: { pod: string; pullPolicy: string; running: Running }[];
  /** Absent where nobody asked, because the answer could not matter. */
  lookup?: Lookup;
}

export type ContainerVerdict =
  | { kind: "current"; resolved: Digest }
  | { kind: "outdated"; running: Digest; resolved: Digest; pods: string[] }
  | { kind: "unknown"; reason: string }
  | { kind: "skipped"; reason: string }
  | { kind: "failed"; error: Error };

/** Why a container is no candidate for a restart whatever the registry says; undefined if it is one. */
export function reasonToSkip({ reference, pods }: ContainerFacts): string | undefined {
  if (!(reference instanceof Error) && reference.digest !== undefined) return "pinned by digest";
  const [first] = pods;
  if (first && pods.every(({ pullPolicy }) => pullPolicy !== "Always")) {
    return `imagePullPolicy is ${first.pullPolicy}, so that a restart would not pull: set it to Always`;
  }
  return undefined;
}

/** The verdict over all pods of the current revision: their worst. */
export function judgeContainer(facts: ContainerFacts): ContainerVerdict {
  const { reference, lookup } = facts;
  const skip = reasonToSkip(facts);
  if (skip !== undefined) return { kind: "skipped", reason: skip };
  if (reference instanceof Error) return { kind: "failed", error: reference };

  const pulling = facts.pods.filter(({ pullPolicy }) => pullPolicy === "Always");
  const verdicts = pulling.map(({ pod, running }) => judgeRunning(pod, running, lookup));
  const outdated = verdicts.filter((verdict) => verdict.kind === "outdated");
  const [first] = outdated;
  if (first) return { ...first, pods: outdated.flatMap(({ pods }) => pods) };
  const ofKind = (kind: ContainerVerdict["kind"]) => verdicts.find((verdict) => verdict.kind === kind);
  const none = { kind: "unknown", reason: "no pod has this container" } as const;
  return ofKind("failed") ?? ofKind("unknown") ?? ofKind("current") ?? none;
}

function judgeRunning(pod: string, running: Running, lookup: Lookup | undefined): ContainerVerdict {
  if ("reason" in running) return { kind: "unknown", reason: `pod ${pod}: ${running.reason}` };
  if (!lookup) return { kind: "unknown", reason: `pod ${pod}: the registry was not asked` };
  if (lookup.kind === "failed") return lookup;

  const resolved = lookup.digest;
  if (running.digest === resolved || lookup.children.includes(running.digest)) return { kind: "current", resolved };
  if (running.isImageId) return { kind: "unknown", reason: `pod ${pod}: its imageID is not a registry digest` };
  return { kind: "outdated", running: running.digest, resolved, pods: [pod] };
}

export type WorkloadVerdict =
  | { kind: "restarted"; outdated: Record<string, Digest> }
  | { kind: "waiting"; reason: string }
  | { kind: "skipped"; reason: string }
  | { kind: "failed"; error: Error }
  | { kind: "unknown"; reason: string }
  | { kind: "current" };

/** Why a workload is not looked at more closely; undefined if it is. */
export function reasonToPass(workload: Workload): WorkloadVerdict | undefined {
  if (workload.isPaused) return { kind: "skipped", reason: "paused: kubectl rollout resume lets it roll again" };
  if (workload.replicas === 0) return { kind: "skipped", reason: "scaled to zero: the next pod pulls anyway" };
  if (!workload.isObserved || workload.revision === "") {
    return { kind: "waiting", reason: "the controller has not seen the newest template yet" };
  }
  return undefined;
}

/** The pods that tell what the newest template runs: those of its ReplicaSet, without the ones that are
 *  ending or have ended (kubernetes/kubernetes#91672). */
export function currentPods(workload: Workload, revisions: Revision[], pods: Pod[]): Pod[] {
  const isCurrent = ({ ownerUid, revision }: Revision) => ownerUid === workload.uid && revision === workload.revision;
  const owners = new Set(revisions.filter(isCurrent).map(({ uid }) => uid));
  return pods.filter(({ ownerUid, isTerminating, phase }) => {
    return owners.has(ownerUid) && !isTerminating && phase !== "Succeeded" && phase !== "Failed";
  });
}

/** From the verdicts of the containers, by name, to that of the workload. `restarted` asks for the restart. */
export function judgeWorkload(pods: Pod[], containers: Map<string, ContainerVerdict>): WorkloadVerdict {
  const hasStarted = pods.some((pod) => pod.containers.some(({ imageID }) => imageID !== ""));
  if (!hasStarted) return { kind: "waiting", reason: "no pod of the current revision has started" };

  const verdicts = [...containers.values()];
  const outdated: Record<string, Digest> = {};
  for (const [name, verdict] of containers) if (verdict.kind === "outdated") outdated[name] = verdict.resolved;
  if (Object.keys(outdated).length > 0) return { kind: "restarted", outdated };

  const failed = verdicts.find((verdict) => verdict.kind === "failed");
  if (failed) return failed;
  const unknown = verdicts.find((verdict) => verdict.kind === "unknown");
  if (unknown) return unknown;
  if (verdicts.some(({ kind }) => kind === "current")) return { kind: "current" };
  return { kind: "skipped", reason: "no container whose image a restart could change" };
}

// --- Report ---
// One line a container and one a workload, such that the log alone says what was compared and why.

/** A workload with its verdict and those of its containers, by name. */
export interface Judged {
  workload: Workload;
  verdict: WorkloadVerdict;
  containers: Map<string, { image: string; verdict: ContainerVerdict; podCount: number }>;
}

/** The lines of the log. */
export function reportLines({ workload, verdict, containers }: Judged): string[] {
  const subject = `${workload.kind} ${workload.namespace}/${workload.name}`;
  const lines = [...containers].map(([name, container]) => {
    const { image, podCount } = container;
    return `${subject}, container ${name} (${image}): ${describeContainer(container.verdict, podCount)}`;
  });
  return [...lines, `${subject}: ${describeWorkload(verdict)}`];
}

function describeContainer(verdict: ContainerVerdict, podCount: number): string {
  switch (verdict.kind) {
    case "current":
      return `current, resolved ${verdict.resolved}`;
    case "outdated": {
      const pods = `${verdict.pods.length} of ${podCount} pods`;
      return `outdated, running ${verdict.running} in ${pods}, resolved ${verdict.resolved}`;
    }
    case "unknown":
    case "skipped":
      return `${verdict.kind}, ${verdict.reason}`;
    case "failed":
      return `failed, ${verdict.error.message}`;
    default:
      return verdict satisfies never;
  }
}

function describeWorkload(verdict: WorkloadVerdict): string {
  switch (verdict.kind) {
    case "restarted":
      return `restarted, outdated: ${Object.keys(verdict.outdated).join(", ")}`;
    case "current":
      return "current, nothing to do";
    case "waiting":
    case "skipped":
    case "unknown":
      return `${verdict.kind}, ${verdict.reason}`;
    case "failed":
      return `failed, ${verdict.error.message}`;
    default:
      return verdict satisfies never;
  }
}

// --- Main ---
// Ties the sections together: reads, judges, restarts, reports.

/** Everything impure that `main` touches. */
export interface Outside {
  fetch: Fetch;
  connect(fetch: Fetch): Promise<Cluster>;
  now(): Date;
  log(line: string): void;
  logError(line: string): void;
  /** Ends the run; its reason says why, such as a signal of the operating system. */
  stop: AbortSignal;
}

/** Runs once. Resolves to the exit code: 0 judged and acted on, 1 something failed, 2 bad flag or variable. */
export async function main(argv: readonly string[], env: Env, outside: Outside): Promise<number> {
  try {
    const config = readConfig(argv, env);
    if ("print" in config) {
      outside.log(config.print);
      return 0;
    }
    const judged = await run(config, outside);
    for (const line of reportLines(judged)) outside.log(line);
    const verdicts = [judged.verdict, ...[...judged.containers.values()].map(({ verdict }) => verdict)];
    return verdicts.some(({ kind }) => kind === "failed") ? 1 : 0;
  } catch (error) {
    const isBug = !(error instanceof Error) || error instanceof TypeError || error instanceof RangeError;
    outside.logError(isBug ? String((error as Error)?.stack ?? error) : `figwasp: ${error.message}`);
    return error instanceof ConfigError ? 2 : 1;
  }
}

async function run(config: Config, outside: Outside): Promise<Judged> {
  const signal = AbortSignal.any([outside.stop, AbortSignal.timeout(config.runTimeoutMs)]);
  const fetch = boundFetch(outside.fetch, config.clientTimeoutMs, signal);
  const cluster = await outside.connect(fetch);
  const registry = new Registry(config.certsDir, fetch);
  const namespace = config.namespace ?? cluster.namespace;
  for (let attempt = 1; ; attempt++) {
    const judged = await examine(cluster, registry, await readDeployment(cluster, namespace, config.deployment));
    if (judged.verdict.kind !== "restarted") return judged;
    try {
      await restart(cluster, judged.workload, judged.verdict.outdated, outside.now());
      return judged;
    } catch (error) {
      // Somebody wrote it in between, another figwasp perhaps: what was judged may no longer be true.
      const isConflict = error instanceof ApiError && error.status === 409;
      if (isConflict && attempt < 2) continue;
      const reason = new Error(`Cannot restart: ${messageOf(error)}`, { cause: error });
      return { ...judged, verdict: { kind: "failed", error: reason } };
    }
  }
}

async function readDeployment(cluster: Cluster, namespace: string, name: string): Promise<Workload> {
  try {
    return await cluster.getDeployment(namespace, name);
  } catch (error) {
    throw new Error(`Cannot read deployment "${namespace}/${name}": ${messageOf(error)}`, { cause: error });
  }
}

async function examine(cluster: Cluster, registry: Registry, workload: Workload): Promise<Judged> {
  const passed = reasonToPass(workload);
  if (passed) return { workload, verdict: passed, containers: new Map() };

  const { namespace, selector } = workload;
  const [revisions, listed] = await Promise.all([
    cluster.listReplicaSets(namespace, selector),
    cluster.listPods(namespace, selector),
  ]);
  const pods = currentPods(workload, revisions, listed);
  const judged = await Promise.all(
    workload.containers.map(async ({ name, image }) => {
      const facts = await gatherFacts(registry, pods, name, image);
      return [name, { image, verdict: judgeContainer(facts), podCount: facts.pods.length }] as const;
    }),
  );
  const verdicts = new Map(judged.map(([name, { verdict }]) => [name, verdict]));
  return { workload, verdict: judgeWorkload(pods, verdicts), containers: new Map(judged) };
}

async function gatherFacts(registry: Registry, pods: Pod[], name: string, image: string): Promise<ContainerFacts> {
  const facts: ContainerFacts = {
    image,
    reference: tryParseReference(image),
    pods: pods.flatMap((pod) => {
      const found = pod.containers.find((container) => container.name === name);
      return found ? [{ pod: pod.name, pullPolicy: found.pullPolicy, running: runningDigest(found.imageID) }] : [];
    }),
  };
  const running = facts.pods.map((entry) => entry.running);
  const isComparable = running.some((found) => "digest" in found) && reasonToSkip(facts) === undefined;
  if (!isComparable || facts.reference instanceof Error) return facts;
  return { ...facts, lookup: await lookUp(registry, facts.reference, running) };
}

function tryParseReference(image: string): Reference | SyntaxError {
  try {
    return parseReference(image);
  } catch (error) {
    if (error instanceof SyntaxError) return error;
    throw error;
  }
}

// What `kubectl rollout restart` writes, and beside it what the restart was for: template annotations reach
// the pods, so that each pod says itself which restart it comes from. With the resourceVersion the API server
// refuses the PATCH where the workload is no longer the one that was judged, so two runs at once restart once.
async function restart(
  cluster: Cluster,
  workload: Workload,
  outdated: Record<string, Digest>,
  now: Date,
): Promise<void> {
  const annotations = {
    "kubectl.kubernetes.io/restartedAt": now.toISOString().replace(/\.\d+Z$/, "Z"),
    "figwasp/restarted-for": JSON.stringify(outdated),
  };
  const { namespace, name, resourceVersion } = workload;
  const patch = { metadata: { resourceVersion }, spec: { template: { metadata: { annotations } } } };
  await cluster.patchDeployment(namespace, name, patch);
}

/** The real world, for the entry point below. SIGTERM and SIGINT end the run, with the report so far. */
export function realOutside(): Outside {
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.once(name, () => stop.abort(new Error(`${name} was received`)));
  }
  return {
    fetch: undiciFetch,
    connect: connectCluster,
    now: () => new Date(),
    log: (line) => console.log(line),
    logError: (line) => console.error(line),
    stop: stop.signal,
  };
}

if (import.meta.main)
  void main(process.argv.slice(2), process.env, realOutside()).then((code) => (process.exitCode = code));
