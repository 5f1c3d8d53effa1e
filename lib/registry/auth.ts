/**
 * How a registry lets somebody in, and where a credential may go: challenges, realms and tokens. Which credential it
 * is, is decided in keyring.ts.
 */
import { oneAtATime, shareCall } from "../calls.ts";
import type { Response } from "../http/fetch.ts";
import { parseAddress, refuseInward } from "../http/addresses.ts";
import type { FinalResponse } from "../http/redirects.ts";
import { describeRefusal, type Fetch, HttpError, readBody, statusOf } from "../http/transport.ts";
import { messageOf, oneLine, parseObject, printable } from "../text.ts";
import { type Credential, identityOf } from "../credentials/docker-config.ts";
import type { Endpoint } from "./hosts.ts";

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
    if (name === undefined)
      throw new SyntaxError(`Cannot parse the challenge at character ${at + 1} of ${header.length}`);
    challenges.push({ scheme: name.toLowerCase(), params: {} });
    take(token68);
  }
  return challenges;
}

const refusalsAtMost = 3; // credentials of one host in a run: more would lock an account
const repositoriesAtMost = 10; // that one credential may be refused, before one was given to it
const everyRepository = "*";

/** The question that a registry refused with 401. */
export interface Refusal {
  answer: FinalResponse;
  endpoint: Endpoint;
  repository: string;
  /** What may be tried, in this order; none: nobody's. */
  credentials: Credential[];
  /** Asks again, with an Authorization header. */
  askAgain: (authorization: string) => Promise<FinalResponse>;
  /** Whether it was asked with a token, which may have expired. */
  hadToken: boolean;
}

/** What came of one try: the answer, with what it took to get it and whose that was, or why it could not be had. Where
 *  that led to another host, it may be its 401. */
type Attempt =
  | { answer: FinalResponse; authorization: string; source: string | undefined }
  | { answer: FinalResponse; why: string | undefined };

/** What came of all. */
export type Outcome = Attempt & {
  /** What the host asks for: `Bearer of auth.docker.io`, by which host its realm is on; `Basic`; several by `or`. */
  challenge: string;
  /** How many credentials match. */
  matching: number;
  /** Why those did not do that were tried first: `refused with key "ghcr.io" of Secret shop/pull`. */
  refused: string[];
};

type Told = Pick<Outcome, "challenge" | "matching" | "refused"> &
  ({ authorization: string; source: string | undefined } | { why: string | undefined });

/** What lets somebody in, whose it is, and how that is told. */
export interface Grant {
  authorization: string;
  source: string | undefined;
  found: string;
}

/** How a host lets somebody in, and why by this credential: `asks for Basic, and takes key "ghcr.io" of Secret shop/pull,
 *  the only one that matches`. Of nobody it says where one was looked for. */
export function describeLogin(outcome: Told, looked: string[]): string {
  const { challenge, matching, refused } = outcome;
  const asks = challenge === "" ? "asks for a credential, not saying how" : `asks for ${challenge}`;
  if (!("authorization" in outcome)) return `${asks}; ${outcome.why ?? describeLooked(looked)}`;
  if (outcome.source === undefined) {
    const why = matching > 0 ? "none that matches may be sent there" : describeLooked(looked);
    return `${asks}, and gives it to anybody; ${why}`;
  }
  const rank = matching > 1 ? `number ${refused.length + 1} of ${matching} that match` : "the only one that matches";
  return [`${asks}, and takes ${outcome.source}, ${rank}`, ...refused].join("; ");
}

/** Why a registry that refused was sent no credential; empty where it did not refuse by 401 or 403. */
export function describeNone(status: number | undefined, registry: string, looked: string[]): string {
  if (status !== 401 && status !== 403) return "";
  const asked = status === 401 ? "the registry asks for a credential" : "no credential of a pull Secret was sent";
  const isOfNodes = /\.dkr\.ecr\.[^/]*amazonaws\.com|\.azurecr\.io$|\.pkg\.dev$|^(?:.+\.)?gcr\.io$/.test(registry);
  const hint = "; where nodes pull with a credential of their own, mount a docker config and set DOCKER_CONFIG";
  return `, ${asked}, and ${describeLooked(looked)}${isOfNodes ? hint : ""}`;
}

function describeLooked(looked: string[]): string {
  return looked.join(", ") || "the pods name no pull Secret";
}

