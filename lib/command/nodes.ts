/**
 * The platforms of the nodes on which something runs. The right to know them is optional.
 */
import type { Cluster } from "../kubernetes/cluster.ts";
import type { Digest } from "../registry/manifest.ts";

/** The platforms of the nodes that run a digest, such as `linux/arm64`; undefined if one of them is not known. */
export type PlatformsOf = (digest: Digest) => Promise<string[] | undefined>;

/** A pod as far as it matters here. */
interface PodOnNode {
  node: string;
  running: { kind: "digest"; digest: Digest } | { kind: "unreadable" };
}

/** Asks for each node once in a run, and only when it is called. Throws HttpError. */
export function platformsOfNodes(cluster: Pick<Cluster, "getNodePlatform">, pods: PodOnNode[]): PlatformsOf {
  return async (digest) => {
    const onNodes = pods.filter(({ running }) => running.kind === "digest" && running.digest === digest);
    const names = new Set(onNodes.map(({ node }) => node));
    const platforms = new Set<string>();
    for (const name of names) {
      const platform = await cluster.getNodePlatform(name);
      if (platform === undefined) return undefined;
      platforms.add(platform);
    }
    return [...platforms];
  };
}
