/**
 * What the owner of an image calls it, by the keys of the OCI image-spec ("Pre-Defined Annotation Keys"). It is told
 * beside the digests, and nothing is decided by it.
 */
import { isObject, parseObject, printable } from "../text.ts";
import type { Source } from "./images.ts";
import { type Digest, imagesIn } from "./manifest.ts";

/** One field at least, each in the owner's own words, on one line and cut. */
export interface Release {
  /** `1.4.2`. */
  version?: string;
  /** Of the sources, such as a commit: `3f2c1ab`. */
  revision?: string;
}

/** Finds it where it is nearest to the tag, and there alone:
 *  1. annotations of what the tag points to, which was read to explain the difference;
 *  2. annotations of the image; of an index, its first one's, since all its platforms are one release;
 *  3. labels of its config, the last because an image that sets none has those of its base image
 *     (homebridge/docker-homebridge#738).
 *  Throws what the source throws. */
export async function findRelease(digest: Digest, source: Source): Promise<Release | undefined> {
  const manifest = await source.manifest(digest);
  if (!manifest) return undefined;
  const told = readRelease(manifest.annotations);
  const [first] = imagesIn(manifest);
  if (told || !first) return told;

  const image = await source.manifest(first.digest);
  const toldOfImage = readRelease(image?.annotations);
  if (toldOfImage || !image?.config) return toldOfImage;

  const { config } = parseObject(await source.config(image.config)) ?? {};
  return readRelease(isObject(config) ? config["Labels"] : undefined);
}

// Annotations and labels have the same keys.
function readRelease(words: unknown): Release | undefined {
  if (!isObject(words)) return undefined;
  const version = readWord(words["org.opencontainers.image.version"]);
  const revision = readWord(words["org.opencontainers.image.revision"]);
  return version || revision ? { ...(version && { version }), ...(revision && { revision }) } : undefined;
}

/** The same in other words. */
export function mapWords(release: Release, change: (word: string) => string): Release {
  return Object.fromEntries(Object.entries(release).map(([field, word]: [string, string]) => [field, change(word)]));
}

const wordLengthAtMost = 64; // a commit of git in sha256

function readWord(value: unknown): string {
  if (typeof value !== "string") return "";
  const word = printable(value).trim();
  return (word.length > wordLengthAtMost ? `${word.slice(0, wordLengthAtMost)}…` : word).toWellFormed();
}