/** What a run has found out about its credentials. */
export class Logins {
  readonly #fetch: Fetch;
  readonly #tokenHosts: ReadonlyMap<string, string[]>;
  readonly #userAgent: string;
  readonly #tokens = new Map<string, Promise<string>>();
  readonly #accepted = new Set<string>();
  /** By host of the registry and by credential: the repositories that it may not see, or all of them. */
  readonly #refused = new Map<string, Map<string, Set<string>>>();
  readonly #turns = new Map<string, Promise<unknown>>();
  readonly #secrets = new Set<string>();
  /** By which challenge a host has given a token for a repository, by the base of its endpoint. */
  readonly #doors = new Map<string, Challenge>();

  /** `tokenHosts` are further hosts, by registry host, that its credential may be sent to. */
  constructor(
    fetch: Fetch,
    { tokenHosts, userAgent }: { tokenHosts: ReadonlyMap<string, string[]>; userAgent: string },
  ) {
    this.#fetch = fetch;
    this.#tokenHosts = tokenHosts;
    this.#userAgent = userAgent;
  }

  /** The text without any secret of this run: a registry may say in an error what it was sent. */
  redact(text: string): string {
    // The longest first, since one may begin as another does.
    const secrets = [...this.#secrets].toSorted((a, b) => b.length - a.length);
    const redacted = secrets.reduce((rest, secret) => rest.replaceAll(secret, "[removed]"), text);
    const parts = redacted.split("…");
    return parts.map((part, at) => (at < parts.length - 1 ? withoutEnd(part, secrets) : part)).join("…");
  }

  /** Keeps a text out of all that `redact` gives; one of some letters would be found in words that are no secret. */
  conceal(secret: string | undefined): void {
    for (const spelling of spellings(secret ?? "")) if (spelling.length >= tellingLength) this.#secrets.add(spelling);
  }

  /** Answers a challenge as the kubelet would: with every credential in its order, and with none where there is none.
   *  Throws Error where nothing may be sent, and HttpError for a token server that does not work. */
  async logIn(refusal: Refusal): Promise<Outcome> {
    const { answer, endpoint, credentials } = refusal;
    for (const credential of credentials) this.#concealCredential(credential);
    const challenges = readChallenges(answer.response);
    const bearer = challenges.find(({ scheme }) => scheme === "bearer");
    const isBasic = challenges.some(({ scheme }) => scheme === "basic") && credentials.length > 0;
    const realm = bearer && (await this.#readRealm(bearer, refusal));
    const asked = { challenge: describeChallenges(challenges, realm), matching: credentials.length };
    if (realm && (realm.isTrusted || !isBasic)) {
      const isWithheld = credentials.length > 0 && !realm.isTrusted;
      const outcome = await this.#tryAll({ ...refusal, credentials: isWithheld ? [] : credentials }, realm);
      const isOfRepository = [undefined, "", scopeOf(refusal.repository)].includes(bearer?.params["scope"]);
      if (bearer && isOfRepository && "authorization" in outcome) this.#doors.set(endpoint.base, bearer);
      if (!isWithheld || "authorization" in outcome) return { ...outcome, ...asked };
      const { host } = new URL(endpoint.base);
      const setting = `--token-hosts (FIGWASP_TOKEN_HOSTS) ${host}=${realm.url.host}`;
      const why = `its token server ${realm.url.host} is not of its domain, so that no credential was sent there: set ${setting} if it may be`;
      return { ...outcome, ...asked, why };
    }
    if (isBasic) return { ...(await this.#tryAll(refusal, undefined)), ...asked };
    return { answer, why: undefined, refused: [], ...asked };
  }

  /** What a host that has given a token for one repository will want for another, so that it need not be asked without
   *  first: a token of nobody, or of a credential that it takes. Undefined where that cannot be told or had; then the host
   *  says itself what it wants. */
  async anticipate(
    { endpoint, repository, credentials }: Pick<Refusal, "endpoint" | "repository" | "credentials">,
    looked: string[],
  ): Promise<Grant | undefined> {
    const [credential] = credentials;
    const challenge = this.#doors.get(endpoint.base);
    const { host } = new URL(endpoint.base);
    const isTaken = !credential || this.#accepted.has(`${host} ${identityOf(credential)}`);
    if (!challenge || !isTaken) return undefined;
    try {
      const realm = await this.#readRealm(withoutScope(challenge), { endpoint, repository });
      if (credential && !realm.isTrusted) return undefined;
      const token = await this.#token(realm, { endpoint, repository, hadToken: false }, credential);
      if (typeof token !== "string") return undefined;
      const asked = { challenge: describeChallenges([challenge], realm), matching: credentials.length, refused: [] };
      const grant = { authorization: `Bearer ${token}`, source: credential?.source };
      return { ...grant, found: describeLogin({ ...grant, ...asked }, looked) };
    } catch {
      return undefined;
    }
  }

  #readRealm(challenge: Challenge, { endpoint, repository }: Pick<Refusal, "endpoint" | "repository">): Promise<Realm> {
    const tokenHosts = this.#tokenHosts.get(new URL(endpoint.base).host) ?? [];
    return readRealm(challenge, endpoint, { repository, tokenHosts });
  }

  async #tryAll(refusal: Refusal, realm: Realm | undefined): Promise<Attempt & Pick<Outcome, "refused">> {
    const { endpoint, credentials } = refusal;
    const { host } = new URL(endpoint.base);
    const refused: string[] = [];
    let last = refusal.answer;
    for (const credential of credentials.length > 0 ? credentials : [undefined]) {
      const outcome = await this.#inTurn(host, credential, () => this.#try(refusal, realm, credential));
      if ("authorization" in outcome) return { ...outcome, refused };
      if (outcome.why !== undefined) refused.push(outcome.why);
      if (outcome.answer === refusal.answer) continue;
      last = outcome.answer;
    }
    return { answer: last, why: refused.join("; ") || undefined, refused };
  }

  async #try(refusal: Refusal, realm: Realm | undefined, credential: Credential | undefined): Promise<Attempt> {
    const { host } = new URL(refusal.endpoint.base);
    const { answer, askAgain } = refusal;
    const why = credential && this.#reasonNotToSend(host, credential, refusal.repository);
    if (why !== undefined) return { answer, why };
    let authorization = `Basic ${credential?.basic}`;
    if (realm) {
      const token = await this.#token(realm, refusal, credential);
      if (typeof token !== "string") return { answer, why: token.why };
      authorization = `Bearer ${token}`;
    }
    let next = await askAgain(authorization);
    // A host that a redirect led to asks for itself, and has refused nobody.
    const isElsewhere = new URL(next.url).origin !== new URL(answer.url).origin;
    if (isElsewhere && next.response.status === 401) {
      if (credential) this.#accept(host, credential);
      return { answer: next, authorization, source: credential?.source };
    }
    if (realm && next.response.status === 401) {
      const wider = await this.#widerRealm(next, refusal);
      const token = wider && (await this.#token(wider, refusal, credential));
      if (typeof token === "string") next = await askAgain((authorization = `Bearer ${token}`));
    }
    const { status } = next.response;
    if (credential && !realm && status !== 401) this.#accept(host, credential);
    else if (credential && !realm) this.#refuse(host, credential, everyRepository);
    // The kubelet tries the next one whatever went wrong; these are how registries say that one may not see an image.
    if (![401, 403, 404].includes(status)) return { answer: next, authorization, source: credential?.source };
    return { answer: next, why: credential && `${status === 404 ? "asked" : "refused"} with ${credential.source}` };
  }

  // A token of less than the question needs: the registry says which scope it wants.
  async #widerRealm({ response }: FinalResponse, refusal: Refusal): Promise<Realm | undefined> {
    const challenges = readChallenges(response);
    const wanted = challenges.find(({ params }) => params["error"] === "insufficient_scope");
    return wanted && this.#readRealm(wanted, refusal);
  }

  // One request for all who need the same, and a new one for who was refused with what was there.
  async #token(
    realm: Realm,
    { endpoint, repository, hadToken }: Pick<Refusal, "endpoint" | "repository" | "hadToken">,
    credential?: Credential,
  ): Promise<string | { why: string }> {
    const { host } = new URL(endpoint.base);
    const key = JSON.stringify([endpoint.base, realm.url.href, realm.question, credential && identityOf(credential)]);
    if (hadToken) this.#tokens.delete(key);
    try {
      const options = { credential: realm.isTrusted ? credential : undefined, userAgent: this.#userAgent, endpoint };
      const token = await shareCall(this.#tokens, key, () => fetchToken(this.#fetch, realm, options));
      this.conceal(token);
      if (credential) this.#accept(host, credential);
      return token;
    } catch (error) {
      const status = statusOf(error);
      if (status !== 401 && status !== 403) throw error;
      // 403 may mean this repository alone: GHCR says so of a good login and of a bad one.
      if (credential) this.#refuse(host, credential, status === 403 ? repository : everyRepository);
      return { why: messageOf(error) + (credential ? ` with ${credential.source}` : "") };
    }
  }

  #accept(host: string, credential: Credential): void {
    this.#accepted.add(`${host} ${identityOf(credential)}`);
    this.#refused.get(host)?.delete(identityOf(credential));
  }

  #refuse(host: string, credential: Credential, repository: string): void {
    const ofHost = this.#refused.get(host) ?? new Map<string, Set<string>>();
    this.#refused.set(host, ofHost);
    const identity = identityOf(credential);
    ofHost.set(identity, (ofHost.get(identity) ?? new Set()).add(repository));
  }

