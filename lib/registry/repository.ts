/**
 * The conversation about one repository: what its tags point to, its manifests and its configs (distribution-spec,
 * "Pull"). How a host is reached stands in hosts.ts, what it is spared in limits.ts, and how it lets figwasp in, in
 * logins.ts. What the answers mean is decided in figwasp.ts.
 */
import { shareCall } from "../calls.ts";
import type { Credential } from "../credentials/docker-config.ts";
import { credentialsFor, type Keyring } from "../credentials/keyring.ts";
import type { Response } from "../http/fetch.ts";
import { type FinalResponse, send } from "../http/redirects.ts";
import { HttpError, statusOf } from "../errors.ts";
import { describeRefusal, readBody } from "../http/transport.ts";
import { quote, withoutQuery } from "../text.ts";
import { userAgent } from "../version.ts";
import { describeHostFailure } from "./host-agents.ts";
import type { Endpoint } from "./hosts.ts";
import type { LimitedClient } from "./limits.ts";
import { describeLogin, type GrantedLogin } from "./login-result.ts";
import type { Logins } from "./logins.ts";
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
import { nameOf, type Reference } from "./reference.ts";

/** What the repositories of a run share. */
export interface SharedState {
  client: LimitedClient;
  logins: Logins;
  /** The repository that has resolved a digest, by `ghcr.io/acme/app@sha256:…`. */
  resolvers: Map<string, Repository>;
  /** Where to ask for the images of a registry. */
  endpointsOf: (registry: string) => Promise<Endpoint[]>;
}

/** What a host of a registry last answered. Nothing in it is secret. */
export interface Visit {
  /** As images name it: `docker.io`. */
  registry: string;
  /** Where it was asked: `https://registry-1.docker.io/v2`. */
  base: string;
  isMirror: boolean;
  /** What it asks for and accepts, and why that; or why it could not be asked. */
  found: string;
  /** The status of its answer; undefined where it gave none. */
  status: number | undefined;
}

interface ResourceRequest extends Resource {
  method: "HEAD" | "GET";
}

/** The conversation about one repository, with the credentials of the pods that run its image. */
export class Repository {
  readonly #shared: SharedState;
  readonly #reference: Reference;
  readonly #keyring: Keyring;
  readonly #tagDigests = new Map<string, Promise<Digest>>();
  readonly #manifests = new Map<string, Promise<Manifest | undefined>>();
  /** By the base of an endpoint. */
  readonly visits = new Map<string, Visit>();
  /** By the base of an endpoint: the header that it has accepted, and how that is told. */
  readonly #accepted = new Map<string, { authorization: string; description: string }>();
  /** Where the credential comes from that was accepted last: `key "ghcr.io" of Secret shop/pull`; undefined where none
   *  was needed. */
  credential: string | undefined;

  constructor(shared: SharedState, reference: Reference, keyring: Keyring) {
    this.#shared = shared;
    this.#reference = reference;
    this.#keyring = keyring;
  }

  /** The digest that the tag points to now; asked for once, until `forgetTag`. Throws Error with method, URL and
   *  answer. */
  resolve(tag: string): Promise<Digest> {
    return shareCall(this.#tagDigests, tag, async () => {
      const digest = (await this.#digestByHead(tag)) ?? sha256(await this.#read(manifestAt(tag)));
      this.#shared.resolvers.set(`${nameOf(this.#reference)}@${digest}`, this);
      return digest;
    });
  }

