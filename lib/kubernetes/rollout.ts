/**
 * Watching a rollout until it has completed, by the rules of `kubectl rollout status`.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { isTimeout } from "../http/transport.ts";
import type { Cluster } from "./cluster.ts";
import type { Workload, WorkloadName } from "./objects.ts";
import { mayPass } from "./patience.ts";

export interface WatchOptions {
  pollMs: number;
  /** Ends the watch. */
  signal: AbortSignal;
  /** Called with each new state: `1 of 3 pods updated, 0 available`. */
  onProgress: (progress: string) => void;
}

/** Reads the workload again and again, and yields it each time that it is found to have rolled out, or to be deleted.
 *  Throws Error if the controller gives up or the signal ends the watch, and HttpError if the workload cannot be
 *  read. */
export async function* watchRollout(
  cluster: Pick<Cluster, "getWorkload">,
  name: WorkloadName,
  { pollMs, signal, onProgress }: WatchOptions,
): AsyncGenerator<Workload, never> {
  let lastProgress = "";
  for (;;) {
    const workload = await cluster.getWorkload(name).catch(ignoreIfBusy(signal));
    if (workload?.isDeleted) yield workload;
    if (workload?.rollout.failure !== undefined) throw new Error(workload.rollout.failure);
    if (workload?.rollout.isComplete) yield workload;
    const progress = workload?.rollout.progress ?? lastProgress;
    if (progress !== lastProgress) onProgress(progress);
    lastProgress = progress;
    await sleep(pollMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

/** For `catch` while a rollout is watched: undefined if the API server is busy or is being replaced, since the next read
 *  may succeed. Once the run has ended, the error is what is told. */
export function ignoreIfBusy(signal: AbortSignal): (error: unknown) => undefined {
  return (error) => {
    if (signal.aborted || !(mayPass(error) || isTimeout(error))) throw error;
  };
}
