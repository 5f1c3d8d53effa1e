/**
 * What is told of a workload beside its verdict: an Event, what the owner calls the new image, hints and notes. Nothing
 * is decided by it, and it comes after the restart.
 */
import { statusOf } from "../errors.ts";
import type { Workload } from "../kubernetes/objects.ts";
import type { OwnedObjects } from "../kubernetes/owned-objects.ts";
import { parseReference } from "../registry/reference.ts";
import { messageOf, quote } from "../text.ts";
import { describeSubject, type Finding } from "../verdicts.ts";
import type { RunContext } from "./context.ts";
import { hintsFor } from "./gitops.ts";
import { toEvent } from "./report.ts";
import { containersAnnotation } from "./words.ts";

/** Tells of a workload that was judged and, if need be, restarted. Resolves to the finding with the releases of the new
 *  images. */
export async function announce(run: RunContext, workload: Workload, finding: Finding): Promise<Finding> {
  const isRestart = finding.verdict.kind === "restarted";
  if (isRestart) {
    for (const hint of hintsFor(workload.metadataKeys, run.config.fieldManager)) run.notes.add(hint);
    if (workload.revisionHistoryLimit === 0) {
      const why = "(revisionHistoryLimit is 0): an undo of this restart cannot be noticed";
      run.notes.add(`${describeSubject(workload)} keeps no older revisions ${why}`);
    }
  }
  const complete = isRestart ? await addReleases(run, finding) : finding;
  if (!run.config.isDryRun) await recordEvent(run, workload, complete);
  return complete;
}

async function addReleases({ registry }: RunContext, finding: Finding): Promise<Finding> {
  const containers = finding.containers.map(async (container) => {
    const { verdict } = container;
    if (verdict.kind !== "outdated") return container;
    return { ...container, release: await registry.releaseOf(parseReference(verdict.image), verdict.resolved) };
  });
  return { ...finding, containers: await Promise.all(containers) };
}

// Events are no part of the work: a Role need not grant them (403), and one of the same name may exist already (409).
async function recordEvent({ cluster, notes, now }: RunContext, { uid }: Workload, finding: Finding): Promise<void> {
  const event = toEvent(finding, uid, now());
  try {
    if (event) await cluster.recordEvent(event);
  } catch (error) {
    const isExpected = [403, 409].includes(statusOf(error) ?? 0);
    if (!isExpected) notes.add(`Cannot write an Event of ${describeSubject(finding.subject)}: ${messageOf(error)}`);
  }
}

/** Notes that an undo of a Deployment has taken its owner's word along, which the ReplicaSet that was left still has. */
export function noteLostWords({ notes }: RunContext, workload: Workload, { replicaSets }: OwnedObjects): void {
  const [newest, before] = replicaSets.toSorted((a, b) => Number(b.revision) - Number(a.revision));
  const lost = before?.ownAnnotations[containersAnnotation];
  if (!newest?.isReused || lost === undefined || workload.ownAnnotations[containersAnnotation] !== undefined) return;
  const found = `its ReplicaSet ${before?.name} still has ${quote(lost)}`;
  notes.add(`${describeSubject(workload)} has lost its annotation ${containersAnnotation} at an undo: ${found}`);
}

/** Notes the volumes whose image is not checked. */
export function noteImageVolumes({ notes }: RunContext, workload: Workload): void {
  for (const { name, image } of workload.imageVolumes) {
    const subject = describeSubject(workload);
    notes.add(`${subject}: image volume ${name} (${image}) is not checked: figwasp looks at containers alone`);
  }
}
