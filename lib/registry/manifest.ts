/**
 * What an image is made of, as registries keep it (OCI image-spec): digests and manifests; and how these are asked for
 * (OCI distribution-spec). What a difference between two of them means, is decided in figwasp.ts.
 */
import { createHash } from "node:crypto";
import { isObject, parseObject } from "../text.ts";

/** Of the one algorithm that all runtimes report in. See image-spec, "Digests". */
export type Digest = `sha256:${string}`;

/** What a repository is asked for. */
export interface Resource {
  /** Below the repository: `manifests/latest`. */
  path: string;
  /** The media types that are taken. */
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

/** The config of an image, which is a blob: registries lead to where they keep them, often another host. */
export function configAt(digest: Digest): Resource {
  return { path: `blobs/${digest}`, types: "*/*", limitBytes: configLimitBytes };
}

/** The manifest of an index (`children`) or of an image (`config`), as far as figwasp reads it. */
export interface Manifest {
  digest: Digest;
  /** Without attestations; `platform` is `linux/arm64`, `linux/arm/v7`. See image-spec, "Image Index". */
  children: { digest: Digest; platform: string }[];
  /** See image-spec, "Image Manifest". */
  config: Digest | undefined;
  annotations: unknown;
}

/** What a registry has answered well with, and is no manifest that figwasp can read. */
export class UnreadableManifest extends Error {}

/** Reads the bytes of a manifest, of whichever of the four types. Throws UnreadableManifest for an index whose children
 *  cannot be told apart; what holds neither children nor a config is a manifest all the same. */
export function parseManifest(digest: Digest, body: Buffer): Manifest {
  const { manifests = [], config, annotations } = parseObject(body) ?? {};
  if (!Array.isArray(manifests) || !manifests.every(hasDigest)) {
    throw new UnreadableManifest(`the index ${digest} has children without digests`);
  }
  const children = manifests.map((child) => ({ digest: child.digest, platform: describePlatform(child.platform) }));
  return {
    digest,
    // BuildKit marks what is about an image, and no image itself, with this platform.
    children: children.filter(({ platform }) => platform !== "unknown/unknown"),
    config: hasDigest(config) ? config.digest : undefined,
    annotations,
  };
}

/** The images of an index; an image has itself. */
export function imagesOf(manifest: Manifest): Manifest["children"] {
  return manifest.config === undefined ? manifest.children : [{ digest: manifest.digest, platform: "" }];
}

function hasDigest(value: unknown): value is { digest: Digest; platform?: unknown } {
  return isObject(value) && isDigest(value["digest"]);
}

function describePlatform(platform: unknown): string {
  const { os, architecture, variant } = isObject(platform) ? platform : {};
  const parts = [os, architecture, variant].filter((part) => typeof part === "string" && part !== "");
  // Builders write two of them in two ways (containerd, platforms.Normalize).
  return parts
    .join("/")
    .replace(/\/arm64\/v8$/, "/arm64")
    .replace(/\/arm$/, "/arm/v7");
}

/** Whether it is one in its only spelling: hex digits in lower case. */
export function isDigest(value: unknown): value is Digest {
  return typeof value === "string" && /^sha256:[a-f0-9]{64}$/.test(value);
}

/** The digest of what a registry sent, byte by byte. */
export function sha256(body: Buffer): Digest {
  return `sha256:${createHash("sha256").update(body).digest("hex")}`;
}
