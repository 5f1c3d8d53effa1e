/**
 * What becomes of the restarts of a run: with --wait the rollouts are followed to their end, and at the end of the run
 * each restart is looked for once more.
 */
import { mapConcurrently } from "../calls.ts";
import { statusOf } from "../errors.ts";
import { managersBeside, type Workload } from "../kubernetes/objects.ts";
import { messageOf } from "../text.ts";
import { type ContainerVerdict, describeReason, describeSubject, type Finding, type Restarted } from "../verdicts.ts";
import { announce } from "./announce.ts";
import type { RunContext } from "./context.ts";
import { readMarks } from "./note.ts";
import { describeTakenBackAtOnce } from "./reasons.ts";
import { waitForRollout } from "./wait.ts";

export interface SettleOptions {
  /** Judges a workload anew. */
  judge: (workload: Workload) => Promise<Finding>;
  /** Logs a finding, and gives it back. */
  logged: (finding: Finding) => Finding;
}

/** How many workloads are dealt with at the same time. */
export const maxWorkloadsAtOnce = 4;
const rolloutPollMs = 500; // longer if more rollouts are waited for

/** Whether a finding is logged only when its rollout has been followed. */
export function isWaitedFor({ config }: RunContext, finding: Finding): finding is Restarted {
  return config.isWaiting && !config.isDryRun && finding.verdict.kind === "restarted";
}

/** Follows the rollouts if the run waits for them, and then looks whether every restart is still there. Gives the
 *  findings in their order. Never throws. */
export async function settleRestarts(
  run: RunContext,
  findings: Finding[],
  { judge, logged }: SettleOptions,
): Promise<Finding[]> {
  const waitedFor = findings.filter((finding) => isWaitedFor(run, finding));
  const pollMs = rolloutPollMs * Math.max(1, waitedFor.length / maxWorkloadsAtOnce);
  const follow = async (finding: Finding) => {
    if (!isWaitedFor(run, finding)) return finding;
    const judgeAfter = (workload: Workload) => judgeAfterRollout(run, workload, { restarted: finding, judge });
    return logged(await waitForRollout(run, finding, { pollMs, judge: judgeAfter }));
  };
  const followed = await Promise.all(findings.map(follow));
  if (followed.some(wasMade)) await run.settle();
  return mapConcurrently(followed, maxWorkloadsAtOnce, async (finding) => {
    const takenBack = wasMade(finding) ? await lookAgain(run, finding) : undefined;
    return takenBack ? logged(takenBack) : finding;
  });
}

function wasMade(finding: Finding): finding is Restarted {
  return finding.verdict.kind === "restarted" && finding.verdict.made !== undefined;
}

/** What the new pods run of the containers that were outdated; undefined while that cannot be told, because of pods
 *  that have not started for example. All is well if the pods run what the tag points to by now, or somebody has pinned
 *  the image. */
async function judgeAfterRollout(
  run: RunContext,
  workload: Workload,
  { restarted, judge }: { restarted: Restarted; judge: SettleOptions["judge"] },
): Promise<Finding | undefined> {
  let after = await judge(workload);
  if (troubleOf(after, restarted) === "outdated") {
    run.registry.forgetTags(imagesAskedAbout(after));
    after = await judge(workload);
  }
  const trouble = troubleOf(after, restarted);
  if (trouble === undefined) return { ...restarted, verdict: { ...restarted.verdict, isRolledOut: true } };
  if (trouble === "unknown") return undefined;
  if (after.verdict.kind === "restarted") throw new Error("it has rolled out, and is outdated again");
  if (after.verdict.kind === "failed") throw new Error(`it has rolled out, and has ${describeReason(after.verdict)}`);
  return announce(run, workload, after);
}

/** The images that a finding rests on. */
export function imagesAskedAbout({ containers }: Finding): string[] {
  return containers.map(({ image, asked = image }) => asked);
}

// The first verdict, of those containers that it was restarted for, that is neither current nor skipped.
function troubleOf({ verdict, containers }: Finding, restarted: Restarted): ContainerVerdict["kind"] | undefined {
  if (verdict.kind === "waiting") return "unknown";
  const names = Object.keys(restarted.verdict.outdated);
  const kindsNow = containers.filter(({ name }) => names.includes(name)).map((container) => container.verdict.kind);
  return kindsNow.find((kind) => kind !== "current" && kind !== "skipped");
}

// An owner may put back at once what it applies, before any revision shows that. Undefined if the restart is still
// there, or that cannot be told.
async function lookAgain(run: RunContext, finding: Restarted): Promise<Finding | undefined> {
  const { subject, verdict } = finding;
  const { made = { at: "", previousVersion: "" }, outdated } = verdict;
  const { at } = made;
  try {
    const workload = await run.cluster.getWorkload(subject);
    if (workload.resourceVersion === made.previousVersion) return undefined; // a read that is behind the PATCH
    const { note } = readMarks(workload.templateAnnotations, run.config.restartAnnotation);
    if (note && Date.parse(note.at) >= Date.parse(at)) return undefined;
    const reason = describeTakenBackAtOnce({ outdated, at }, managersBeside(run.config.fieldManager, workload));
    return await announce(run, workload, { ...finding, verdict: { kind: "taken back", reason } });
  } catch (error) {
    const isGone = statusOf(error) === 404;
    if (!isGone) run.notes.add(`Cannot read ${describeSubject(subject)} again: ${messageOf(error)}`);
    return undefined;
  }
}
