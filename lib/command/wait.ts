/**
 * `--wait`: follows the rollout of a workload that was restarted, and tells how far it is.
 */
import { statusOf } from "../errors.ts";
import { ignoreIfBusy, watchRollout } from "../kubernetes/rollout.ts";
import type { Workload } from "../kubernetes/objects.ts";
import { messageOf } from "../text.ts";
import { describeSubject, failedFinding, type Finding, type Restarted } from "../verdicts.ts";
import type { RunContext } from "./context.ts";

export interface WaitOptions {
  pollMs: number;
  /** Judges the workload once it has rolled out; undefined if it cannot be judged yet. */
  judge: (workload: Workload) => Promise<Finding | undefined>;
}

/** Resolves to the finding of `judge`. It is skipped if the workload is deleted meanwhile. It is a failed finding, with the last progress, if `judge` throws, the
 *  controller gives up, or the run ends before. */
export async function waitForRollout(
  { cluster, signal, log, showProgress }: RunContext,
  { subject, containers }: Restarted,
  { pollMs, judge }: WaitOptions,
): Promise<Finding> {
  let progress = "";
  const onProgress = (text: string) => {
    progress = text;
    for (const show of [log, showProgress]) show(`${describeSubject(subject)}: rolling out, ${text}`);
  };
  try {
    const rollout = watchRollout(cluster, subject, { pollMs, signal, onProgress });
    for (;;) {
      const { value: workload } = await rollout.next();
      if (workload.isDeleted) return { subject, verdict: { kind: "skipped", reason: "being deleted" }, containers };
      const finding = await judge(workload).catch(ignoreIfBusy(signal));
      if (finding) return finding;
    }
  } catch (error) {
    if (statusOf(error) === 404) return { subject, verdict: { kind: "skipped", reason: "it is gone" }, containers };
    const lastProgress = progress && ` (${progress})`;
    return { ...failedFinding(subject, "follow the rollout of", `${messageOf(error)}${lastProgress}`), containers };
  }
}
