/**
 * What registries store of an image (OCI image-spec): digests, manifests and configs; and how each is asked for (OCI
 * distribution-spec). What a difference between two manifests means is decided in figwasp.ts.
 */
import { createHash } from "node:crypto";
import { isObject, parseObject } from "../text.ts";

/** A sha256 digest, the only algorithm that container runtimes report. See image-spec, "Digests". */
export type Digest = `sha256:${string}`;

/** Something that a repository is asked for. */
export interface Resource {
  /** Below the repository: `manifests/latest`. */
  path: string;
  /** The media types that are accepted, as the Accept header has them. */
  types: string;
  limitBytes: number;
}

// All four in one Accept: without the index types some registries answer with the digest of another manifest,
// or with a converted schema-1 one (distribution-spec, "Pulling manifests"; keel-hq/keel#715).
const manifestTypes = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");
const manifestLimitBytes = 4 * 1024 * 1024; // what the distribution-spec asks registries to take
const configLimitBytes = 1024 * 1024; // they have some KiB, the history of the layers among it

/** The manifest of a tag or a digest. */
export function manifestAt(name: string): Resource {
  return { path: `manifests/${name}`, types: manifestTypes, limitBytes: manifestLimitBytes };
}

/** The config of an image. It is a blob, and registries often redirect to another host for blobs. */
export function configAt(digest: Digest): Resource {
  return { path: `blobs/${digest}`, types: "*/*", limitBytes: configLimitBytes };
}

/** A manifest that an index names (image-spec, "Image Index"). */
export interface Child {
  digest: Digest;
  /** `linux/arm64`, `linux/arm/v7`; empty if the index does not tell. */
  platform: string;
  /** Whether it is a statement about an image rather than an image. BuildKit gives these the platform
   *  `unknown/unknown`. */
  isAttestation: boolean;
}

/** The manifest of an index, which has children, or of an image, which has a config, reduced to what figwasp reads. */
export interface Manifest {
  digest: Digest;
  children: Child[];
  /** See image-spec, "Image Manifest". */
  config: Digest | undefined;
  annotations: unknown;
}

/** The registry answered with status 200, and its answer is no manifest that figwasp can read. */
export class UnreadableManifest extends Error {}

/** Reads the bytes of a manifest, of whichever of the four types. Throws UnreadableManifest for an index whose children
 *  cannot be told apart; what holds neither children nor a config is a manifest all the same. */
export function parseManifest(digest: Digest, body: Buffer): Manifest {
  const { manifests = [], config, annotations } = parseObject(body) ?? {};
  if (!Array.isArray(manifests) || !manifests.every(hasDigest)) {
    throw new UnreadableManifest(`the index ${digest} has children without digests`);
  }
  return {
    digest,
    children: manifests.map(toChild),
    config: hasDigest(config) ? config.digest : undefined,
    annotations,
  };
}

/** The images of a manifest: its own, or those of an index but for attestations, which are statements about images and
 *  never run. */
export function imagesIn({ digest, config, children }: Manifest): Pick<Child, "digest" | "platform">[] {
  if (config !== undefined) return [{ digest, platform: "" }];
  return children.filter(({ isAttestation }) => !isAttestation);
}

function toChild({ digest, platform }: { digest: Digest; platform?: unknown }): Child {
  const name = toPlatform(platform);
  return { digest, platform: name, isAttestation: name === "unknown/unknown" };
}

function hasDigest(value: unknown): value is { digest: Digest; platform?: unknown } {
  return isObject(value) && isDigest(value["digest"]);
}

/** `linux/arm64`, of the fields that an index or a config has for it; empty if there are none. */
export function toPlatform(platform: unknown): string {
  const { os, architecture, variant, "os.version": version } = isObject(platform) ? platform : {};
  // Of Windows the build counts (containerd/platforms, "windowsMatchComparer"), not the monthly revision after it.
  const build = os === "windows" ? /^10\.0\.\d+/.exec(String(version))?.[0] : undefined;
  const parts = [os, architecture, variant, build].filter((part) => typeof part === "string" && part !== "");
  // Builders write these platforms in two ways (containerd, platforms.Normalize).
  return parts
    .join("/")
    .replace(/\/arm64\/v8$/, "/arm64")
    .replace(/\/amd64\/v1$/, "/amd64")
    .replace(/\/arm$/, "/arm/v7");
}

/** Whether the value is a sha256 digest, with hex digits in lower case as the image-spec wants them. */
export function isDigest(value: unknown): value is Digest {
  return typeof value === "string" && /^sha256:[a-f0-9]{64}$/.test(value);
}

/** The digest of the bytes that a registry sent. */
export function sha256(body: Buffer): Digest {
  return `sha256:${createHash("sha256").update(body).digest("hex")}`;
}
