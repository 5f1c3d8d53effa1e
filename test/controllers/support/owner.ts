/**
 * The owner of a workload, who looks at it again and again, and puts its pod template right: an operator, or a tool
 * that applies manifests.
 */
import type { TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { V1PodTemplateSpec } from "@kubernetes/client-node";
import { ApiError, call } from "./api.ts";
import { maker, type Shop } from "./shop.ts";
import type { WorkloadKind } from "./workloads.ts";

interface Owner {
  /** How long it waits before it looks again. */
  everyMs: number;
  /** What the template should be. */
  mend: (template: V1PodTemplateSpec) => V1PodTemplateSpec | Promise<V1PodTemplateSpec>;
}

/** Lets an owner look after `web` until the test ends. */
export function playOwner(t: TestContext, shop: Shop, kind: WorkloadKind, { everyMs, mend }: Owner): void {
  const over = new AbortController();
  const path = `/apis/apps/v1/namespaces/${shop.namespace}/${kind}s/web`;
  const look = async () => {
    const workload = await shop.read(kind);
    if (!workload.spec) return;
    const before = JSON.stringify(workload.spec.template);
    workload.spec.template = await mend(workload.spec.template);
    if (JSON.stringify(workload.spec.template) === before) return;
    await call("PUT", `${path}?fieldManager=${maker}`, { body: workload });
  };
  const play = async () => {
    while (!over.signal.aborted) {
      await look().catch(passOverChange);
      await sleep(everyMs);
    }
  };
  const played = play().then(
    () => undefined,
    (error: unknown) => error,
  );
  t.after(async () => {
    over.abort();
    const error = await played;
    if (error !== undefined) throw error;
  });
}

// Somebody has written in between: the next look will see it.
function passOverChange(error: unknown): void {
  if (!(error instanceof ApiError && error.status === 409)) throw error;
}
