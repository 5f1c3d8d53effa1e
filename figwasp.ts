#!/usr/bin/env node
/**
 * figwasp restarts a Kubernetes workload when its image tag has moved in the registry.
 *
 * Kubernetes starts a pod from `app:latest` and never looks again. figwasp looks, once, and ends:
 *
 *   config      which workloads, which deadlines                        readConfig
 *   workloads   their templates, and the pods of the current revision   Cluster, countingPods
 *   references  the tag from the template, what runs from imageID       parseReference, runningDigest
 *   registry    the digest that the tag resolves to now, by one HEAD    Registry, lookUp
 *   verdicts    would a fresh pull bring other content?                 judgeContainer, judgeWorkload
 *   restarts    one PATCH of two pod-template annotations; a report     main
 *
 * Run it with `npx tsx figwasp.ts`, with `node figwasp.ts`, or as a Job. `--help` lists the settings.
 * It keeps no state: what it did stands in the pod template, and so in the pods.
 */
import { createHash } from "node:crypto";
import { STATUS_CODES } from "node:http";
import { parseArgs, type ParseArgsOptionsConfig } from "node:util";
import { HttpMethod, KubeConfig, RequestContext } from "@kubernetes/client-node";
import type { V1ControllerRevision, V1DaemonSet, V1Deployment, V1LabelSelector } from "@kubernetes/client-node";
import type { V1ObjectMeta, V1Pod, V1ReplicaSet, V1StatefulSet } from "@kubernetes/client-node";
import { type Response, fetch as undiciFetch } from "undici";
import { boundFetch, describeRefusal, type Endpoint, type Fetch, HttpError, isObject } from "./transport.ts";
import { messageOf, parseObject, quote, readBody, readEndpoints, send } from "./transport.ts";

/** The release this file belongs to; package.json says the same, and a test compares them. */
export const RELEASE = "3.0.0-alpha.0";

// --- Config ---
// Everything that a user can set stands in one table: flags as kubectl spells them, a variable for each, and
// --help. A mistake is a ConfigError, found before any request and answered with exit code 2.

export class ConfigError extends Error {}

export interface Config {
  /** The workloads that are named; none: all that the selector finds. */
  targets: { kind: Kind; name: string }[];
  /** A label selector in the API's form; empty: every workload. */
  selector: string;
  /** Absent: the pod's own namespace, else the kubeconfig context's, else `default`. */
  namespace: string | undefined;
  isAllNamespaces: boolean;
  /** Deadline of each request, in milliseconds. */
  clientTimeoutMs: number;
  /** Deadline of the whole run, in milliseconds. */
  runTimeoutMs: number;
  /** When a restart that did not bring the resolved digest may be tried again, in milliseconds. */
  retryIntervalMs: number | undefined;
  /** Folder of `HOST/hosts.toml` files in containerd's format. */
  certsDir: string;
}

type Setting = { variable: string; about: string; short?: string; unset?: string; isSwitch?: true };

const settings = {
  names: { variable: "FIGWASP_TARGET_DEPLOYMENT", about: "which: a Deployment's NAME, KIND/NAME, several by commas" },
  selector: {
    variable: "FIGWASP_TARGET_SELECTOR",
    short: "l",
    unset: "figwasp/target=true",
    about: "which: by labels",
  },
  all: { variable: "FIGWASP_TARGET_ALL", isSwitch: true, about: "which: every one" },
  namespace: { variable: "FIGWASP_TARGET_NAMESPACE", short: "n", about: "where; the pod's own, or the context's" },
  "all-namespaces": { variable: "FIGWASP_ALL_NAMESPACES", short: "A", isSwitch: true, about: "where: everywhere" },
  "client-timeout": { variable: "FIGWASP_CLIENT_TIMEOUT", unset: "30s", about: "deadline of each request" },
  timeout: { variable: "FIGWASP_RUN_TIMEOUT", unset: "5m", about: "deadline of the whole run" },
  "retry-interval": { variable: "FIGWASP_RETRY_INTERVAL", about: "when to restart again for the same digest; never" },
  "certs-dir": {
    variable: "FIGWASP_CERTS_DIR",
    unset: "/etc/figwasp/certs.d",
    about: "folder of HOST/hosts.toml files",
  },
} as const satisfies Record<string, Setting>;

type Name = keyof typeof settings;
type Env = Readonly<Record<string, string | undefined>>;

/** What the arguments and variables ask for: a run, or a text to print (`--help`, `--version`). A flag beats its
 *  variable, and what says which or where by flag beats all that says it by variable; an empty variable counts as
 *  unset, as in figwasp v1. Throws ConfigError, which names the flag or variable. */
export function readConfig(argv: readonly string[], env: Env): Config | { print: string } {
  const flags = parseFlags(argv);
  if ("help" in flags) return { print: helpText() };
  if ("version" in flags) return { print: `figwasp ${RELEASE}` };

  const groups: Name[][] = [
    ["names", "selector", "all"],
    ["namespace", "all-namespaces"],
  ];
  const given = (name: Name): string => {
    const group = groups.find((names) => names.includes(name)) ?? [name];
    return group.some((each) => each in flags) ? (flags[name] ?? "") : (env[settings[name].variable] ?? "");
  };
  const named = given("names")
    .split(/[\s,]+/)
    .flatMap((name) => (name === "" ? [] : [parseTarget(name)]));
  const targets = [...new Map(named.map((target) => [`${target.kind}/${target.name}`, target])).values()];
  const isAll = readSwitch("all", given("all"));
  const isAllNamespaces = readSwitch("all-namespaces", given("all-namespaces"));
  refuseTogether({ names: targets.length > 0, "--selector": given("selector") !== "", "--all": isAll });
  refuseTogether({ "--namespace": given("namespace") !== "", "--all-namespaces": isAllNamespaces });
  refuseTogether({ names: targets.length > 0, "--all-namespaces": isAllNamespaces });
  return {
    targets,
    selector: isAll ? "" : given("selector") || settings.selector.unset,
    namespace: given("namespace") ? checkName("namespace", given("namespace")) : undefined,
    isAllNamespaces,
    clientTimeoutMs: readTimeout("client-timeout", given("client-timeout")),
    runTimeoutMs: readTimeout("timeout", given("timeout")),
    retryIntervalMs: given("retry-interval") ? readDuration("retry-interval", given("retry-interval")) : undefined,
    certsDir: given("certs-dir") || settings["certs-dir"].unset,
  };
}

