/**
 * Which image of an index a node takes, as far as figwasp asks: containerd's order within one architecture
 * (containerd/platforms, "platformVector").
 */

/** Whether a node that can run an image of `platform` would take one of `other` instead: `linux/arm64` instead of
 *  `linux/arm/v7`, `linux/amd64` instead of `linux/386`, a higher variant instead of a lower one. Both as an index names
 *  them, such as `linux/arm/v7`. */
export function isPreferred(other: string, platform: string): boolean {
  const [one, another] = [rank(other), rank(platform)];
  return one.family === another.family && one.rank > another.rank;
}

const widths: Record<string, { family: string; rank: number }> = {
  "386": { family: "x86", rank: 0 },
  amd64: { family: "x86", rank: 100 },
  arm: { family: "arm", rank: 0 },
  arm64: { family: "arm", rank: 100 },
};

// Without a variant: amd64/v1, and arm64/v8.
function rank(platform: string): { family: string; rank: number } {
  const [os = "", architecture = "", variant = ""] = platform.split("/");
  const { family, rank: base } = widths[architecture] ?? { family: architecture, rank: 0 };
  const lowest = architecture === "arm64" ? 8 : 1;
  return { family: `${os}/${family}`, rank: base + (Number(/^v(\d+)/.exec(variant)?.[1]) || lowest) };
}

/** The images that a node of this platform, such as `linux/arm64`, may take: those of its own architecture or, if there
 *  are none, of one that it can run too. A variant is not known of a node, so that all of them count. An image that does
 *  not tell its platform is one that any node takes. */
export function imagesFor<Named extends { platform: string }>(platform: string, images: Named[]): Named[] {
  const isOwn = (image: Named) =>
    image.platform === "" || image.platform.startsWith(`${platform}/`) || image.platform === platform;
  const own = images.filter(isOwn);
  return own.length > 0 ? own : images.filter((image) => isPreferred(platform, image.platform));
}
