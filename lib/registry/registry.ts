/**
 * The conversation with a registry about a tag: one HEAD, and a GET only to explain a difference or to name the new image
 * (distribution-spec, "Pull"). How its host is reached, where a credential may go and what it is spared stand in modules of
 * their own; what the answers mean, is decided in figwasp.ts. Nothing secret is sent before the host has asked for it.
 */
import { shareCall } from "../calls.ts";
import { type Credential, identityOf } from "../credentials/docker-config.ts";
import { credentialsFor, type Keyring } from "../credentials/keyring.ts";
import type { Response } from "../http/fetch.ts";
import { type FinalResponse, send } from "../http/redirects.ts";
import { describeRefusal, HttpError, readBody, statusOf } from "../http/transport.ts";
import { printable, quote, withoutQuery } from "../text.ts";
import { userAgent } from "../version.ts";
import { describeLogin, describeNone, type Grant, Logins, type Outcome } from "./auth.ts";
import { describeHostFailure } from "./host-agents.ts";
import { type Endpoint, Hosts, type Proxies } from "./hosts.ts";
import { describeQuota, type LimitedClient } from "./limits.ts";
import {
  configAt,
  type Digest,
  isDigest,
  type Manifest,
  manifestAt,
  parseManifest,
  type Resource,
  sha256,
  UnreadableManifest,
} from "./manifest.ts";
import type { Reference } from "./reference.ts";
import { findRelease, mapWords, type Release } from "./release.ts";

/** How the hosts of registries are reached, as the settings have it. */
export interface RegistrySettings {
  /** Folder of `HOST/hosts.toml` files in containerd's format. */
  certsDir: string;
  proxies: Proxies;
  /** Further hosts, by registry host, that its credential may be sent to for a token. */
  tokenHosts: Map<string, string[]>;
}

/** How a host of a registry was met. Nothing in it is secret. */
export interface Visit {
  /** As images name it: `docker.io`. */
  registry: string;
  /** Where it was asked: `https://registry-1.docker.io/v2`. */
  base: string;
  isMirror: boolean;
  /** What it asks for and takes, and why that; or why it could not be asked. */
  found: string;
  /** Of its answer; undefined where it gave none. */
  status: number | undefined;
}

/** All registries of a run: what their hosts told, and how they let figwasp in. */
export class Registry {
  readonly client: LimitedClient;
  readonly logins: Logins;
  /** Who has resolved a digest, by `ghcr.io/acme/app@sha256:…`. */
  readonly resolvers = new Map<string, Repository>();
  readonly #hosts: Hosts;
  readonly #endpoints = new Map<string, Promise<Endpoint[]>>();
  readonly #repositories = new Map<string, Repository>();
  readonly #releases = new Map<string, Promise<Release | undefined>>();
  /** Registries that have failed to tell a release. */
  readonly #silent = new Set<string>();
  /** Hosts whose certificate is not verified, and who says so. */
  readonly #unverified = new Set<string>();

  constructor({ certsDir, proxies, tokenHosts }: RegistrySettings, client: LimitedClient) {
    this.client = client;
    this.logins = new Logins(client.fetch, { tokenHosts, userAgent });
    this.#hosts = new Hosts(certsDir, proxies);
  }

  /** One conversation for all who ask with the same credentials. */
  open(reference: Reference, keyring: Keyring): Repository {
    const name = nameOf(reference);
    const key = [name, ...credentialsFor(keyring, name).map(identityOf)].join("\n");
    const repository = this.#repositories.get(key) ?? new Repository(this, reference, keyring);
    this.#repositories.set(key, repository);
    return repository;
  }

