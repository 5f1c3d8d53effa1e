/**
 * The credentials that the kubelet would try for an image, in its order: those of the Secrets that the pods name, then
 * those of a mounted docker config (k8s.io/kubernetes, pkg/credentialprovider). What only a node knows is not there.
 */
import { type Credential, identityOf, type Login, quoteKey } from "./docker-config.ts";
import { matching } from "./keys.ts";

/** A Secret or a mounted docker config. */
export interface LoginSource {
  logins: (Login & { source: string })[];
  /** What to say where nothing of it could be used: `Secret shop/pull is not there`. */
  looked: string;
}

/** What the pods of a workload may pull with. */
export interface Keyring {
  /** The Secrets together, then the mounted docker config: each is matched by itself, and all that matches is tried. */
  sources: LoginSource["logins"][];
  looked: string[];
}

/** Those that the kubelet would try for an image, named in full without a tag, in its order. */
export function credentialsFor({ sources }: Keyring, image: string): Credential[] {
  const found = sources
    .flatMap((logins) => matching(logins, image))
    .flatMap(({ key, credential, source }) => {
      return credential ? [{ ...credential, source: `key ${quoteKey(key)} of ${source}` }] : [];
    });
  const seen = new Set<string>();
  return found.filter((each) => !seen.has(identityOf(each)) && seen.add(identityOf(each)));
}