// The flags that are there, by name, with switches as "true"; the arguments, which are names, with commas.
function parseFlags(argv: readonly string[]): Partial<Record<string, string>> {
  const options: ParseArgsOptionsConfig = { help: { type: "boolean", short: "h" }, version: { type: "boolean" } };
  for (const [name, { short, isSwitch }] of settingRows()) {
    options[name] = { type: isSwitch ? "boolean" : "string", ...(short && { short }) };
  }
  try {
    const { values, positionals } = parseArgs({ args: [...argv], options, allowPositionals: true });
    const names = positionals.length > 0 ? { names: positionals.join(",") } : {};
    return { ...Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)])), ...names };
  } catch (error) {
    throw new ConfigError(`Cannot start: ${messageOf(error).split(/[.\n]/)[0]}, --help lists the flags`);
  }
}

function settingRows(): [string, Setting][] {
  return Object.entries(settings).filter(([name]) => name !== "names");
}

function helpText(): string {
  const rows = Object.entries<Setting>(settings).map(([name, { short, variable, about, unset }]) => {
    const flag = name === "names" ? "[KIND/]NAME…" : `${short ? `-${short}, ` : "    "}--${name}`;
    return `  ${flag.padEnd(22)} ${variable.padEnd(25)} ${about}${unset ? ` (${unset})` : ""}`;
  });
  return `Usage: figwasp [[KIND/]NAME… | -l SELECTOR | --all] [-n NAMESPACE | -A]

Restarts Deployments, StatefulSets and DaemonSets when their image tag has moved in the registry.
${rows.join("\n")}

Durations are Go's, such as 30s or 1m30s. The exit code is 0 when all was judged and acted on, 1 when something
failed or did not converge, 2 for a bad flag or variable, or without a cluster to ask.`;
}

const kinds = ["deployment", "statefulset", "daemonset"] as const;
export type Kind = (typeof kinds)[number];
const kindWords: Record<Kind, RegExp> = {
  deployment: /^(?:deployments?|deploy)(?:\.apps)?$/i,
  statefulset: /^(?:statefulsets?|sts)(?:\.apps)?$/i,
  daemonset: /^(?:daemonsets?|ds)(?:\.apps)?$/i,
};

// As kubectl takes and prints them: `deployment/api`, `sts/db`, `deployment.apps/api`; `api` is a Deployment.
function parseTarget(text: string): { kind: Kind; name: string } {
  const [, word = "deployment", name = ""] = /^(?:([^/]*)\/)?(.*)$/s.exec(text) ?? [];
  const kind = kinds.find((each) => kindWords[each].test(word));
  if (kind) return { kind, name: checkName("names", name) };
  throw new ConfigError(`Cannot use ${quote(text)}: ${quote(word)} is not one of ${kinds.join(", ")}`);
}

function refuseTogether(given: Record<string, boolean>): void {
  const words = Object.keys(given).filter((word) => given[word]);
  if (words.length > 1) throw new ConfigError(`Cannot start: ${words.join(" and ")} exclude each other`);
}

// Names go into URLs; the API server would answer a wrong one with a puzzling 404.
function checkName(setting: Name, name: string): string {
  return /^[a-z0-9][a-z0-9.-]{0,252}$/.test(name) ? name : refuse(setting, name, "an object's name, such as my-app,");
}

function readSwitch(setting: Name, text: string): boolean {
  if (["", "false", "0"].includes(text)) return false;
  return ["true", "1"].includes(text) || refuse(setting, text, "true or false");
}

// In whole milliseconds, as timers want them.
function readDuration(setting: Name, text: string): number {
  const ms = Math.round(parseGoDuration(text));
  return ms >= 1 ? ms : refuse(setting, text, "a positive Go duration, such as 30s or 1m30s,");
}

// Node's timers end at 2^31-1 ms, 24 days; a longer one would fire at once.
function readTimeout(setting: "client-timeout" | "timeout", text: string): number {
  return Math.min(readDuration(setting, text || settings[setting].unset), 2 ** 31 - 1);
}

function refuse(setting: Name, found: string, needed: string): never {
  const what = setting === "names" ? "name" : `--${setting}`;
  throw new ConfigError(`Cannot use ${what} (${settings[setting].variable}) ${quote(found)}: ${needed} is needed`);
}

const unitMs: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, μs: 1e-3, ms: 1, s: 1e3, m: 6e4, h: 36e5 };

/** `1h30m` → 5400000, `250ms` → 250, `0` → 0; in milliseconds. NaN for anything else, signs among it.
 *  See Go's time.ParseDuration. */