  /** What its owner calls an image that was resolved in this run; undefined where nobody tells. Nothing is decided by it:
   *  a registry that once fails to tell is not asked again. Never throws. */
  releaseOf(reference: Reference, digest: Digest): Promise<Release | undefined> {
    const key = `${nameOf(reference)}@${digest}`;
    return shareCall(this.#releases, key, async () => {
      if (this.#silent.has(reference.registry)) return undefined;
      try {
        const repository = this.resolvers.get(key);
        const release = repository && (await findRelease(digest, repository));
        return release && mapWords(release, (word) => this.logins.redact(word));
      } catch {
        this.#silent.add(reference.registry);
        return undefined;
      }
    });
  }

  /** Has the tag resolved anew the next time. */
  forgetTag(reference: Reference): void {
    for (const repository of this.#repositories.values()) repository.forgetTag(reference);
  }

  endpointsOf(registry: string): Promise<Endpoint[]> {
    return shareCall(this.#endpoints, registry, async () => {
      const endpoints = await this.#hosts.endpointsOf(registry);
      for (const { base, unverifiedBy, headers } of endpoints) {
        if (unverifiedBy)
          this.#unverified.add(`the certificate of ${new URL(base).host} is not verified: ${unverifiedBy} says so`);
        for (const value of Object.values(headers)) this.logins.conceal(value.replace(/^(?:Basic|Bearer) +/i, ""));
      }
      return endpoints;
    });
  }

