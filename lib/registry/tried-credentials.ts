/**
 * Which credentials the hosts of a run have accepted and refused. A registry may lock an account after some wrong
 * passwords, so that a credential that was refused is not sent again, and no host gets many wrong ones.
 */
import { oneAtATime } from "../calls.ts";
import { type Credential, identityOf } from "../credentials/docker-config.ts";

const maxRefusedCredentials = 3; // of one host in a run
const maxRefusedRepositories = 10; // of one credential that the host has not accepted for any other
export const everyRepository = "*";

/** By host, with its port. */
export class TriedCredentials {
  /** Host and identity of each accepted credential. */
  readonly #accepted = new Set<string>();
  /** By host and by identity of the credential: the repositories that it was refused for, or every one. */
  readonly #refused = new Map<string, Map<string, Set<string>>>();
  readonly #lastTries = new Map<string, Promise<unknown>>();

  /** Whether the host has accepted the credential, for whatever repository. */
  isAccepted(host: string, credential: Credential): boolean {
    return this.#accepted.has(`${host} ${identityOf(credential)}`);
  }

  accept(host: string, credential: Credential): void {
    this.#accepted.add(`${host} ${identityOf(credential)}`);
    this.#refused.get(host)?.delete(identityOf(credential));
  }

  /** `repository` is the one that the credential may not see, or `everyRepository` where the credential itself is
   *  wrong. */
  refuse(host: string, credential: Credential, repository: string): void {
    const refusedByHost = this.#refused.get(host) ?? new Map<string, Set<string>>();
    this.#refused.set(host, refusedByHost);
    const identity = identityOf(credential);
    const repositories = refusedByHost.get(identity) ?? new Set();
    refusedByHost.set(identity, repositories.add(repository));
  }

  /** Why a credential is not to be sent to a host, for a message; undefined where it may be. One that the host has
   *  accepted may be sent always: no account is locked by it, whatever repository it may not see. */
  whyNotToSend(host: string, credential: Credential, repository: string): string | undefined {
    if (this.isAccepted(host, credential)) return undefined;
    const { source } = credential;
    const refusedByHost = this.#refused.get(host) ?? new Map<string, Set<string>>();
    const repositories = refusedByHost.get(identityOf(credential)) ?? new Set();
    if (repositories.has(everyRepository) || repositories.has(repository)) return `refused before with ${source}`;
    const [count, max] =
      repositories.size > 0 ? [repositories.size, maxRefusedRepositories] : [refusedByHost.size, maxRefusedCredentials];
    return count < max ? undefined : `${source} not sent, since ${host} has refused ${count} in this run`;
  }

  /** Makes an attempt with a credential; attempts at one host with credentials that it has not accepted yet are made
   *  one after another, so that a wrong credential is sent once and not by several workloads at the same time. */
  attempt<T>(host: string, credential: Credential | undefined, call: () => Promise<T>): Promise<T> {
    if (!credential || this.isAccepted(host, credential)) return call();
    return oneAtATime(this.#lastTries, host, call);
  }
}
