/**
 * All registries of a run: opens the conversations about their repositories, and collects what their hosts told. For
 * each image and run there is one HEAD. A GET follows where the HEAD was answered 403, 404 or 405 or came without a
 * digest, to explain a difference, and to name the new image. No host gets a credential before it has asked for one,
 * for this repository or for another.
 */
import { shareCall } from "../calls.ts";
import { identityOf } from "../credentials/docker-config.ts";
import { credentialsFor, type Keyring } from "../credentials/keyring.ts";
import { printable } from "../text.ts";
import { userAgent } from "../version.ts";
import { type Endpoint, Hosts, type Proxies } from "./hosts.ts";
import { describeQuota, type LimitedClient } from "./limits.ts";
import { describeMissingCredential } from "./login-result.ts";
import { Logins } from "./logins.ts";
import type { Digest } from "./manifest.ts";
import { nameOf, parseReference, type Reference } from "./reference.ts";
import { findRelease, mapWords, type Release } from "./release.ts";
import { Repository, type Visit } from "./repository.ts";

export { describeMissingCredential };
export type { Repository, Visit };

/** How the hosts of registries are reached, as the settings have it. */
export interface RegistrySettings {
  /** Folder of `HOST/hosts.toml` files in containerd's format. */
  certsDir: string;
  proxies: Proxies;
  /** Further token hosts, by registry host, that its credential may be sent to. */
  tokenHosts: Map<string, string[]>;
}

/** All registries of a run. */
export class Registry {
  readonly client: LimitedClient;
  readonly logins: Logins;
  /** The repository that has resolved a digest, by `ghcr.io/acme/app@sha256:…`. */
  readonly resolvers = new Map<string, Repository>();
  readonly #hosts: Hosts;
  readonly #endpoints = new Map<string, Promise<Endpoint[]>>();
  readonly #repositories = new Map<string, Repository>();
  readonly #releases = new Map<string, Promise<Release | undefined>>();
  /** Registries that have failed to answer when a release was asked for. */
  readonly #releaseFailures = new Set<string>();
  /** A remark for each host whose certificate is not verified, with the file that says so. */
  readonly #unverifiedRemarks = new Set<string>();

  constructor({ certsDir, proxies, tokenHosts }: RegistrySettings, client: LimitedClient) {
    this.client = client;
    this.logins = new Logins(client.fetch, { tokenHosts, userAgent });
    this.#hosts = new Hosts(certsDir, proxies);
  }

  /** The conversation about a reference's repository: one for all callers with the same credentials for it. */
  open(reference: Reference, keyring: Keyring): Repository {
    const name = nameOf(reference);
    const key = [name, ...credentialsFor(keyring, name).map(identityOf)].join("\n");
    const repository = this.#repositories.get(key) ?? new Repository(this, reference, keyring);
    this.#repositories.set(key, repository);
    return repository;
  }

  /** What its owner calls an image that was resolved in this run; undefined where neither annotations nor labels say
   *  so, or the registry fails to answer. It is only printed, so that a registry that has failed once is not asked
   *  again. Never throws. */
  releaseOf(reference: Reference, digest: Digest): Promise<Release | undefined> {
    const key = `${nameOf(reference)}@${digest}`;
    return shareCall(this.#releases, key, async () => {
      if (this.#releaseFailures.has(reference.registry)) return undefined;
      try {
        const repository = this.resolvers.get(key);
        const release = repository && (await findRelease(digest, repository));
        return release && mapWords(release, (word) => this.logins.redact(word));
      } catch {
        this.#releaseFailures.add(reference.registry);
        return undefined;
      }
    });
  }

  /** Has the tags of these images resolved anew the next time: newer pods may run what a tag has pointed to only
   *  since. */
  forgetTags(images: string[]): void {
    for (const image of images) {
      try {
        const reference = parseReference(image);
        for (const repository of this.#repositories.values()) repository.forgetTag(reference);
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error; // an image that cannot be parsed was never resolved
      }
    }
  }

  /** Where to ask for the images of a registry, such as `docker.io`; read once. Throws Error for a malformed
   *  configuration. */
  endpointsOf(registry: string): Promise<Endpoint[]> {
    return shareCall(this.#endpoints, registry, async () => {
      const endpoints = await this.#hosts.endpointsOf(registry);
      for (const { base, unverifiedBy, headers } of endpoints) {
        const { host } = new URL(base);
        if (unverifiedBy) {
          this.#unverifiedRemarks.add(`the certificate of ${host} is not verified: ${unverifiedBy} says so`);
        }
        // A header of hosts.toml may be an Authorization: its value is a secret.
        for (const value of Object.values(headers)) this.logins.addSecret(value.replace(/^(?:Basic|Bearer) +/i, ""));
      }
      return endpoints;
    });
  }

  /** For the user: hosts whose certificate is not verified, and warnings that hosts sent. Without secrets, each one
   *  line. */
  get remarks(): string[] {
    return [...this.#unverifiedRemarks, ...this.client.warnings].map((remark) => {
      return printable(this.logins.redact(remark));
    });
  }

  /** The remarks, and the limits that hosts told. */
  get notes(): string[] {
    return [...this.remarks, ...[...this.client.quotas].map(([host, quota]) => describeQuota(host, quota))];
  }

  /** What each host answered, for each repository that it was asked about. */
  get visits(): Visit[] {
    return Array.from(this.#repositories.values(), ({ visits }) => Array.from(visits.values())).flat();
  }
}