export function parseGoDuration(text: string): number {
  if (text === "0") return 0;
  const part = /(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/y;
  let sum = 0;
  do {
    const [, number, unit = ""] = part.exec(text) ?? [];
    sum += Number(number) * (unitMs[unit] ?? NaN);
  } while (part.lastIndex > 0 && part.lastIndex < text.length);
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
export type Running = RunningDigest | { reason: string };
export type RunningDigest = { digest: Digest; isImageId: boolean };

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

// --- Registry ---
// The conversation with a registry: how its host is reached, the challenge, the HEAD, and a GET only to explain
// a difference. One question is asked once a run and shared while in flight. No token is sent before the
// registry asks for it, and no token goes along when a redirect leaves the host.

// All four in one Accept: without the index types some registries answer with the digest of another manifest,
// or with a converted schema-1 one (distribution-spec, "Pulling manifests"; keel-hq/keel#715).
const manifestTypes = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
];
const manifestLimitBytes = 4 * 1024 * 1024; // what the distribution-spec asks registries to take
const tokenLimitBytes = 64 * 1024;
const userAgent = `figwasp/${RELEASE} (+https://github.com/figwasp/figwasp)`;

/** The manifest of an index (`children`) or of an image (`config`), as far as figwasp reads it. */
export interface Manifest {
  digest: Digest;
  /** Without attestations; `platform` is `linux/arm64/v8`. See image-spec, "Image Index". */
  children: { digest: Digest; platform: string }[];
  config: Digest | undefined;
}

export class Registry {
  readonly #certsDir: string;
  readonly #fetch: Fetch;
  readonly #endpoints = new Map<string, Promise<Endpoint[]>>();
  readonly #tagDigests = new Map<string, Promise<Digest>>();
  readonly #manifests = new Map<string, Promise<Manifest | undefined>>();
  readonly #tokens = new Map<string, Promise<string>>();

  /** `certsDir` is a folder in containerd's format; `fetch` comes from boundFetch. */
  constructor(certsDir: string, fetch: Fetch) {
    this.#certsDir = certsDir;
    this.#fetch = fetch;
  }

  /** The digest that the reference's tag points at now. Throws Error with method, URL and answer. */
  resolve(reference: Reference): Promise<Digest> {
    return once(this.#tagDigests, `${nameOf(reference)}:${reference.tag}`, async () => {
      const { headers, url } = await this.#ask("HEAD", reference, reference.tag);
      const digest = headers.get("docker-content-digest");
      // Red Hat's registry and some Nexus set-ups leave it out.
      if (digest === null) return sha256(await this.#read(reference, reference.tag));
      if (isDigest(digest)) return digest;
      throw new Error(`HEAD ${url} returned the digest ${quote(digest)}, a sha256 one is needed`);
    });
  }

  /** The manifest of this digest; undefined where the repository does not have it. Throws Error, also where the
   *  bytes are not the digest's. */
  manifest(reference: Reference, digest: Digest): Promise<Manifest | undefined> {
    return once(this.#manifests, `${nameOf(reference)}@${digest}`, async () => {
      try {
        const body = await this.#read(reference, digest);
        if (sha256(body) === digest) return parseManifest(digest, body);
      } catch (error) {
        if (error instanceof HttpError && error.status === 404) return undefined;
        throw error;
      }
      throw new Error(`the registry gave other bytes for ${digest}`);
    });
  }

  async #read(reference: Reference, tagOrDigest: string): Promise<Buffer> {
    return readBody(await this.#ask("GET", reference, tagOrDigest), manifestLimitBytes);
  }

  // containerd's order: each host of hosts.toml in turn, the server last; the first that has it answers.
  async #ask(method: "HEAD" | "GET", reference: Reference, tagOrDigest: string): Promise<Response> {
    const { registry } = reference;
    const endpoints = await once(this.#endpoints, registry, () => readEndpoints(this.#certsDir, registry));
    const failures: unknown[] = [];
    for (const endpoint of endpoints) {
      try {
        return await this.#askEndpoint(method, endpoint, reference, tagOrDigest);
      } catch (error) {
        failures.push(error);
      }
    }
    // The last one is the registry itself: what it does not have is not there, whatever a mirror said.
    const status = (failures.at(-1) as Partial<HttpError> | undefined)?.status;
    throw new HttpError(status, failures.map(messageOf).join("; ") || "no host in its hosts.toml may resolve tags");
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
    if (response.status !== 200) {
      throw new HttpError(response.status, `${method} ${url} returned ${await describeRefusal(response)}`);
    }
    const type = response.headers.get("content-type") ?? "";
    if (/docker.*manifest\.v1\+/.test(type)) throw new Error(`${url} is of the outdated type ${quote(type)}`);
    return response;
  }

  #send(method: string, url: string, headers: Record<string, string>): Promise<Response> {
    return send(this.#fetch, url, { method, headers: { ...headers, "user-agent": userAgent } });
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
      const { token, access_token: accessToken } = parseObject(await readBody(response, tokenLimitBytes)) ?? {};
      const found = token || accessToken;
      if (typeof found !== "string" || found === "") throw new Error(`${asked} returned no token`);
      return found;
    });
  }
}

/** What the registry says about a tag, and, where a container runs another digest, what that one means. */
export type Lookup = { kind: "failed"; error: Error } | ({ kind: "resolved"; digest: Digest } & Explanation);

export interface Explanation {
  /** Of the tag's index. */
  children: Digest[];
  /** Of the tag's images, read for a running image ID; undefined where they could not be read. */
  configs: Digest[] | undefined;
  /** Running digests whose images the tag all still has: attestations were changed, or platforms added. */
  equivalent: Digest[];
  /** Running digests that the repository does not have. */
  absent: Digest[];
}

/** Resolves the tag of an image; looks further only to explain a difference. Never throws. */
export async function lookUp(registry: Registry, image: string, running: Running[]): Promise<Lookup> {
  try {
    const reference = parseReference(image);
    const digest = await registry.resolve(reference);
    const others = running.flatMap((found) => ("digest" in found && found.digest !== digest ? [found] : []));
    const read = (wanted: Digest) => registry.manifest(reference, wanted);
    return { kind: "resolved", digest, ...(await explain(digest, others, read)) };
  } catch (cause) {
    if (cause instanceof SyntaxError) return { kind: "failed", error: cause };
    return { kind: "failed", error: new Error(`Cannot resolve ${quote(image)}: ${messageOf(cause)}`, { cause }) };
  }
}

type ReadManifest = (digest: Digest) => Promise<Manifest | undefined>;