  // One that was let in locks no account, whatever else it may not see.
  #reasonNotToSend(host: string, credential: Credential, repository: string): string | undefined {
    const { source } = credential;
    const identity = identityOf(credential);
    if (this.#accepted.has(`${host} ${identity}`)) return undefined;
    const ofHost = this.#refused.get(host) ?? new Map<string, Set<string>>();
    const own = ofHost.get(identity) ?? new Set();
    if (own.has(everyRepository) || own.has(repository)) return `refused before with ${source}`;
    const isEnough = own.size === 0 ? ofHost.size >= refusalsAtMost : own.size >= repositoriesAtMost;
    return isEnough
      ? `${source} not sent, since ${host} has refused ${own.size || ofHost.size} in this run`
      : undefined;
  }

  // A wrong credential is sent once, not by several workloads at the same time.
  async #inTurn<T>(host: string, credential: Credential | undefined, work: () => Promise<T>): Promise<T> {
    if (!credential || this.#accepted.has(`${host} ${identityOf(credential)}`)) return work();
    return oneAtATime(this.#turns, host, work);
  }

  #concealCredential({ basic, identityToken }: Credential): void {
    const decoded = Buffer.from(basic, "base64").toString("utf8");
    const password = decoded.slice(decoded.indexOf(":") + 1);
    for (const secret of [basic, basic.replace(/=+$/, ""), password, identityToken]) this.conceal(secret);
  }
}

