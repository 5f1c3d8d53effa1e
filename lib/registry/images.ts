/**
 * The images that a digest stands for: its own, or those of its index. What a difference between two of them means is
 * decided in figwasp.ts.
 */
import { statusOf } from "../errors.ts";
import { parseObject } from "../text.ts";
import { type Digest, imagesIn, type Manifest, toPlatform, UnreadableManifest } from "./manifest.ts";

/** One image. What is read is read once. */
export interface Image {
  digest: Digest;
  /** As the index names it; empty for a manifest without one. */
  platform: string;
  /** The digest of its config, which names layers and platform; undefined if the image is not there, or has none. */
  readConfig: () => Promise<Digest | undefined>;
  /** The platform that its config names; empty if that cannot be read. */
  readPlatform: () => Promise<string>;
}

/** Where images are read. */
export interface Source {
  /** Undefined where the repository does not have it. */
  manifest: (digest: Digest) => Promise<Manifest | undefined>;
  /** A config, as JSON. */
  config: (digest: Digest) => Promise<Buffer>;
}

/** The images of a digest, without attestations; undefined if it is not there. Throws what the source throws. */
export async function readImages(digest: Digest, source: Source): Promise<Image[] | undefined> {
  const manifest = await source.manifest(digest);
  return manifest && imagesIn(manifest).map((image) => toImage(image, source));
}

function toImage({ digest, platform }: Pick<Image, "digest" | "platform">, source: Source): Image {
  const readConfig = async () => (await source.manifest(digest))?.config;
  const readPlatform = async () => {
    try {
      const config = await readConfig();
      return config === undefined ? "" : toPlatform(parseObject(await source.config(config)));
    } catch {
      return ""; // it is one way to tell the platform, and no more
    }
  };
  return { digest, platform, readConfig, readPlatform };
}

// Answers that say for good that something is not to be had: not found, gone, a policy's refusal, and the law's.
const lastingRefusals = new Set([404, 410, 412, 451]);

/** Reads of what runs, where a lasting refusal says that it is gone. It is read from the repository that is asked about
 *  or, if that does not have it, from the one that the node names. That one may be anybody's, so that its refusals say
 *  nothing; that it does not answer is an error. */
export function sourceOfOld(asked: Source, named: Source | undefined): Source {
  let isNamed = false; // an index is where its images are
  return {
    manifest: async (digest) => {
      const found = isNamed ? undefined : await asked.manifest(digest).catch(ignoreRefusal);
      if (found || !named) return found;
      const other = await named.manifest(digest).catch(ignoreStranger);
      isNamed ||= other !== undefined;
      return other;
    },
    config: (digest) => (isNamed && named ? named : asked).config(digest),
  };
}

// What is answered for good.
function ignoreStranger(error: unknown): undefined {
  const status = statusOf(error) ?? 0;
  if (status < 400 || status === 429 || status >= 500) throw error;
}

function ignoreRefusal(error: unknown): undefined {
  if (!lastingRefusals.has(statusOf(error) ?? 0)) throw error;
}

/** For the images of what runs: that these cannot be read says nothing about the tag. */
export function noneIfUnreadable(error: unknown): never[] {
  if (error instanceof UnreadableManifest) return [];
  throw error;
}

/** Whether this is a manifest that stands alone, and so does not tell its platform. */
export function isAlone([image]: Image[]): boolean {
  return image?.platform === "";
}

/** The same, with the platform that the config of a lone manifest names. */
export function withPlatforms(images: Image[]): Promise<Image[]> {
  return Promise.all(
    images.map(async (image) => Object.assign({}, image, { platform: image.platform || (await image.readPlatform()) })),
  );
}

/** The configs of all of them; undefined if one is not known, since what is not among the others may be that one. */
export async function readConfigs(images: Image[]): Promise<Digest[] | undefined> {
  const configs = await Promise.all(images.map((image) => image.readConfig()));
  const known = configs.filter((config) => config !== undefined);
  return known.length > 0 && known.length === configs.length ? known : undefined;
}

/** Whether an image is among others: by its manifest, or by its config, which is read only where manifests differ. */
export async function hasImage(images: Image[], image: Image): Promise<boolean> {
  if (images.some(({ digest }) => digest === image.digest)) return true;
  const config = await image.readConfig().catch(noneIfUnreadable);
  const configs = await Promise.all(images.map((each) => each.readConfig()));
  return typeof config === "string" && configs.includes(config);
}

/** Whether two sets have an image in common. Equal manifests tell enough unless `isExact`, and no config is read. */
export async function sharesImage(images: Image[], others: Image[], isExact: boolean): Promise<boolean> {
  if (others.some(({ digest }) => images.some((image) => image.digest === digest))) return true;
  if (isExact) for (const image of others) if (await hasImage(images, image)) return true;
  return false;
}
