/**
 * The credentials that the kubelet would try for an image, in its order: first those of the Secrets that the pods name,
 * then those of a mounted docker config (k8s.io/kubernetes, pkg/credentialprovider). The credentials that only a node
 * has, from its own docker config or a cloud's credential plugin, are not among them.
 */
import { type Credential, identityOf, type Login, quoteKey } from "./docker-config.ts";
import { matchingEntries } from "./keys.ts";

/** A login, and where it was found. */
export interface SourcedLogin extends Login {
  /** `Secret shop/pull`, `/docker/config.json`. */
  source: string;
}

/** What was read from one Secret or from the mounted docker config. */
export interface LoginSource {
  logins: SourcedLogin[];
  /** For the error of an image that no credential was found for: `Secret shop/pull is not there`. */
  whyNoneUsable: string;
}

/** What the pods of a workload may pull with. */
export interface Keyring {
  /** The logins of all Secrets, then those of the mounted docker config. Each list is matched and ordered by itself. */
  sources: SourcedLogin[][];
  /** That of each LoginSource. */
  whyNoneUsable: string[];
}

/** The credentials that the kubelet would try for an image, in its order, each once. The image is named in full,
 *  without a tag: `docker.io/library/nginx`. */
export function credentialsFor({ sources }: Keyring, image: string): Credential[] {
  const credentials = new Map<string, Credential>();
  for (const { key, credential, source } of sources.flatMap((logins) => matchingEntries(logins, image))) {
    if (!credential) continue;
    const sourced = { ...credential, source: `key ${quoteKey(key)} of ${source}` };
    const identity = identityOf(sourced);
    if (!credentials.has(identity)) credentials.set(identity, sourced);
  }
  return [...credentials.values()];
}
