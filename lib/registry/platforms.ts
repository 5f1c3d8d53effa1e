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

// Without a variant: amd64/v1, and arm64/v8. Of Windows it is the build, and a node takes no later one than its own.
function rank(platform: string): { family: string; rank: number } {
  const [os = "", architecture = "", variant = ""] = platform.split("/");
  const { family, rank: base } = widths[architecture] ?? { family: architecture, rank: 0 };
  const lowest = architecture === "arm64" ? 8 : 1;
  return { family: `${os}/${family}`, rank: base + (Number(/^(?:v|10\.0\.)(\d+)/.exec(variant)?.[1]) || lowest) };
}

/** An image of the tag that a node may take in place of what it runs: one that it prefers, and that was not there; or
 *  the next one, where what it runs is not there any more. Undefined if there is none. */
export function findTaken<Image extends Named>(to: Image[], from: Image[]): Image | undefined {
  const has = (images: Image[], platform: string) => images.some((image) => image.platform === platform);
  return to.find((each) =>
    from.some((image) => {
      const isGained = !has(from, each.platform) && isPreferred(each.platform, image.platform);
      return isGained || (!has(to, image.platform) && isPreferred(image.platform, each.platform));
    }),
  );
}

interface Named {
  platform: string;
}

/** The images that a node of this platform, such as `linux/arm64`, may take: those of its own architecture or, if there
 *  are none, the best of one that it can run too. A variant is not known of a node, so that all of them count. An image
 *  that does not tell its platform is one that any node takes. */
export function imagesFor<Image extends Named>(platform: string, images: Image[]): Image[] {
  const isOwn = (image: Image) =>
    image.platform === "" || image.platform.startsWith(`${platform}/`) || image.platform === platform;
  const own = images.filter(isOwn);
  if (own.length > 0) return own;
  const others = images.filter((image) => isPreferred(platform, image.platform));
  return others.filter((image) => !others.some((other) => isPreferred(other.platform, image.platform)));
}

/** What a node of this platform takes of the tag's images, and what it runs. What stands alone is what it runs, whatever
 *  it tells. If each is one image, they are called alike, so that they are compared: a node with `linux/arm64` takes that
 *  in place of the `linux/arm/v7` that it runs. A higher variant than what it runs is one that it may not be able to. */
export function imagesOn<Image extends Named>(
  platform: string,
  { to, from }: { to: Image[]; from: Image[] },
): [Image[], Image[]] {
  const callAlike = (image: Image): Image => Object.assign({}, image, { platform });
  const running = from.map((image) => (image.platform === "" ? callAlike(image) : image));
  const [taken, run] = [imagesFor(platform, to), imagesFor(platform, running)];
  const [one, other] = [taken[0]?.platform ?? "", run[0]?.platform ?? ""];
  const isPair = taken.length === 1 && run.length === 1 && one !== "";
  const canRun = !isPreferred(one, platform) || !isPreferred(one, other);
  return isPair && canRun ? [taken.map(callAlike), run.map(callAlike)] : [taken, run];
}