async function explain(digest: Digest, running: RunningDigest[], read: ReadManifest): Promise<Explanation> {
  const found: Explanation = { children: [], configs: [], equivalent: [], absent: [] };
  if (running.length === 0) return found;
  const tag = await read(digest);
  if (!tag) throw new Error(`the repository no longer has ${digest}`);
  found.children = tag.children.map((child) => child.digest);

  const unexplained = running.filter((other) => !found.children.includes(other.digest));
  if (unexplained.some(({ isImageId }) => isImageId)) found.configs = await readConfigs(tag, read);
  for (const old of new Set(unexplained.flatMap((other) => (other.isImageId ? [] : [other.digest])))) {
    const manifest = await read(old);
    if (!manifest) found.absent.push(old);
    else if (await hasImagesOf(tag, manifest, read)) found.equivalent.push(old);
  }
  return found;
}

// Whether every image of the old manifest is one of the tag's too. Nobody but the node knows which platform it
// runs, so all of them count. Equal configs are equal content: a config names its layers and its platform.
async function hasImagesOf(tag: Manifest, old: Manifest, read: ReadManifest): Promise<boolean> {
  const images = imagesOf(old);
  for (const image of images) {
    const fits = (other: string) => !other || !image.platform || other === image.platform;
    const candidates = imagesOf(tag).filter(({ platform }) => fits(platform));
    if (candidates.some(({ digest }) => digest === image.digest)) continue;
    const config = (await read(image.digest))?.config;
    const configs = await Promise.all(candidates.map(async ({ digest }) => (await read(digest))?.config));
    if (config === undefined || !configs.includes(config)) return false;
  }
  return images.length > 0;
}

function imagesOf(manifest: Manifest): Manifest["children"] {
  return manifest.config === undefined ? manifest.children : [{ digest: manifest.digest, platform: "" }];
}

async function readConfigs(tag: Manifest, read: ReadManifest): Promise<Digest[] | undefined> {
  const configs = await Promise.all(imagesOf(tag).map(async ({ digest }) => (await read(digest))?.config));
  return configs.length > 0 && configs.every((config) => config !== undefined) ? configs : undefined;
}

