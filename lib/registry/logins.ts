/**
 * Logs in at the hosts of registries: answers a 401 with the credentials that the kubelet would try, in its order.
 * Which credentials those are is decided in lib/credentials/keyring.ts, and whether a token server may get one in
 * token.ts.
 */
import { shareCall } from "../calls.ts";
import { type Credential, identityOf } from "../credentials/docker-config.ts";
import type { FinalResponse } from "../http/redirects.ts";
import { statusOf } from "../errors.ts";
import type { Fetch } from "../http/transport.ts";
import { messageOf } from "../text.ts";
import { type Challenge, describeChallenges, readChallenges } from "./challenge.ts";
import type { Endpoint } from "./hosts.ts";
import type { Granted, GrantedLogin, LoginResult, Refused } from "./login-result.ts";
import { Redaction } from "./redaction.ts";
import { fetchToken, pullScope, readRealm, type Realm } from "./token.ts";
import { everyRepository, TriedCredentials } from "./tried-credentials.ts";

/** What a login is for. */
interface LoginTarget {
  endpoint: Endpoint;
  /** `library/nginx`. */
  repository: string;
  /** The credentials that match, in the order in which they are tried; empty for an anonymous login. */
  credentials: Credential[];
}

/** A request that a host answered with 401. */
export interface LoginRequest extends LoginTarget {
  /** The 401. */
  answer: FinalResponse;
  /** Sends the same request again, with an Authorization header. */
  askAgain: (authorization: string) => Promise<FinalResponse>;
  /** Whether it was sent with a token, which may have expired. */
  hadToken: boolean;
}

type Answered = { answer: FinalResponse };
/** What one credential led to, and the response to it; the 401 of the request where none was sent. A granted login may
 *  come with a 401 too: that of another host, to which the registry redirected. */
type Attempt = Answered & (Granted | Refused);

/** What a run has found out about its credentials. */
export class Logins {
  readonly #fetch: Fetch;
  readonly #tokenHosts: ReadonlyMap<string, string[]>;
  readonly #userAgent: string;
  readonly #redaction = new Redaction();
  readonly #tried = new TriedCredentials();
  readonly #tokens = new Map<string, Promise<string>>();
  /** By the base of an endpoint: the challenge for which it has given a token for the repository that was asked for. */
  readonly #knownChallenges = new Map<string, Challenge>();

  /** `tokenHosts` are further hosts, by registry host, that its credential may be sent to. */
  constructor(
    fetch: Fetch,
    { tokenHosts, userAgent }: { tokenHosts: ReadonlyMap<string, string[]>; userAgent: string },
  ) {
    this.#fetch = fetch;
    this.#tokenHosts = tokenHosts;
    this.#userAgent = userAgent;
  }

  /** The text without any secret of this run: a registry may repeat in an error what it was sent. */
  redact(text: string): string {
    return this.#redaction.redact(text);
  }

  /** Has a secret that is no credential, such as a header of hosts.toml, removed by `redact`. */
  addSecret(secret: string): void {
    this.#redaction.addSecret(secret);
  }