const tellingLength = 4;

// As an error may repeat it, and on one line, as messages are.
function spellings(secret: string): string[] {
  const text = secret.toWellFormed();
  const form = new URLSearchParams({ "": text }).toString().slice(1);
  const asLatin1 = Buffer.from(text).toString("latin1");
  const all = [secret, JSON.stringify(text).slice(1, -1), encodeURIComponent(text), form, asLatin1];
  return all.flatMap((spelling) => [spelling, printable(spelling).trim()]);
}

// Where a message was cut, it may end with the beginning of a secret.
function withoutEnd(text: string, secrets: string[]): string {
  const found = secrets.map((secret) => {
    let length = Math.min(secret.length - 1, text.length);
    while (length >= tellingLength && !text.endsWith(secret.slice(0, length))) length--;
    return length;
  });
  const length = Math.max(0, ...found);
  return length < tellingLength ? text : `${text.slice(0, -length)}[removed]`;
}

function readChallenges(response: Response): Challenge[] {
  try {
    return parseChallenges(response.headers.get("www-authenticate") ?? "");
  } catch (cause) {
    throw new Error(messageOf(cause), { cause });
  }
}

function describeChallenges(challenges: Challenge[], realm: Realm | undefined): string {
  const names = challenges.map(({ scheme }) => {
    const name = `${scheme.charAt(0).toUpperCase()}${scheme.slice(1)}`;
    return realm && scheme === "bearer" ? `${name} of ${realm.url.host}` : name;
  });
  return oneLine([...new Set(names)].join(" or "));
}

/** Whose token server a realm is, and what it is asked for. */
export interface Realm {
  url: URL;
  question: Record<string, string>;
  /** Whether it is on the registry's own host. */
  isOwn: boolean;
  /** Whether the registry's credential may go there. */
  isTrusted: boolean;
}