  /** What is to be read of its hosts. */
  get remarks(): string[] {
    return [...this.#unverified, ...this.client.warnings].map((remark) => printable(this.logins.redact(remark)));
  }

  /** The remarks, and the limits that hosts told. */
  get notes(): string[] {
    return [...this.remarks, ...[...this.client.quotas].map(([host, quota]) => describeQuota(host, quota))];
  }

  /** How its hosts were met. */
  get visits(): Visit[] {
    return Array.from(this.#repositories.values(), ({ visits }) => Array.from(visits.values())).flat();
  }
}

interface ManifestQuestion extends Resource {
  method: "HEAD" | "GET";
}

/** The conversation about one repository, with the credentials of the pods that run its image. */
export class Repository {
  readonly #registry: Registry;
  readonly #reference: Reference;
  readonly #keyring: Keyring;
  readonly #tagDigests = new Map<string, Promise<Digest>>();
  readonly #manifests = new Map<string, Promise<Manifest | undefined>>();
  /** How each host was met, by the base of its endpoint. */
  readonly visits = new Map<string, Visit>();
  /** What let it in, by endpoint, and how that is told. */
  readonly #grants = new Map<string, Grant>();
  /** Where the credential comes from that let it in: `key "ghcr.io" of Secret shop/pull`; undefined if it was nobody's. */
  credential: string | undefined;

  constructor(registry: Registry, reference: Reference, keyring: Keyring) {
    this.#registry = registry;
    this.#reference = reference;
    this.#keyring = keyring;
  }

  /** The digest that the tag points at now. Throws Error with method, URL and answer. */
  resolve(tag: string): Promise<Digest> {
    return shareCall(this.#tagDigests, tag, async () => {
      const digest = (await this.#head(tag)) ?? sha256(await this.#read(manifestAt(tag)));
      this.#registry.resolvers.set(`${nameOf(this.#reference)}@${digest}`, this);
      return digest;
    });
  }

  /** Where it is about this repository, the tag is asked for anew the next time. */
  forgetTag(reference: Reference): void {
    if (nameOf(reference) === nameOf(this.#reference)) this.#tagDigests.delete(reference.tag);
  }

  /** The manifest of this digest; undefined where the repository does not have it. Throws Error, also where the
   *  bytes are not the digest's. */
  manifest(digest: Digest): Promise<Manifest | undefined> {
    return shareCall(this.#manifests, digest, async () => {
      try {
        return parseManifest(digest, await this.#readExactly(digest, manifestAt(digest)));
      } catch (error) {
        if (statusOf(error) === 404) return undefined;
        throw error;
      }
    });
  }

  /** The config of an image. Throws Error, also where the bytes are not the digest's. */
  config(digest: Digest): Promise<Buffer> {
    return this.#readExactly(digest, configAt(digest));
  }

  // Undefined where a GET has to tell: Red Hat's registry and some Nexus set-ups leave the digest out, others answer a
  // HEAD with 403, 404 or 405 for what they have (crazy-max/diun#1614). Docker Hub does not, and counts each GET.
  async #head(tag: string): Promise<Digest | undefined> {
    try {
      const { headers, url } = await this.#ask({ method: "HEAD", ...manifestAt(tag) });
      const digest = headers.get("docker-content-digest");
      if (digest === null || isDigest(digest)) return digest ?? undefined;
      throw new Error(`HEAD ${withoutQuery(url)} returned the digest ${quote(digest)}, a sha256 one is needed`);
    } catch (error) {
      const isDenied = [403, 404, 405].includes(statusOf(error) ?? 0);
      if (isDenied && this.#reference.registry !== "docker.io") return undefined;
      throw error;
    }
  }

  // ECR and others send no digest with a GET, and some send a wrong one: the bytes tell.
  async #readExactly(digest: Digest, resource: Resource): Promise<Buffer> {
    const body = await this.#read(resource);
    if (sha256(body) === digest) return body;
    throw new Error(`the registry gave other bytes for ${digest}`);
  }

  async #read(resource: Resource): Promise<Buffer> {
    return readBody(await this.#ask({ method: "GET", ...resource }), resource.limitBytes);
  }

  // containerd's order: each host of hosts.toml in turn, the server last; the first that has it answers.
  async #ask(question: ManifestQuestion): Promise<Response> {
    const { registry } = this.#reference;
    const failures: unknown[] = [];
    for (const endpoint of await this.#registry.endpointsOf(registry)) {
      try {
        return await this.#askEndpoint(question, endpoint);
      } catch (error) {
        if (error instanceof UnreadableManifest) throw error;
        failures.push(error);
        if (!this.visits.has(endpoint.base)) this.#remember(endpoint, describeHostFailure(error, registry));
      }
    }
    const said = failures.map((error) => describeHostFailure(error, registry)).join("; ");
    // The last one is the registry itself: what it does not have is not there, whatever a mirror said.
    throw new HttpError(statusOf(failures.at(-1)), said || "no host in its hosts.toml may resolve tags");
  }

  async #askEndpoint(question: ManifestQuestion, endpoint: Endpoint): Promise<Response> {
    const { method, path } = question;
    const { base, query } = endpoint;
    const url = `${base}/${this.#reference.repository}/${path}`;
    if (method === "GET") this.#registry.client.ensurePullsRemain(new URL(base).host);
    const known = this.#grants.get(base);
    const early = known ? undefined : await this.#askEarly(question, url + query, endpoint);
    if (early) return accept(method, url, early);
    const answer = await this.#send(question, url + query, endpoint, known?.authorization);
    if (answer.response.status !== 401) {
      this.#remember(endpoint, known?.found ?? "asks for no credential", answer.response.status);
      return accept(method, url, answer.response);
    }

    const outcome = await this.#logIn(question, answer, endpoint, known !== undefined);
    const found = describeLogin(outcome, this.#keyring.looked);
    this.#remember(endpoint, found, outcome.answer.response.status);
    if (!("authorization" in outcome)) return accept(method, url, outcome.answer.response, outcome.why);
    this.credential = outcome.source;
    if (answer.url.startsWith(`${base}/`)) this.#grants.set(base, { ...outcome, found });
    if (outcome.answer.response.status !== 401) return accept(method, url, outcome.answer.response);
    // Let in, it was led to a host that asks as well.
    const next = await this.#logIn(question, outcome.answer, endpoint, false);
    this.#remember(endpoint, found, next.answer.response.status);
    return accept(method, url, next.answer.response, "why" in next ? next.why : undefined);
  }

  // With what the host wanted for another repository; where that does not do, it is asked as if for the first time.
  async #askEarly(question: ManifestQuestion, url: string, endpoint: Endpoint): Promise<Response | undefined> {
    const wanted = { endpoint, repository: this.#reference.repository, credentials: this.#credentialsAt(endpoint) };
    const early = await this.#registry.logins.anticipate(wanted, this.#keyring.looked);
    if (!early) return undefined;
    const { response } = await this.#send(question, url, endpoint, early.authorization);
    if ([401, 403, 404].includes(response.status)) return undefined;
    this.#remember(endpoint, early.found, response.status);
    this.#grants.set(endpoint.base, early);
    this.credential = early.source;
    return response;
  }

  #credentialsAt({ base, isMirror }: Endpoint): Credential[] {
    const { host } = new URL(base);
    const name = isMirror ? `${host}/${this.#reference.repository}` : nameOf(this.#reference);
    return credentialsFor(this.#keyring, name);
  }

  // Until it has answered well: a GET may do where a HEAD did not.
  #remember({ base, isMirror }: Endpoint, found: string, status?: number): void {
    if (this.visits.get(base)?.status === 200) return;
    const { registry } = this.#reference;
    this.visits.set(base, { registry, base, isMirror, status, found: this.#registry.logins.redact(found) });
  }

  // A host to which a redirect led gets nobody's credential, and a mirror its own alone. registry.k8s.io leads to
  // *.pkg.dev, which wants a token of its own (google/go-containerregistry#2359).
  async #logIn(
    question: ManifestQuestion,
    answer: FinalResponse,
    endpoint: Endpoint,
    hadToken: boolean,
  ): Promise<Outcome> {
    const { repository } = this.#reference;
    const { origin, host } = new URL(answer.url);
    const isOwn = answer.url.startsWith(`${endpoint.base}/`);
    const at = isOwn ? endpoint : { ...endpoint, base: origin, headers: {}, agents: endpoint.otherAgents };
    const credentials = isOwn ? this.#credentialsAt(endpoint) : [];
    const askAgain = (authorization: string) => this.#send(question, answer.url, at, authorization);
    const refusal = { answer, endpoint: at, repository, credentials, askAgain, hadToken };
    const outcome = await this.#registry.logins.logIn(refusal);
    if (isOwn || "authorization" in outcome) return outcome;
    const why = `${host}, to which it was redirected, asks for a credential, and gets none`;
    return { ...outcome, why: [outcome.why ?? [], why].flat().join(", ") };
  }

  #send({ method, types }: ManifestQuestion, url: string, endpoint: Endpoint, authorization: string | undefined) {
    const { agents, otherAgents } = endpoint;
    const own = { accept: types, "user-agent": userAgent, ...(authorization && { authorization }) };
    const headers = { ...endpoint.headers, ...own };
    return send(this.#registry.client.fetch, url, { method, headers, agents, otherAgents });
  }
}

async function accept(method: string, url: string, response: Response, why?: string): Promise<Response> {
  if (response.status !== 200) {
    const returned = `${method} ${url} returned ${await describeRefusal(response)}`;
    throw new HttpError(response.status, why === undefined ? returned : `${returned}, ${why}`);
  }
  const type = response.headers.get("content-type") ?? "";
  if (!/docker.*manifest\.v1\+/.test(type)) return response;
  await response.body?.cancel();
  throw new UnreadableManifest(`${url} is of the outdated type ${quote(type)}`);
}

/** What to add to the error of an image that was refused while no key of the pods was for it; empty otherwise. */
export function whyNone(error: unknown, reference: Reference, keyring: Keyring): string {
  const isNone = credentialsFor(keyring, nameOf(reference)).length === 0;
  return isNone ? describeNone(statusOf(error), reference.registry, keyring.looked) : "";
}

function nameOf({ registry, repository }: Reference): string {
  return `${registry}/${repository}`;
}
