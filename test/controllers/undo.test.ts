import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { V1ControllerRevision, V1ReplicaSet } from "@kubernetes/client-node";
import { imageOf } from "../support/registry.ts";
import { eventually, openShop, type Shop } from "./support/shop.ts";
import { type WorkloadKind, workloadKinds } from "./support/workloads.ts";

/** The names of the revisions' objects, the one with the highest number first. */
async function revisionsOf(shop: Shop, kind: WorkloadKind): Promise<string[]> {
  const numbered =
    kind === "deployment"
      ? (await shop.list<V1ReplicaSet>("replicasets", "apis/apps/v1")).map(({ metadata }) => {
          return { metadata, revision: Number(metadata?.annotations?.["deployment.kubernetes.io/revision"]) };
        })
      : await shop.list<V1ControllerRevision>("controllerrevisions", "apis/apps/v1");
  const sorted = numbered.toSorted((a, b) => b.revision - a.revision);
  return sorted.map(({ metadata }) => metadata?.name ?? "");
}

describe("kubectl rollout undo", { concurrency: true }, () => {
  for (const kind of workloadKinds) {
    it(`gives an older revision of a ${kind} the highest number, and its pods are those that count`, async (t) => {
      const shop = await openShop(t);
      const old = shop.registry.put("latest", imageOf("old"));
      await shop.make(kind);
      await shop.rollOut(kind);
      const [first] = await revisionsOf(shop, kind);
      await shop.kubectl("set", "env", `${kind}/web`, "A=1");
      await shop.rollOut(kind);
      const [second] = await revisionsOf(shop, kind);
      assert.notEqual(second, first);

      // The pods of the younger template go on running what the tag does not have any more.
      const moved = shop.registry.put("latest", imageOf("new"));
      shop.nodes.isMakingReady = false;
      await shop.kubectl("rollout", "undo", `${kind}/web`);
      await eventually(async () => assert((await shop.running()).includes(moved)));
      assert.deepEqual(await revisionsOf(shop, kind), [first, second]);
      assert((await shop.running()).includes(old));
      assert.deepEqual(await judge(shop, kind), { verdict: "current", podCount: 1 });

      shop.nodes.isMakingReady = true;
      await shop.rollOut(kind);
      assert.deepEqual(await judge(shop, kind), { verdict: "current", podCount: 2 });
    });
  }
});

interface Document {
  workloads: { verdict: string; containers: { podCount: number }[] }[];
}

async function judge(shop: Shop, kind: WorkloadKind): Promise<object> {
  const { lines } = await shop.figwasp(kind, ["-o", "json"]);
  const [workload] = (JSON.parse(lines.join("\n")) as Document).workloads;
  return { verdict: workload?.verdict, podCount: workload?.containers[0]?.podCount };
}