  /** Has the tag of a reference asked for again, if the reference is about this repository. */
  forgetTag(reference: Reference): void {
    if (nameOf(reference) === nameOf(this.#reference)) this.#tagDigests.delete(reference.tag);
  }

  /** The manifest of a digest; undefined where the repository does not have it. Throws Error, also where the bytes do
   *  not have that digest. */
  manifest(digest: Digest): Promise<Manifest | undefined> {
    return shareCall(this.#manifests, digest, async () => {
      try {
        return parseManifest(digest, await this.#readByDigest(digest, manifestAt(digest)));
      } catch (error) {
        if (statusOf(error) === 404) return undefined;
        throw error;
      }
    });
  }

  /** The config of an image, as JSON. Throws Error, also where the bytes do not have that digest. */
  config(digest: Digest): Promise<Buffer> {
    return this.#readByDigest(digest, configAt(digest));
  }

  // Undefined where a GET has to tell, which is where a HEAD is answered without a digest, as Red Hat's registry and
  // some Nexus set-ups do, or with 403, 404 or 405, as others do for tags that they have (crazy-max/diun#1614). Docker
  // Hub answers a HEAD reliably, and counts each GET as a pull.
  async #digestByHead(tag: string): Promise<Digest | undefined> {
    try {
      const { headers, url } = await this.#ask({ method: "HEAD", ...manifestAt(tag) });
      const digest = headers.get("docker-content-digest");
      if (digest === null) return undefined;
      if (isDigest(digest)) return digest;
      throw new Error(`HEAD ${withoutQuery(url)} returned the digest ${quote(digest)}, a sha256 one is needed`);
    } catch (error) {
      const mayAnswerGet = [403, 404, 405].includes(statusOf(error) ?? 0);
      if (mayAnswerGet && this.#reference.registry !== "docker.io") return undefined;
      throw error;
    }
  }

  // The digest header of a GET is not read: ECR and others leave it out, and some send a wrong one.
  async #readByDigest(digest: Digest, resource: Resource): Promise<Buffer> {
    const body = await this.#read(resource);
    if (sha256(body) === digest) return body;
    throw new Error(`the registry gave other bytes for ${digest}`);
  }

  async #read(resource: Resource): Promise<Buffer> {
    return readBody(await this.#ask({ method: "GET", ...resource }), resource.limitBytes);
  }

  // Asks the endpoints in their order, mirrors first, until one has the resource.
  async #ask(request: ResourceRequest): Promise<Response> {
    const { registry } = this.#reference;
    const failures: unknown[] = [];
    for (const endpoint of await this.#shared.endpointsOf(registry)) {
      try {
        return await this.#askEndpoint(request, endpoint);
      } catch (error) {
        if (error instanceof UnreadableManifest) throw error;
        failures.push(error);
        if (!this.visits.has(endpoint.base)) this.#recordVisit(endpoint, describeHostFailure(error, registry));
      }
    }
    const messages = failures.map((error) => describeHostFailure(error, registry)).join("; ");
    // The status is that of the last endpoint, which is the registry itself: if it answers 404, the resource does not
    // exist, whatever a mirror said.
    throw new HttpError(statusOf(failures.at(-1)), messages || "no host in its hosts.toml may resolve tags");
  }

