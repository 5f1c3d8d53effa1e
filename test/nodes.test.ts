import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { platformsOfNodes } from "../lib/command/nodes.ts";
import { HttpError } from "../lib/errors.ts";
import { digestOf } from "./support/registry.ts";

const amd = "linux/amd64";
const arm = "linux/arm64";

function podOn(node: string, word: string | undefined) {
  const unreadable = { node, running: { kind: "unreadable" as const } };
  return word === undefined ? unreadable : { node, running: { kind: "digest" as const, digest: digestOf(word) } };
}

/** A cluster of these nodes, and which of them it was asked about. */
function clusterOf(nodes: Record<string, string | Error>) {
  const asked: string[] = [];
  const getNodePlatform = async (name: string) => {
    asked.push(name);
    const found = nodes[name];
    if (found instanceof Error) throw found;
    return found;
  };
  return { asked, getNodePlatform };
}

describe("platformsOfNodes()", () => {
  it("knows each platform once, of the nodes that run the digest", async () => {
    const cluster = clusterOf({ n1: amd, n2: arm, n3: amd, n4: "windows/amd64" });
    const pods = [podOn("n1", "a"), podOn("n2", "a"), podOn("n3", "a"), podOn("n1", "a"), podOn("n4", "b")];
    assert.deepEqual(await platformsOfNodes(cluster, pods)(digestOf("a")), [amd, arm]);
    assert.deepEqual(cluster.asked, ["n1", "n2", "n3"]);
  });

  it("asks for nothing before it is called", () => {
    const cluster = clusterOf({});
    platformsOfNodes(cluster, [podOn("n1", "a")]);
    assert.deepEqual(cluster.asked, []);
  });

  it("knows none if one of them is not known, and asks no further", async () => {
    const cluster = clusterOf({ n1: amd, n3: amd });
    const pods = [podOn("n1", "a"), podOn("n2", "a"), podOn("n3", "a")];
    assert.equal(await platformsOfNodes(cluster, pods)(digestOf("a")), undefined);
    assert.deepEqual(cluster.asked, ["n1", "n2"]);
  });

  it("knows none of a digest that no pod is known to run", async () => {
    const pods = [podOn("n1", undefined), podOn("n1", "b")];
    assert.equal(await platformsOfNodes(clusterOf({ n1: amd }), pods)(digestOf("a")), undefined);
  });

  it("names the node about which it got no answer, by an error that is not taken for the registry's", async () => {
    const cluster = clusterOf({ n1: new HttpError(429, "GET … returned 429: busy") });
    const lookUp = platformsOfNodes(cluster, [podOn("n1", "a")]);
    await assert.rejects(lookUp(digestOf("a")), (error: Error) => {
      assert.equal(error.message, "Cannot know the platform of node n1: GET … returned 429: busy");
      return !("kind" in error);
    });
  });
});