  /** Answers a 401:
   *  1. by a token, where the host asks for one and its token server may get the credentials;
   *  2. otherwise by Basic, where it asks for that and there is a credential;
   *  3. otherwise by an anonymous token, where it asks for a token.
   *  Throws Error where a challenge is malformed or its realm may get no request, and HttpError where a token server
   *  answers anything but a token, 401 or 403. */
  async logIn(request: LoginRequest): Promise<LoginResult & Answered> {
    const { answer, credentials } = request;
    for (const credential of credentials) this.#redaction.addCredential(credential);
    const challenges = readChallenges(answer.response);
    const bearer = challenges.find(({ scheme }) => scheme === "bearer");
    const canUseBasic = challenges.some(({ scheme }) => scheme === "basic") && credentials.length > 0;
    const realm = bearer && (await this.#readRealm(bearer, request));
    const facts = { challenge: describeChallenges(challenges, realm?.url.host), matchCount: credentials.length };
    if (bearer && realm && (realm.isTrusted || !canUseBasic)) {
      return { ...(await this.#logInByToken(request, bearer, realm)), ...facts };
    }
    if (canUseBasic) return { ...(await this.#tryAll(request, undefined)), ...facts };
    return { kind: "refused", answer, reason: undefined, refusals: [], ...facts };
  }

  /** The token for a host that has given one for another repository, so that the first request need not be sent
   *  without: an anonymous one, or one by the first credential, if the host has accepted that before. Undefined where
   *  the host's next challenge cannot be foreseen, or no token can be had; then the request is sent without one. Never
   *  throws. */
  async authorizeEarly({ endpoint, repository, credentials }: LoginTarget): Promise<GrantedLogin | undefined> {
    const [credential] = credentials;
    const challenge = this.#knownChallenges.get(endpoint.base);
    const { host } = new URL(endpoint.base);
    const mayBeSent = !credential || this.#tried.isAccepted(host, credential);
    if (!challenge || !mayBeSent) return undefined;
    try {
      const { scheme, params } = challenge;
      const withoutScope = { scheme, params: { ...params, scope: "" } };
      const realm = await this.#readRealm(withoutScope, { endpoint, repository });
      if (credential && !realm.isTrusted) return undefined;
      const token = await this.#getToken({ endpoint, repository, hadToken: false }, realm, credential);
      if (token.kind === "refused") return undefined;
      const description = describeChallenges([challenge], realm.url.host);
      return { ...token, challenge: description, matchCount: credentials.length, refusals: [] };
    } catch {
      return undefined;
    }
  }

  #readRealm(challenge: Challenge, { endpoint, repository }: Omit<LoginTarget, "credentials">): Promise<Realm> {
    const tokenHosts = this.#tokenHosts.get(new URL(endpoint.base).host) ?? [];
    return readRealm(challenge, endpoint, { repository, tokenHosts });
  }

  async #logInByToken(request: LoginRequest, challenge: Challenge, realm: Realm) {
    const { endpoint, repository, credentials } = request;
    const isWithheld = credentials.length > 0 && !realm.isTrusted;
    const attempt = await this.#tryAll({ ...request, credentials: isWithheld ? [] : credentials }, realm);
    if (attempt.kind === "granted") {
      // A challenge with another scope than the repository's own says nothing about the scope for the next one.
      const { scope = "" } = challenge.params;
      if (["", pullScope(repository)].includes(scope)) this.#knownChallenges.set(endpoint.base, challenge);
      return attempt;
    }
    if (!isWithheld) return attempt;
    const { host } = new URL(endpoint.base);
    const setting = `--token-hosts (FIGWASP_TOKEN_HOSTS) ${host}=${realm.url.host}`;
    const reason = `its token server ${realm.url.host} is not of its domain, so that no credential was sent there: set ${setting} if it may be`;
    return { ...attempt, reason };
  }

  // Tries each credential, or once without where there is none. The kubelet tries the next credential whatever went
  // wrong.
  async #tryAll(request: LoginRequest, realm: Realm | undefined): Promise<Attempt & { refusals: string[] }> {
    const { endpoint, credentials } = request;
    const { host } = new URL(endpoint.base);
    const refusals: string[] = [];
    let lastAnswer = request.answer;
    for (const credential of credentials.length > 0 ? credentials : [undefined]) {
      const attempt = await this.#tried.attempt(host, credential, () => this.#try(request, realm, credential));
      if (attempt.kind === "granted") return { ...attempt, refusals };
      if (attempt.reason !== undefined) refusals.push(attempt.reason);
      if (attempt.answer !== request.answer) lastAnswer = attempt.answer;
    }
    const reason = refusals.length > 0 ? refusals.join("; ") : undefined;
    return { kind: "refused", answer: lastAnswer, reason, refusals };
  }

  // By a token of the realm, or, without a realm, by Basic; then there is a credential.
  async #try(request: LoginRequest, realm: Realm | undefined, credential: Credential | undefined): Promise<Attempt> {
    const { host } = new URL(request.endpoint.base);
    const whyNot = credential && this.#tried.whyNotToSend(host, credential, request.repository);
    if (whyNot !== undefined) return { kind: "refused", answer: request.answer, reason: whyNot };
    const source = credential?.source;
    let access: Granted | Refused = { kind: "granted", authorization: `Basic ${credential?.basic}`, source };
    if (realm) access = await this.#getToken(request, realm, credential);
    if (access.kind === "refused") return { ...access, answer: request.answer };

    let answer = await request.askAgain(access.authorization);
    if (isUnauthorized(answer) && isOfOtherHost(answer, request.answer)) {
      // The registry accepted the credential and redirected to another host, which now asks for one of its own.
      if (credential) this.#tried.accept(host, credential);
      return { ...access, answer };
    }
    if (realm && isUnauthorized(answer)) {
      const wider = await this.#getWiderToken(answer, request, credential);
      if (wider?.kind === "granted") {
        access = wider;
        answer = await request.askAgain(access.authorization);
      }
    }
    if (credential && !realm) this.#recordBasic(host, credential, answer);
    const { status } = answer.response;
    // These three are how registries say that a credential may not see an image. Any other status is not the
    // credential's.
    if (![401, 403, 404].includes(status)) return { ...access, answer };
    const reason = source && `${status === 404 ? "asked" : "refused"} with ${source}`;
    return { kind: "refused", answer, reason };
  }

  #recordBasic(host: string, credential: Credential, answer: FinalResponse): void {
    if (isUnauthorized(answer)) this.#tried.refuse(host, credential, everyRepository);
    else this.#tried.accept(host, credential);
  }