function nameOf({ registry, repository }: Reference): string {
  return `${registry}/${repository}`;
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

function parseManifest(digest: Digest, body: Buffer): Manifest {
  const { manifests = [], config } = parseObject(body) ?? {};
  if (!Array.isArray(manifests) || !manifests.every(hasDigest)) {
    throw new Error(`the index ${digest} has children without digests`);
  }
  const children = manifests.map((child) => ({ digest: child.digest, platform: describePlatform(child.platform) }));
  return {
    digest,
    // BuildKit marks what is about an image, and no image itself, with this platform.
    children: children.filter(({ platform }) => platform !== "unknown/unknown"),
    config: hasDigest(config) ? config.digest : undefined,
  };
}

function hasDigest(value: unknown): value is { digest: Digest; platform?: unknown } {
  return isObject(value) && isDigest(value["digest"]);
}

function describePlatform(platform: unknown): string {
  const { os, architecture, variant } = isObject(platform) ? platform : {};
  return [os, architecture, variant].filter((part) => typeof part === "string" && part !== "").join("/");
}

function isDigest(value: unknown): value is Digest {
  return typeof value === "string" && /^sha256:[a-f0-9]{64}$/.test(value);
}

function sha256(body: Buffer): Digest {
  return `sha256:${createHash("sha256").update(body).digest("hex")}`;
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

const pageSize = 500;
// A ReplicaSet holds a template as large as the Deployment's; only its metadata is of use.
const metadataOnly = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/** The API server, as far as figwasp asks it. */
export type Cluster = Awaited<ReturnType<typeof connectCluster>>;

/** Finds the cluster as kubectl does: KUBECONFIG, ~/.kube/config, the pod's ServiceAccount. No request yet.
 *  Throws ConfigError where there is none or it cannot be used; its methods throw HttpError. */
export async function connectCluster(fetch: Fetch) {
  const connection = await readKubeconfig();
  const call: Call = (path, init = {}) => callApi(fetch, connection, path, init);
  return {
    /** Where to look when no namespace is named. */
    namespace: connection.namespace,

    async getWorkload(kind: Kind, namespace: string, name: string): Promise<Workload> {
      return toWorkload(kind, (await call(workloadPath({ kind, namespace, name }))) as AnyWorkload);
    },

    /** In all namespaces where none is given. */
    async listWorkloads(kind: Kind, namespace: string | undefined, selector: string): Promise<Workload[]> {
      const found = await listAll<AnyWorkload>(call, appsPath(namespace, `${kind}s`), selector);
      return found.map((workload) => toWorkload(kind, workload));
    },

    /** The revision of the newest template; undefined before the controller made it. */
    findRevision: (workload: Workload) => findRevision(call, workload),

    async listPods(namespace: string, { ownerUid, selector }: Revision): Promise<Pod[]> {
      const pods = (await listAll<V1Pod>(call, `/api/v1/namespaces/${namespace}/pods`, selector)).map(toPod);
      return pods.filter((pod) => pod.ownerUid === ownerUid);
    },

    /** Sets annotations of the pod template. Status 409: the workload is no longer the one given. */
    annotateTemplate: (workload: Workload, annotations: Annotations) => annotateTemplate(call, workload, annotations),
  };
}

type Annotations = Record<string, string>;

type CallInit = { method?: string; headers?: Record<string, string>; body?: string };
type Call = (path: string, init?: CallInit) => Promise<unknown>;
type Connection = Awaited<ReturnType<typeof readKubeconfig>>;

async function callApi(fetch: Fetch, connection: Connection, path: string, init: CallInit): Promise<unknown> {
  const { server, headers, dispatcher } = connection;
  const { method = "GET" } = init;
  const sent = { ...headers, accept: "application/json", "user-agent": userAgent, ...init.headers };
  const options = { ...init, method, headers: sent, ...(dispatcher && { dispatcher }) };
  const response = await fetch(server.replace(/\/+$/, "") + path, options);
  const body = await readBody(response, Infinity);
  if (response.ok) return JSON.parse(body.toString("utf8"));
  // The message of a Status object; a proxy in between may answer with a page of its own.
  const { message } = parseObject(body) ?? {};
  const reason = typeof message === "string" ? message : STATUS_CODES[response.status];
  throw new HttpError(response.status, `${method} ${path.split("?")[0]} returned ${response.status}: ${reason}`);
}

// In pages. The API server forgets a list after some minutes and then answers 410: start over.
async function listAll<T>(call: Call, path: string, labelSelector: string, headers = {}): Promise<T[]> {
  let items: T[] = [];
  let token: string | undefined = "";
  for (let expired = 0; token !== undefined;) {
    const query = new URLSearchParams({ labelSelector, limit: `${pageSize}`, continue: token });
    try {
      const page = (await call(`${path}?${query.toString()}`, { headers })) as KubernetesList<T>;
      items.push(...(page.items ?? []));
      token = page.metadata.continue || undefined;
    } catch (error) {
      if (!(error instanceof HttpError && error.status === 410 && ++expired < 3)) throw error;
      [items, token] = [[], ""];
    }
  }
  return items;
}

type KubernetesList<T> = { items: T[] | null; metadata: { continue?: string } };

function appsPath(namespace: string | undefined, rest: string): string {
  return `/apis/apps/v1/${namespace === undefined ? "" : `namespaces/${namespace}/`}${rest}`;
}

function workloadPath({ kind, namespace, name }: Pick<Workload, "kind" | "namespace" | "name">): string {
  return appsPath(namespace, `${kind}s/${name}`);
}

/** Which pods run the newest template of a workload. */
export interface Revision {
  /** The ReplicaSet, StatefulSet or DaemonSet. */
  ownerUid: string;
  selector: string;
}

// The controllers label each pod with its revision: a Deployment by the hash of its ReplicaSet, the others by
// that of a ControllerRevision, which a StatefulSet names in its status and a DaemonSet does not.
async function findRevision(call: Call, workload: Workload): Promise<Revision | undefined> {
  const { kind, namespace, uid, selector, revision } = workload;
  if (kind === "deployment") {
    const listed = await listAll<V1ReplicaSet>(call, appsPath(namespace, "replicasets"), selector, {
      accept: metadataOnly,
    });
    const current = listed.find(({ metadata }) => {
      return controllerOf(metadata) === uid && metadata?.annotations?.[revisionAnnotation] === revision;
    })?.metadata;
    const hash = current?.labels?.["pod-template-hash"];
    if (!hash) return undefined;
    return { ownerUid: current?.uid ?? "", selector: `${selector},pod-template-hash=${hash}` };
  }
  let hash: string | undefined = revision;
  if (kind === "daemonset") {
    const listed = await listAll<V1ControllerRevision>(call, appsPath(namespace, "controllerrevisions"), selector);
    const own = listed.filter(({ metadata }) => controllerOf(metadata) === uid);
    hash = own.toSorted((a, b) => b.revision - a.revision)[0]?.metadata?.labels?.[hashLabel];
  }
  return hash ? { ownerUid: uid, selector: `${selector},${hashLabel}=${hash}` } : undefined;
}

const hashLabel = "controller-revision-hash";
const revisionAnnotation = "deployment.kubernetes.io/revision";

// With the resourceVersion the API server refuses to write where the workload is no longer the one that was
// judged, so that two runs at once restart once.
async function annotateTemplate(call: Call, workload: Workload, annotations: Annotations): Promise<void> {
  const { resourceVersion } = workload;
  const path = workloadPath(workload);
  const query = "?fieldManager=figwasp";
  try {
    const patch = { metadata: { resourceVersion }, spec: { template: { metadata: { annotations } } } };
    const headers = { "content-type": "application/strategic-merge-patch+json" };
    await call(path + query, { method: "PATCH", headers, body: JSON.stringify(patch) });
  } catch (refused) {
    if (!(refused instanceof HttpError && refused.status === 403)) throw refused;
    // figwasp v1's Role grants "update" in place of "patch". The object goes back as it came, unknown fields too.
    const raw = (await call(path)) as {
      metadata: { resourceVersion: string };
      spec: { template: { metadata?: { annotations?: Annotations } } };
    };
    if (raw.metadata.resourceVersion !== resourceVersion) throw new HttpError(409, `${path} has changed in between`);
    const { template } = raw.spec;
    template.metadata = { ...template.metadata, annotations: { ...template.metadata?.annotations, ...annotations } };
    const headers = { "content-type": "application/json" };
    await call(path + query, { method: "PUT", headers, body: JSON.stringify(raw) }).catch((error: unknown) => {
      if (error instanceof HttpError && error.status === 403) throw refused;
      throw error;
    });
  }
}

async function readKubeconfig() {
  const kubeconfig = new KubeConfig();
  try {
    kubeconfig.loadFromDefault();
  } catch (cause) {
    throw new ConfigError(`Cannot read the kubeconfig: ${messageOf(cause)}`, { cause });
  }
  const server = kubeconfig.getCurrentCluster()?.server;
  const context = kubeconfig.getContextObject(kubeconfig.getCurrentContext());
  // The library's last resort is a server that nobody has run since Kubernetes 1.20.
  if (!server || (context?.name === "loaded-context" && server === "http://localhost:8080")) {
    const needed = "a kubeconfig with a current context is needed, or a pod with a ServiceAccount token";
    throw new ConfigError(`Cannot find a cluster: ${needed}`);
  }
  // Once, for all calls: the library makes a new connection pool each time that it is asked.
  const sample = new RequestContext(server, HttpMethod.GET);
  await kubeconfig.applySecurityAuthentication(sample).catch((cause: unknown) => {
    const reason = messageOf(cause) || "its credential plugin failed";
    throw new Error(`Cannot authenticate as the kubeconfig says: ${reason}`, { cause });
  });
  const authentication = { headers: sample.getHeaders(), dispatcher: sample.getDispatcher() };
  return { server, namespace: context?.namespace || "default", ...authentication };
}

/** A Deployment, StatefulSet or DaemonSet, as far as figwasp reads it. */
export type Workload = ReturnType<typeof toWorkload>;
type AnyWorkload = V1Deployment & V1StatefulSet & V1DaemonSet;

function toWorkload(kind: Kind, { metadata, spec, status }: AnyWorkload) {
  const template = spec?.template;
  const containers = [...(template?.spec?.initContainers ?? []), ...(template?.spec?.containers ?? [])];
  return {
    kind,
    namespace: metadata?.namespace ?? "",
    name: metadata?.name ?? "",
    uid: metadata?.uid ?? "",
    resourceVersion: metadata?.resourceVersion ?? "",
    isObserved: (status?.observedGeneration ?? 0) >= (metadata?.generation ?? 0),
    isPaused: spec?.paused ?? false,
    isOnDelete: spec?.updateStrategy?.type === "OnDelete",
    replicas: kind === "daemonset" ? (status?.desiredNumberScheduled ?? 0) : (spec?.replicas ?? 1),
    /** In the API's query form: `app=api,tier in (a,b)`. */
    selector: toSelector(spec?.selector ?? {}),
    /** What the controller calls the newest template; a DaemonSet does not say. */
    revision: (kind === "deployment" ? metadata?.annotations?.[revisionAnnotation] : status?.updateRevision) ?? "",
    /** Of the pod template. */
    annotations: template?.metadata?.annotations ?? {},
    /** Init containers, sidecars among them, first. */
    containers: containers.map(({ name, image = "" }) => ({ name, image })),
  };
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
    annotations: metadata?.annotations ?? {},
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
  /** As the pod template names it. */
  image: string;
  /** The container in each pod of the current revision that has it. */
  pods: { pod: string; pullPolicy: string; running: Running }[];
  /** Absent where nobody asked, because the answer could not matter. */
  lookup?: Lookup;
}

export type ContainerVerdict =
  | { kind: "current"; resolved: Digest; isEquivalent: boolean }
  | { kind: "outdated"; running: Digest; resolved: Digest; pods: string[]; isAbsent: boolean }
  | { kind: "unknown"; reason: string }
  | { kind: "skipped"; reason: string }
  | { kind: "failed"; error: Error };

/** Why a container is no candidate for a restart whatever the registry says; undefined if it is one. */
export function reasonToSkip({ image, pods }: ContainerFacts): string | undefined {
  if (image.includes("@")) return "pinned by digest";
  const [first] = pods;
  if (first && pods.every(({ pullPolicy }) => pullPolicy !== "Always")) {
    return `imagePullPolicy is ${first.pullPolicy}, so that a restart would not pull: set it to Always`;
  }
  return undefined;
}

/** The verdict over all pods of the current revision: their worst. */
export function judgeContainer(facts: ContainerFacts): ContainerVerdict {
  const skip = reasonToSkip(facts);
  if (skip !== undefined) return { kind: "skipped", reason: skip };

  const pulling = facts.pods.filter(({ pullPolicy }) => pullPolicy === "Always");
  const verdicts = pulling.map(({ pod, running }) => judgeRunning(pod, running, facts.lookup));
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

  const { digest: resolved, children, configs, equivalent, absent } = lookup;
  const { digest, isImageId } = running;
  const isEquivalent = equivalent.includes(digest);
  const isSame = digest === resolved || children.includes(digest) || configs?.includes(digest);
  if (isSame || isEquivalent) return { kind: "current", resolved, isEquivalent };
  if (isImageId && !configs) return { kind: "unknown", reason: `pod ${pod}: its image ID cannot be compared` };
  return { kind: "outdated", running: digest, resolved, pods: [pod], isAbsent: absent.includes(digest) };
}

export type WorkloadVerdict =
  | { kind: "restarted"; outdated: Record<string, Digest> } // to be restarted, until the restart is made
  | { kind: "not converged" | "waiting" | "skipped" | "unknown"; reason: string }
  | { kind: "failed"; error: Error }
  | { kind: "current" };

/** Why a workload is not looked at more closely; undefined if it is. */
export function reasonToPass(workload: Workload): WorkloadVerdict | undefined {
  if (workload.isPaused) return { kind: "skipped", reason: "paused: kubectl rollout resume lets it roll again" };
  if (workload.isOnDelete) {
    return { kind: "skipped", reason: "its update strategy is OnDelete: delete its pods, or set RollingUpdate" };
  }
  if (!workload.isObserved) return { kind: "waiting", reason: "the controller has not seen the newest template yet" };
  if (workload.replicas === 0) return { kind: "skipped", reason: "scaled to zero: there is nothing to compare" };
  return undefined;
}

/** The pods that count: not those that are ending or have ended, Evicted ones among them, which stay listed
 *  with what they ran (kubernetes/kubernetes#91672). */
export function countingPods(pods: Pod[]): Pod[] {
  return pods.filter(({ isTerminating, phase }) => !isTerminating && phase !== "Succeeded" && phase !== "Failed");
}

export interface WorkloadFacts {
  /** The pods that count, of the current revision. */
  pods: Pod[];
  containers: Map<string, ContainerVerdict>;
  now: Date;
  retryIntervalMs: number | undefined;
}

/** From the verdicts of the containers, by name, to that of the workload. `restarted` asks for the restart. */
export function judgeWorkload(facts: WorkloadFacts): WorkloadVerdict {
  const { pods, containers } = facts;
  const hasStarted = pods.some((pod) => pod.containers.some(({ imageID }) => imageID !== ""));
  if (!hasStarted) return { kind: "waiting", reason: "no pod of the current revision has started" };

  const all = [...containers];
  const outdated = all.flatMap(([name, verdict]) => (verdict.kind === "outdated" ? [{ name, ...verdict }] : []));
  const stuck = outdated.filter((container) => wasRestartedFor(container, pods));
  const isRetried = stuck.length > 0 && isRetryDue(facts);
  if (outdated.length > stuck.length || isRetried) {
    return { kind: "restarted", outdated: Object.fromEntries(outdated.map(({ name, resolved }) => [name, resolved])) };
  }
  const [first] = stuck;
  if (first) return { kind: "not converged", reason: whyStuck(first, pods) };

  const namesOf = (kind: string) => all.flatMap(([name, verdict]) => (verdict.kind === kind ? [name] : [])).join(", ");
  if (namesOf("failed")) return { kind: "failed", error: new Error(`no answer for ${namesOf("failed")}`) };
  if (namesOf("unknown")) return { kind: "unknown", reason: `cannot tell for ${namesOf("unknown")}` };
  if (namesOf("current")) return { kind: "current" };
  return { kind: "skipped", reason: "no container whose image a restart could change" };
}

type Outdated = Extract<ContainerVerdict, { kind: "outdated" }> & { name: string };

const restartedAtKey = "kubectl.kubernetes.io/restartedAt";
const restartedForKey = "figwasp/restarted-for";

// Whether its outdated pods were themselves made by figwasp's restart for this very digest.
function wasRestartedFor({ name, resolved, pods: outdated }: Outdated, pods: Pod[]): boolean {
  return pods.every((pod) => !outdated.includes(pod.name) || restartedFor(pod.annotations)[name] === resolved);
}

/** What the last restart was for, by container name, from the annotations of a pod or a template; what is not
 *  figwasp's own writing counts as nothing. */
export function restartedFor(annotations: Record<string, string>): Record<string, unknown> {
  return parseObject(Buffer.from(annotations[restartedForKey] ?? "")) ?? {};
}

function isRetryDue({ pods, now, retryIntervalMs }: WorkloadFacts): boolean {
  const times = pods.map(({ annotations }) => Date.parse(annotations[restartedAtKey] ?? ""));
  return retryIntervalMs !== undefined && times.every((time) => now.getTime() - time >= retryIntervalMs);
}

// The likeliest cause first, from what the registry knows of the digest that the nodes pulled.
function whyStuck({ name, running, resolved, isAbsent }: Outdated, pods: Pod[]): string {
  const when = pods.map(({ annotations }) => annotations[restartedAtKey]).find((time) => time !== undefined);
  const mirror = "they pull through a mirror or cache that still serves an older image";
  const proxy = "a proxy rewrites the image, or the nodes know it by another repository's name";
  const likely = isAbsent ? `${proxy}; or ${mirror}` : `${mirror}; or ${proxy}`;
  return (
    `${name} was restarted for ${resolved} at ${when}, and its pods run ${running}. Likely ${likely}; or somebody ` +
    "rolled it out since. Mount the nodes' certs.d folder as FIGWASP_CERTS_DIR to ask where they ask, or set FIGWASP_RETRY_INTERVAL"
  );
}

// --- Report ---
// One line a container and one a workload, such that the log alone says what was compared and why.

/** What was found of a workload. */
export interface Finding {
  /** `deployment shop/api`. */
  subject: string;
  verdict: WorkloadVerdict;
  containers: { name: string; image: string; verdict: ContainerVerdict; podCount: number }[];
}

/** The lines of the log for one workload. */
export function reportLines({ subject, verdict, containers }: Finding): string[] {
  const lines = containers.map((container) => {
    return `${subject}, container ${container.name} (${container.image}): ${describeContainer(container)}`;
  });
  return [...lines, `${subject}: ${describeWorkload(verdict)}`];
}

function describeContainer({ verdict, podCount }: Finding["containers"][number]): string {
  switch (verdict.kind) {
    case "current":
      return `current, resolved ${verdict.resolved}${verdict.isEquivalent ? ", another index of the same image" : ""}`;
    case "outdated": {
      const { running, resolved, pods } = verdict;
      return `outdated, running ${running} in ${pods.length} of ${podCount} pods, resolved ${resolved}`;
    }
    default:
      return `${verdict.kind}, ${"error" in verdict ? verdict.error.message : verdict.reason}`;
  }
}

function describeWorkload(verdict: WorkloadVerdict): string {
  if (verdict.kind === "restarted") return `restarted, outdated: ${Object.keys(verdict.outdated).join(", ")}`;
  if (verdict.kind === "current") return "current, nothing to do";
  return `${verdict.kind}, ${"error" in verdict ? verdict.error.message : verdict.reason}`;
}

/** `3 workloads: 1 restarted, 2 current`. */
export function summaryLine(findings: Finding[]): string {
  const counts = new Map<string, number>();
  for (const { verdict } of findings) counts.set(verdict.kind, (counts.get(verdict.kind) ?? 0) + 1);
  const parts = [...counts].map(([kind, count]) => `${count} ${kind}`);
  return `${findings.length} workloads: ${parts.join(", ") || "none found"}`;
}

// --- Main ---
// Ties the sections together: reads, judges, restarts, reports. Catches once per workload, so that one bad
// workload never hides another, and once for all.

/** Everything impure that `main` touches. */
export interface Outside {
  fetch: Fetch;
  connect: (fetch: Fetch) => Promise<Cluster>;
  now: () => Date;
  log: (line: string) => void;
  logError: (line: string) => void;
  /** Ends the run; its reason says why, such as a signal of the operating system. */
  stop: AbortSignal;
}

/** Runs once. Resolves to the exit code: 0 judged and acted on, 1 something failed, 2 bad variable or no cluster. */
export async function main(argv: readonly string[], env: Env, outside: Outside): Promise<number> {
  try {
    const config = readConfig(argv, env);
    if ("print" in config) {
      outside.log(config.print);
      return 0;
    }
    const findings = await run(config, outside);
    if (findings.length !== 1) outside.log(summaryLine(findings));
    return findings.some(isTrouble) ? 1 : 0;
  } catch (error) {
    outside.logError(describeEnd(error));
    return error instanceof ConfigError ? 2 : 1;
  }
}

function isTrouble({ verdict, containers }: Finding): boolean {
  const found = [verdict.kind, ...containers.map((container) => container.verdict.kind)];
  return found.some((kind) => kind === "failed" || kind === "not converged");
}

// A known error is one line; a mistake of our own shows where it happened.
function describeEnd(error: unknown): string {
  const isKnown = error instanceof Error && !(error instanceof TypeError || error instanceof RangeError);
  return isKnown ? `figwasp: ${error.message}` : String((error as Error | undefined)?.stack ?? error);
}

/** What the functions below share during a run. */
interface Run {
  config: Config;
  cluster: Cluster;
  registry: Registry;
  now: () => Date;
}

const workloadsAtOnce = 4;

async function run(config: Config, outside: Outside): Promise<Finding[]> {
  const deadline = new AbortController();
  const isOver = new Error(`the run has reached its deadline of ${config.runTimeoutMs / 1000} s`);
  setTimeout(() => deadline.abort(isOver), config.runTimeoutMs).unref();
  const signal = AbortSignal.any([outside.stop, deadline.signal]);
  const fetch = boundFetch(outside.fetch, config.clientTimeoutMs, signal);
  // A credential plugin of the kubeconfig knows no deadline.
  const ended = new Promise<never>((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(new Error(`Cannot connect: ${messageOf(signal.reason)}`)));
  });
  const cluster = await Promise.race([outside.connect(fetch), ended]);
  const shared: Run = { config, cluster, registry: new Registry(config.certsDir, fetch), now: outside.now };

  const queue = await selectWorkloads(shared);
  const findings: Finding[] = [];
  const work = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const finding = "verdict" in next ? next : await converge(shared, next);
      findings.push(finding);
      for (const line of reportLines(finding)) outside.log(line);
    }
  };
  await Promise.all(Array.from({ length: workloadsAtOnce }, work));
  return findings;
}

