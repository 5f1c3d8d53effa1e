/**
 * The result of a login at a registry, and how messages tell it.
 */
import { credentialsFor, type Keyring } from "../credentials/keyring.ts";
import { statusOf } from "../errors.ts";
import { nameOf, type Reference } from "./reference.ts";

/** What is known of a login, whether it was granted or refused. */
interface LoginFacts {
  /** What the host asks for: `Basic`, `Bearer of auth.docker.io` with the host of its realm, or several, joined by
   *  `or`. */
  challenge: string;
  /** How many credentials match the image. */
  matchCount: number;
  /** Why each credential that was tried first was refused: `refused with key "ghcr.io" of Secret shop/pull`. */
  refusals: string[];
}

export interface Granted {
  kind: "granted";
  /** The Authorization header that the host accepts. Secret. */
  authorization: string;
  /** Where its credential comes from: `key "ghcr.io" of Secret shop/pull`; undefined for an anonymous token. */
  source: string | undefined;
}

export interface Refused {
  kind: "refused";
  /** For a message; undefined where no credential was tried, and the response alone says why. */
  reason: string | undefined;
}

export type GrantedLogin = LoginFacts & Granted;
export type LoginResult = GrantedLogin | (LoginFacts & Refused);

/** How a host lets figwasp in, and why with this credential: `asks for Basic, and takes key "ghcr.io" of Secret
 *  shop/pull, the only one that matches`. `whyNoneUsable` is that of the keyring, and told where no credential was
 *  used. */
export function describeLogin(result: LoginResult, whyNoneUsable: string[]): string {
  const { challenge, matchCount, refusals } = result;
  const asks = challenge === "" ? "asks for a credential, not saying how" : `asks for ${challenge}`;
  if (result.kind === "refused") return `${asks}; ${result.reason ?? joinReasons(whyNoneUsable)}`;
  if (result.source === undefined) {
    const whyAnonymous = matchCount > 0 ? "none that matches may be sent there" : joinReasons(whyNoneUsable);
    return `${asks}, and gives it to anybody; ${whyAnonymous}`;
  }
  const rank =
    matchCount > 1 ? `number ${refusals.length + 1} of ${matchCount} that match` : "the only one that matches";
  return [`${asks}, and takes ${result.source}, ${rank}`, ...refusals].join("; ");
}

/** What to add to the error of an image that was refused by 401 or 403 although no key of its pods was for it: where a
 *  credential was looked for, and what to do where nodes pull with one of their own. Empty for any other error. */
export function describeMissingCredential(error: unknown, reference: Reference, keyring: Keyring): string {
  const status = statusOf(error);
  if (credentialsFor(keyring, nameOf(reference)).length > 0) return "";
  if (status !== 401 && status !== 403) return "";
  const whatHappened =
    status === 401 ? "the registry asks for a credential" : "no credential of a pull Secret was sent";
  const hasNodeCredentials = /\.dkr\.ecr\.[^/]*amazonaws\.com|\.azurecr\.io$|\.pkg\.dev$|^(?:.+\.)?gcr\.io$/;
  const hint = "; where nodes pull with a credential of their own, mount a docker config and set DOCKER_CONFIG";
  const advice = hasNodeCredentials.test(reference.registry) ? hint : "";
  return `, ${whatHappened}, and ${joinReasons(keyring.whyNoneUsable)}${advice}`;
}

function joinReasons(whyNoneUsable: string[]): string {
  return whyNoneUsable.join(", ") || "the pods name no pull Secret";
}
