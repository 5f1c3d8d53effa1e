/**
 * Which image a container names: registry, repository, tag and digest (distribution/reference).
 */
import { quote } from "../text.ts";

/** What an image name refers to. */
export interface Reference {
  /** As in the image's full name: `docker.io`, `registry.example:5000`, `[fc00::1]:5000`. */
  registry: string;
  /** `library/nginx`. */
  repository: string;
  /** `latest` where the image names none. */
  tag: string;
  /** Present where the image is pinned: a pull then uses the digest, and ignores the tag. */
  digest?: string;
}

const domainComponent = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";
const domainPattern = new RegExp(
  String.raw`^(?:${domainComponent}(?:\.${domainComponent})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?$`,
);
const maxRegistryLength = 259; // a name of DNS has at most 253 characters, a port with its colon 6
const maxRepositoryLength = 255;
const pathComponent = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const repositoryPattern = new RegExp(`^${pathComponent}(?:/${pathComponent})*$`);
const tagPattern = /^\w[\w.-]{0,127}$/;
const digestPattern = /^[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}$/;

/** Where the kubelet would pull an image from: `api` → docker.io/library/api:latest, `host:5001/a/b:1` → that host. The
 *  first part is a host if it has a dot, a colon or a capital letter, or is `localhost`. Throws SyntaxError. See
 *  distribution/reference, "Grammar" and ParseDockerRef. */
export function parseReference(image: string): Reference {
  const malformed = (reason: string) => new SyntaxError(`Cannot parse image ${quote(image)}: ${reason}`);

  const [named = "", digest, ...excess] = image.split("@");
  if (excess.length > 0 || (digest !== undefined && !digestPattern.test(digest))) {
    throw malformed("its digest is not of the form algorithm:hex");
  }
  const slash = named.indexOf("/");
  const firstPart = named.slice(0, Math.max(slash, 0));
  const isHost = /[.:]/.test(firstPart) || firstPart === "localhost" || firstPart !== firstPart.toLowerCase();
  const path = isHost ? named.slice(slash + 1) : named;
  const colon = path.lastIndexOf(":");
  const tag = colon < 0 ? undefined : path.slice(colon + 1);
  let registry = isHost ? firstPart : "docker.io";
  let repository = colon < 0 ? path : path.slice(0, colon);

  if (registry === "index.docker.io") registry = "docker.io";
  if (registry === "docker.io" && !repository.includes("/")) repository = `library/${repository}`;
  const isDomain = registry.length <= maxRegistryLength && domainPattern.test(registry);
  if (!isDomain) throw malformed(`${quote(registry)} is not a registry host`);
  if (repository.length > maxRepositoryLength || !repositoryPattern.test(repository)) {
    throw malformed("its repository is not lower-case path components of at most 255 characters");
  }
  if (/^[a-f0-9]{64}$/.test(image)) throw malformed("64 hex digits are an image ID, a repository is needed");
  if (tag !== undefined && !tagPattern.test(tag)) throw malformed(`${quote(tag)} is not a tag`);
  return { registry, repository, tag: tag ?? "latest", ...(digest !== undefined && { digest }) };
}

/** The same; undefined for an image that cannot be parsed. */
export function tryParse(image: string): Reference | undefined {
  try {
    return parseReference(image);
  } catch {
    return undefined;
  }
}

/** Whether two images are the same tag of the same repository, however they are spelled: `api`,
 *  `docker.io/library/api:latest`. */
export function isSameImage(one: string, other: string): boolean {
  const [left, right] = [tryParse(one), tryParse(other)];
  return left !== undefined && right !== undefined && nameOf(left) === nameOf(right) && left.tag === right.tag;
}

/** Whether an image names no registry, so that some container runtimes look for one by a list of their own. */
export function isShortName(image: string): boolean {
  return !/^[^/@]*[.:A-Z][^/@]*\/|^localhost\//.test(image);
}

/** Registry and repository, without the tag: `docker.io/library/nginx`. */
export function nameOf({ registry, repository }: Reference): string {
  return `${registry}/${repository}`;
}

/** Whether a node names another repository than that of a reference. A short name is of no repository for sure. */
export function isOtherRepository(name: string, asked: Reference): boolean {
  const named = isShortName(name) ? undefined : tryParse(name);
  return named !== undefined && nameOf(named) !== nameOf(asked);
}

/** The repository that an imageID names, which may be another one than the container's: that of
 *  `docker-pullable://ghcr.io/acme/api@sha256:…` is `ghcr.io/acme/api`. */
export function repositoryIn(imageID: string): { repository?: string } {
  const [, repository] = /^(?:[a-z][a-z0-9+.-]*:\/\/)?(.+)@/.exec(imageID) ?? [];
  return repository === undefined ? {} : { repository };
}