  // A registry that finds the scope of a token too narrow says which scope it needs. Undefined where it does not say
  // so.
  async #getWiderToken(
    { response }: FinalResponse,
    request: LoginRequest,
    credential: Credential | undefined,
  ): Promise<Granted | Refused | undefined> {
    const challenge = readChallenges(response).find(({ params }) => params["error"] === "insufficient_scope");
    if (!challenge) return undefined;
    return this.#getToken(request, await this.#readRealm(challenge, request), credential);
  }

  // Callers that need the same token share one request. After a 401 with a token, another one is requested.
  async #getToken(
    { endpoint, repository, hadToken }: Pick<LoginRequest, "endpoint" | "repository" | "hadToken">,
    realm: Realm,
    credential: Credential | undefined,
  ): Promise<Granted | Refused> {
    const { host } = new URL(endpoint.base);
    const key = JSON.stringify([endpoint.base, realm.url.href, realm.parameters, credential && identityOf(credential)]);
    if (hadToken) this.#tokens.delete(key);
    try {
      const options = { credential: realm.isTrusted ? credential : undefined, userAgent: this.#userAgent, endpoint };
      const token = await shareCall(this.#tokens, key, () => fetchToken(this.#fetch, realm, options));
      this.#redaction.addSecret(token);
      if (credential) this.#tried.accept(host, credential);
      return { kind: "granted", authorization: `Bearer ${token}`, source: credential?.source };
    } catch (error) {
      const status = statusOf(error);
      if (status !== 401 && status !== 403) throw error;
      // 403 may be about this repository alone: GHCR answers it to a right credential and to a wrong one.
      if (credential) this.#tried.refuse(host, credential, status === 403 ? repository : everyRepository);
      return { kind: "refused", reason: messageOf(error) + (credential ? ` with ${credential.source}` : "") };
    }
  }
}

function isUnauthorized({ response }: FinalResponse): boolean {
  return response.status === 401;
}

function isOfOtherHost(answer: FinalResponse, first: FinalResponse): boolean {
  return new URL(answer.url).origin !== new URL(first.url).origin;
}