  // 1. With the header that the endpoint has accepted for this repository before;
  // 2. otherwise with a token by the challenge that it sent for another repository;
  // 3. otherwise, or where that token is not enough, without a credential.
  // A 401 is answered by a login.
  async #askEndpoint(request: ResourceRequest, endpoint: Endpoint): Promise<Response> {
    const { method, path } = request;
    const { base, query } = endpoint;
    const url = `${base}/${this.#reference.repository}/${path}`;
    const sent = { method, url };
    if (method === "GET") this.#shared.client.ensurePullsRemain(new URL(base).host);
    const accepted = this.#accepted.get(base);
    if (!accepted) {
      const response = await this.#askWithKnownChallenge(request, url + query, endpoint);
      if (response) return requireOk(response, sent);
    }
    const answer = await this.#send(request, url + query, endpoint, accepted?.authorization);
    const { status } = answer.response;
    const hadToken = accepted !== undefined;
    if (status === 401) return this.#askWithLogin(request, { sent, answer, endpoint, hadToken });
    this.#recordVisit(endpoint, accepted?.description ?? "asks for no credential", status);
    return requireOk(answer.response, sent);
  }

  // Undefined where there is no such challenge, or the token does not open this repository.
  async #askWithKnownChallenge(
    request: ResourceRequest,
    url: string,
    endpoint: Endpoint,
  ): Promise<Response | undefined> {
    const { repository } = this.#reference;
    const credentials = this.#credentialsFor(endpoint);
    const login = await this.#shared.logins.authorizeEarly({ endpoint, repository, credentials });
    if (!login) return undefined;
    const { response } = await this.#send(request, url, endpoint, login.authorization);
    if ([401, 403, 404].includes(response.status)) return undefined;
    const description = this.#acceptLogin(endpoint, login);
    this.#recordVisit(endpoint, description, response.status);
    return response;
  }

  async #askWithLogin(
    request: ResourceRequest,
    { sent, answer, endpoint, hadToken }: { sent: Sent; answer: FinalResponse; endpoint: Endpoint; hadToken: boolean },
  ): Promise<Response> {
    const login = await this.#logIn(request, answer, { endpoint, hadToken });
    const { response } = login.answer;
    const description = describeLogin(login, this.#keyring.whyNoneUsable);
    this.#recordVisit(endpoint, description, response.status);
    if (login.kind === "refused") return requireOk(response, sent, login.reason);
    this.credential = login.source;
    const isOfEndpoint = answer.url.startsWith(`${endpoint.base}/`);
    if (isOfEndpoint) this.#accepted.set(endpoint.base, { authorization: login.authorization, description });
    if (response.status !== 401) return requireOk(response, sent);

    // The endpoint accepted the login, and redirected to a host that asks for one too.
    const second = await this.#logIn(request, login.answer, { endpoint, hadToken: false });
    this.#recordVisit(endpoint, description, second.answer.response.status);
    const reason = second.kind === "refused" ? second.reason : undefined;
    return requireOk(second.answer.response, sent, reason);
  }

  #acceptLogin(endpoint: Endpoint, login: GrantedLogin): string {
    const description = describeLogin(login, this.#keyring.whyNoneUsable);
    this.#accepted.set(endpoint.base, { authorization: login.authorization, description });
    this.credential = login.source;
    return description;
  }

  // A mirror gets the credentials whose keys name the mirror, never those of the registry.
  #credentialsFor({ base, isMirror }: Endpoint): Credential[] {
    const { host } = new URL(base);
    const name = isMirror ? `${host}/${this.#reference.repository}` : nameOf(this.#reference);
    return credentialsFor(this.#keyring, name);
  }

  // An answer 200 is kept, whatever comes after it; any other is replaced, since a GET may succeed where a HEAD did
  // not.
  #recordVisit({ base, isMirror }: Endpoint, description: string, status?: number): void {
    if (this.visits.get(base)?.status === 200) return;
    const { registry } = this.#reference;
    this.visits.set(base, { registry, base, isMirror, status, found: this.#shared.logins.redact(description) });
  }

  // Answers the 401 of an endpoint, or of a host that it redirected to. That host gets no credential, but may get an
  // anonymous token: registry.k8s.io leads to *.pkg.dev, which wants one of its own (google/go-containerregistry#2359).
  async #logIn(
    request: ResourceRequest,
    answer: FinalResponse,
    { endpoint, hadToken }: { endpoint: Endpoint; hadToken: boolean },
  ) {
    const { repository } = this.#reference;
    const { origin, host } = new URL(answer.url);
    const isOfEndpoint = answer.url.startsWith(`${endpoint.base}/`);
    const otherHost = { ...endpoint, base: origin, headers: {}, agents: endpoint.otherAgents };
    const target = isOfEndpoint ? endpoint : otherHost;
    const credentials = isOfEndpoint ? this.#credentialsFor(endpoint) : [];
    const askAgain = (authorization: string) => this.#send(request, answer.url, target, authorization);
    const loginRequest = { answer, endpoint: target, repository, credentials, askAgain, hadToken };
    const login = await this.#shared.logins.logIn(loginRequest);
    if (isOfEndpoint || login.kind === "granted") return login;
    const whyNone = `${host}, to which it was redirected, asks for a credential, and gets none`;
    return { ...login, reason: login.reason === undefined ? whyNone : `${login.reason}, ${whyNone}` };
  }

  #send({ method, types }: ResourceRequest, url: string, endpoint: Endpoint, authorization: string | undefined) {
    const { agents, otherAgents } = endpoint;
    // The last ones win: hosts.toml cannot replace them.
    const headers = {
      ...endpoint.headers,
      accept: types,
      "user-agent": userAgent,
      ...(authorization && { authorization }),
    };
    return send(this.#shared.client.fetch, url, { method, headers, agents, otherAgents });
  }
}

// The request as messages name it: without the query, and before any redirect.
type Sent = { method: string; url: string };

// Throws HttpError for any status but 200, and UnreadableManifest for a manifest of schema 1.
async function requireOk(response: Response, { method, url }: Sent, reason?: string): Promise<Response> {
  if (response.status !== 200) {
    const message = `${method} ${url} returned ${await describeRefusal(response)}`;
    throw new HttpError(response.status, reason === undefined ? message : `${message}, ${reason}`);
  }
  const type = response.headers.get("content-type") ?? "";
  if (!/docker.*manifest\.v1\+/.test(type)) return response;
  await response.body?.cancel();
  throw new UnreadableManifest(`${url} is of the outdated type ${quote(type)}`);
}