/** A workload to look at, read already where it came from a list. */
type Selected = Pick<Workload, "kind" | "namespace" | "name"> & { workload?: Workload };

// The named workloads, or what the selector finds of each kind; that a kind cannot be listed is a finding.
async function selectWorkloads({ config, cluster }: Run): Promise<(Selected | Finding)[]> {
  const namespace = config.namespace ?? cluster.namespace;
  if (config.targets.length > 0) return config.targets.map((target) => ({ ...target, namespace }));

  const where = config.isAllNamespaces ? undefined : namespace;
  const lists = kinds.map(async (kind) => {
    try {
      const found = await cluster.listWorkloads(kind, where, config.selector);
      return found.map((workload) => ({ kind, namespace: workload.namespace, name: workload.name, workload }));
    } catch (error) {
      return [failure(`${kind}s ${where === undefined ? "in all namespaces" : `in ${where}`}`, "list", error)];
    }
  });
  return (await Promise.all(lists)).flat();
}

// Judges a workload and restarts it where it is outdated; judges it again, once, where somebody changed it in
// between, another figwasp perhaps.
async function converge(shared: Run, selected: Selected, isSecondTry = false): Promise<Finding> {
  const { kind, namespace, name } = selected;
  const subject = `${kind} ${namespace}/${name}`;
  try {
    const workload = selected.workload ?? (await shared.cluster.getWorkload(kind, namespace, name));
    const finding = await examine(shared, subject, workload);
    if (finding.verdict.kind !== "restarted") return finding;
    try {
      await restart(shared, workload, finding.verdict.outdated);
      return finding;
    } catch (error) {
      const isConflict = error instanceof HttpError && error.status === 409;
      if (isConflict && !isSecondTry) return await converge(shared, { kind, namespace, name }, true);
      return { ...failure(subject, "restart", error), containers: finding.containers };
    }
  } catch (error) {
    return failure(subject, "read", error);
  }
}

