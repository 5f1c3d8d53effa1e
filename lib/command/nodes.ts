/**
 * The platforms of the nodes on which something runs. The right to know them is optional.
 */
import type { Cluster } from "../kubernetes/cluster.ts";
import type { Digest } from "../registry/manifest.ts";
import { messageOf } from "../text.ts";
import type { OptionalRight } from "./rbac.ts";

/** The right with which the platforms are known. It is of no namespace, so that no Role grants it. */
export const nodesRight: OptionalRight = {
  namespace: undefined,
  verb: "get",
  group: "",
  resource: "nodes",
  name: undefined,
  isOptional: "so that every platform of an index counts",
};

/** The platforms of the nodes that run a digest, such as `linux/arm64`; undefined if one of them is not known. */
export type PlatformsOf = (digest: Digest) => Promise<string[] | undefined>;

/** A pod as far as it matters here. */
interface PodOnNode {
  node: string;
  running: { kind: "digest"; digest: Digest } | { kind: "unreadable" };
}

/** Asks for each node once in a run, and only when it is called. Throws Error. */
export function platformsOfNodes(cluster: Pick<Cluster, "getNodePlatform">, pods: PodOnNode[]): PlatformsOf {
  return async (digest) => {
    const onNodes = pods.filter(({ running }) => running.kind === "digest" && running.digest === digest);
    const names = new Set(onNodes.map(({ node }) => node));
    const platforms = new Set<string>();
    for (const name of names) {
      const platform = await cluster.getNodePlatform(name).catch((cause: unknown) => {
        // Not an HttpError, which would be taken for the registry's.
        throw new Error(`Cannot know the platform of node ${name}: ${messageOf(cause)}`, { cause });
      });
      if (platform === undefined) return undefined;
      platforms.add(platform);
    }
    return names.size > 0 ? [...platforms] : undefined;
  };
}
