/**
 * What is told of a workload beside its verdict: an Event, what the owner calls the new image, hints and notes. Nothing
 * is decided by it, and it comes after the restart.
 */
import { statusOf } from "../errors.ts";
import type { Workload } from "../kubernetes/objects.ts";
import { parseReference } from "../registry/reference.ts";
import { messageOf } from "../text.ts";
import { describeSubject, type Finding } from "../verdicts.ts";
import type { RunContext } from "./context.ts";
import { hintsFor } from "./gitops.ts";
import { toEvent } from "./report.ts";

/** Tells of a workload that was judged and, if need be, restarted. Resolves to the finding with the releases of the new
 *  images. */
export async function announce(run: RunContext, workload: Workload, finding: Finding): Promise<Finding> {
  const isRestart = finding.verdict.kind === "restarted";
  if (isRestart) for (const hint of hintsFor(workload.metadataKeys, run.config.fieldManager)) run.notes.add(hint);
  const complete = isRestart ? await addReleases(run, finding) : finding;
  if (!run.config.isDryRun) await recordEvent(run, workload, complete);
  return complete;
}

async function addReleases({ registry }: RunContext, finding: Finding): Promise<Finding> {
  const containers = finding.containers.map(async (container) => {
    const { image, verdict } = container;
    if (verdict.kind !== "outdated") return container;
    return { ...container, release: await registry.releaseOf(parseReference(image), verdict.resolved) };
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

/** Notes the volumes whose image is not checked. */
export function noteImageVolumes({ notes }: RunContext, workload: Workload): void {
  for (const { name, image } of workload.imageVolumes) {
    const subject = describeSubject(workload);
    notes.add(`${subject}: image volume ${name} (${image}) is not checked: figwasp looks at containers alone`);
  }
}