function failure(subject: string, verb: string, cause: unknown): Finding {
  const error = new Error(`Cannot ${verb} ${subject}: ${messageOf(cause)}`, { cause });
  return { subject, verdict: { kind: "failed", error }, containers: [] };
}

async function examine({ config, cluster, registry, now }: Run, subject: string, workload: Workload): Promise<Finding> {
  const passed = reasonToPass(workload);
  if (passed) return { subject, verdict: passed, containers: [] };

  const revision = await cluster.findRevision(workload);
  const pods = revision ? countingPods(await cluster.listPods(workload.namespace, revision)) : [];
  const containers = await Promise.all(
    workload.containers.map(async ({ name, image }) => {
      const facts = await gatherFacts(registry, pods, name, image);
      return { name, image, verdict: judgeContainer(facts), podCount: facts.pods.length };
    }),
  );
  const verdicts = new Map(containers.map(({ name, verdict }) => [name, verdict]));
  const { retryIntervalMs } = config;
  const verdict = judgeWorkload({ pods, containers: verdicts, now: now(), retryIntervalMs });
  return { subject, verdict, containers: verdict.kind === "waiting" ? [] : containers };
}

async function gatherFacts(registry: Registry, pods: Pod[], name: string, image: string): Promise<ContainerFacts> {
  const found = pods.flatMap((pod) => {
    const container = pod.containers.find((each) => each.name === name);
    return container ? [{ pod: pod.name, ...container, running: runningDigest(container.imageID) }] : [];
  });
  const facts: ContainerFacts = { image, pods: found };
  const running = found.map((entry) => entry.running);
  const isComparable = running.some((entry) => "digest" in entry) && reasonToSkip(facts) === undefined;
  return isComparable ? { ...facts, lookup: await lookUp(registry, image, running) } : facts;
}

// What `kubectl rollout restart` writes, and beside it what the restart was for: template annotations reach
// the pods, so that each pod says itself which restart it comes from. What earlier restarts of other
// containers were for stays, or they would be restarted for the same digest again.
async function restart({ cluster, now }: Run, workload: Workload, outdated: Record<string, Digest>): Promise<void> {
  const earlier = Object.entries(restartedFor(workload.annotations));
  const kept = earlier.filter(([name]) => workload.containers.some((container) => container.name === name));
  await cluster.annotateTemplate(workload, {
    [restartedAtKey]: `${now().toISOString().slice(0, 19)}Z`,
    [restartedForKey]: JSON.stringify({ ...Object.fromEntries(kept), ...outdated }),
  });
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

// Exits rather than waits for a credential plugin that is still at work.
if (import.meta.main) void main(process.argv.slice(2), process.env, realOutside()).then((code) => process.exit(code));
