import { isDeepStrictEqual } from "node:util";
import type { V1Deployment } from "@kubernetes/client-node";
import type { ApiServer } from "./api-server.ts";
import { eventually } from "./eventually.ts";
import { interruption } from "./interruption.ts";

/** The field manager under which an owner writes its Deployment. */
export const ownerName = "shop-operator";

/** Puts the pod template of a Deployment back to what it is now, as soon as anybody has changed it, as operators do that know
 *  only their own template. Returns what ends that. */
export function keepTemplate(apiServer: ApiServer, wanted: V1Deployment): () => Promise<void> {
  const ending = new AbortController();
  const { namespace = "", name = "" } = wanted.metadata ?? {};
  const look = async () => {
    const found = await apiServer.read<V1Deployment>("deployments", namespace, name);
    if (!isDeepStrictEqual(found.spec?.template, wanted.spec?.template)) {
      Object.assign(found.spec ?? {}, { template: wanted.spec?.template });
      await apiServer.replace("deployments", found, ownerName);
    }
    if (!ending.signal.aborted) throw new Error("it goes on looking");
  };
  const signal = AbortSignal.any([ending.signal, interruption.signal]);
  const looking = eventually(look, { deadlineMs: Infinity, everyMs: 50, signal });
  // Whoever ends it is told of the failure.
  looking.catch(() => {});
  return () => {
    ending.abort();
    return looking;
  };
}