/** Reads a Bearer challenge, for a repository. Throws Error where nothing may be sent to its realm, not even
 *  anonymously. See distribution's token specification. */
export async function readRealm(
  { params }: Challenge,
  { base }: Endpoint,
  { repository, tokenHosts }: { repository: string; tokenHosts: string[] },
): Promise<Realm> {
  const { realm = "", service, scope } = params;
  const registry = new URL(base);
  const what = `Cannot get a token for ${registry.origin}: its realm`;
  if (realm === "") throw new Error(`${what} is missing`);
  const url = parseAddress(realm, base, what);
  const isOwn = url.hostname === registry.hostname;
  const isAsPlain = registry.protocol === "http:" && isOwn;
  if (url.protocol !== "https:" && !isAsPlain) throw new Error(`${what} ${url.origin} is not https`);
  const isTold = isOwn || tokenHosts.includes(url.host);
  if (!isTold) await refuseInward(registry.hostname, url.hostname, `${what} ${url.origin}`);
  url.hash = "";
  const question = { ...(service && { service }), scope: scope || scopeOf(repository) };
  return { url, question, isOwn, isTrusted: isTold || isRelated(registry.hostname, url.hostname) };
}

function scopeOf(repository: string): string {
  return `repository:${repository}:pull`;
}

function withoutScope({ scheme, params }: Challenge): Challenge {
  return { scheme, params: { ...params, scope: "" } };
}

// Public registries whose token server has another name.
const pairs: Record<string, string> = {
  "registry-1.docker.io": "auth.docker.io",
  "registry.gitlab.com": "gitlab.com",
  "nvcr.io": "authn.nvidia.com",
  "lscr.io": "ghcr.io",
  "docker.elastic.co": "docker-auth.elastic.co",
};
// Where anybody may have a domain: `co.uk`, `com.br`.
const publicSuffix = /^(?:ac|co|com|edu|go|gov|ne|net|or|org)\.[a-z]{2}$/;

// By whole labels, never by a part of the text: `registry.example.org` and `gitlab.example.org` have one parent domain,
// `example.org` and `evilexample.org` have nothing in common (GHSA-6c87-g9pw-78fx).
function isRelated(registry: string, realm: string): boolean {
  if (pairs[registry] === realm) return true;
  const [, parent = ""] = /^[^.]+\.(.+)$/.exec(registry) ?? [];
  if (parent === "" || /^[\d.]+$|:/.test(registry)) return false;
  const domain = !parent.includes(".") || publicSuffix.test(parent) ? registry : parent;
  return realm === domain || realm.endsWith(`.${domain}`);
}

const tokenLimitBytes = 128 * 1024;

/** Gets a token from a realm, anonymously without a credential. Follows no redirect: what a token server is asked with
 *  is for nobody else. Throws HttpError with the status of a refusal, and Error for an answer that holds no token. */
async function fetchToken(
  fetch: Fetch,
  { url, question, isOwn }: Realm,
  { credential, userAgent, endpoint }: { credential: Credential | undefined; userAgent: string; endpoint: Endpoint },
): Promise<string> {
  const { basic, identityToken } = credential ?? {};
  const method = identityToken ? "POST" : "GET";
  const target = new URL(url);
  const form = identityToken && {
    ...question,
    grant_type: "refresh_token",
    client_id: "figwasp",
    refresh_token: identityToken,
  };
  const type = form && { "content-type": "application/x-www-form-urlencoded" };
  if (!form) for (const [name, value] of Object.entries(question)) target.searchParams.append(name, value);
  const response = await fetch(target.href, {
    method,
    headers: { "user-agent": userAgent, ...(basic && !form && { authorization: `Basic ${basic}` }), ...type },
    ...(form && { body: new URLSearchParams(form).toString() }),
    agents: isOwn ? endpoint.agents : endpoint.otherAgents,
  });
  const asked = `${method} ${url.origin}${url.pathname}`;
  if (response.status !== 200)
    throw new HttpError(response.status, `${asked} returned ${await describeRefusal(response)}`);
  const { token, access_token: accessToken } = parseObject(await readBody(response, tokenLimitBytes)) ?? {};
  const found = token || accessToken;
  // What cannot stand in a header would be thrown back as a part of a message.
  if (typeof found !== "string" || !/^[\x21-\x7e]+$/.test(found)) throw new Error(`${asked} returned no token`);
  return found;
}
