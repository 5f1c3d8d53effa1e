/**
 * The findings of a run as text: a line for each container and workload, such that the log alone says what was compared
 * and why; one JSON document, whose schema is docs/report.schema.json; the termination message; Events.
 */
import { newEvent, type WorkloadEvent } from "../kubernetes/events.ts";
import type { Release } from "../registry/release.ts";
import { cutBytes, printable, quote } from "../text.ts";
import { type ContainerFinding, describeReason, describeSubject, type Finding } from "../verdicts.ts";
import type { ContainerVerdict, OutdatedContainer, ToRestart, WorkloadVerdict } from "../verdicts.ts";
import { RELEASE } from "../version.ts";

/** A run that has ended. */
export interface Report {
  findings: Finding[];
  /** What to read beside the verdicts. */
  notes: string[];
  isDryRun: boolean;
  exitCode: number;
}

/** The lines of the log for one workload. */
export function reportLines({ subject, verdict, containers }: Finding, isDryRun: boolean): string[] {
  const name = describeSubject(subject);
  const lines = containers.map((container) => {
    return `${name}, container ${container.name} (${describeImage(container)}): ${describeContainer(container)}`;
  });
  // The API server accepts line ends in image names and annotations, which their owners write.
  return [...lines, `${name}: ${describeWorkload(verdict, isDryRun)}`].map(printable);
}

/** The image of a container as the template names it, and beside it the one that was asked about, if it is another. */
export function describeImage({ image, asked = image }: ContainerFinding): string {
  return asked === image ? image : `${image}, asked about ${asked}`;
}

/** The verdict of a container with what it rests on. */
export function describeContainer(container: ContainerFinding): string {
  const { verdict } = container;
  const release = describeRelease(container.release);
  const digests: string[] = [];
  if (verdict.kind === "outdated") digests.push(`running ${describeRunning(verdict)} ${describeShare(container)}`);
  if (verdict.kind === "outdated" || verdict.kind === "current") {
    digests.push(`resolved ${verdict.resolved}${release && ` (${release})`}`);
  }
  return [verdict.kind, ...digests, ...remarksOf(container)].join(", ");
}

function describeRunning({ running, alsoRunning = [] }: OutdatedContainer): string {
  return [running, ...alsoRunning].join(" and ");
}

/** How many pods run an outdated digest: `in 1 of 2 pods`; empty if the container is not outdated. */
export function describeShare({ verdict, podCount }: ContainerFinding): string {
  return verdict.kind === "outdated" ? `in ${verdict.pods.length} of ${podCount} pods` : "";
}

/** What is to be said of a container beside its verdict and digests. */
export function remarksOf({ verdict, credential }: ContainerFinding): string[] {
  if (verdict.kind !== "current" && verdict.kind !== "outdated") return [describeReason(verdict)];
  const failure = verdict.kind === "outdated" ? verdict.failure : undefined;
  const isEquivalent = verdict.kind === "current" && verdict.isEquivalent;
  return [
    ...(failure ? [`no answer about another running digest: ${failure.message}`] : []),
    ...(isEquivalent ? ["another index of the same image"] : []),
    ...(credential === undefined ? [] : [`with ${credential}`]),
  ];
}

/** What the owner calls the new image: `version 1.4.2, revision 3f2c1ab`; empty if the owner says nothing. A word that
 *  could be taken for one of figwasp's own is quoted. */
export function describeRelease(release: Release = {}): string {
  const words = Object.entries(release).map(([field, word]: [string, string]) => {
    return `${field} ${/^[\w.+:/@~-]+$/.test(word) ? word : quote(word)}`;
  });
  return words.join(", ");
}

/** The verdict of a workload with what it rests on. The verdict comes first, up to a comma. */
export function describeWorkload(verdict: WorkloadVerdict, isDryRun: boolean): string {
  if (verdict.kind === "current") {
    return verdict.notStarted === undefined ? "current, nothing to do" : `current, ${verdict.notStarted} not started`;
  }
  if (verdict.kind !== "restarted") return `${verdict.kind}, ${describeReason(verdict)}`;
  const names = triesOf(verdict).map(([name, attempt]) => (attempt > 1 ? `${name} (try ${attempt})` : name));
  const end = verdict.isRolledOut ? "; it has rolled out" : "";
  return `${describeKind(verdict.kind, isDryRun)}, outdated: ${names.join(", ")}${end}`;
}

// By container, in the order of the template: which restart for its digest it is, from 1.
function triesOf({ outdated, note = {} }: ToRestart): [string, number][] {
  return Object.keys(outdated).map((name) => [name, note[name]?.try ?? 1]);
}

function describeKind(kind: string, isDryRun: boolean): string {
  return kind === "restarted" && isDryRun ? "would be restarted" : kind;
}

/** The last lines of the log: the notes, and `3 workloads: 1 restarted, 2 current` if it was not one workload. */
export function closingLines({ findings, notes, isDryRun }: Report): string[] {
  if (findings.length === 1) return notes;
  const workloads = findings.filter(({ subject }) => subject.kind !== "list");
  return [...notes, `${workloads.length} workloads: ${describeCounts(findings, isDryRun, "none found")}`];
}

function describeCounts(findings: Finding[], isDryRun: boolean, none: string): string {
  const counts = Object.entries(countVerdicts(findings));
  const failedLists = findings.filter(({ subject }) => subject.kind === "list").length;
  const text = counts.map(([kind, count]) => `${count} ${describeKind(kind, isDryRun)}`).join(", ") || none;
  return failedLists === 0 ? text : `${text}; ${failedLists} lists failed`;
}

function countVerdicts(findings: Finding[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { subject, verdict } of findings) {
    if (subject.kind !== "list") counts[verdict.kind] = (counts[verdict.kind] ?? 0) + 1;
  }
  return counts;
}

/** The document of `-o json`, one for a run: what the lines of the log say, with the digests of every container. */
export function toDocument({ findings, notes, isDryRun, exitCode }: Report): Record<string, unknown> {
  return {
    schemaVersion: 2,
    figwaspVersion: RELEASE,
    dryRun: isDryRun,
    exitCode,
    counts: countVerdicts(findings),
    workloads: findings.flatMap(toWorkloadEntry),
    unlisted: findings.flatMap(({ subject, verdict }) => {
      return subject.kind === "list" ? [{ of: subject.name, ...toVerdictFields(verdict) }] : [];
    }),
    notes,
  };
}

function toWorkloadEntry({ subject, verdict, containers }: Finding): Record<string, unknown>[] {
  if (subject.kind === "list") return [];
  const entries = containers.map((container) => {
    const { name, image, asked, podCount, credential, release } = container;
    const fromRegistry = { ...(credential !== undefined && { credential }), ...(release && { release }) };
    const images = { image, ...(asked !== undefined && asked !== image && { asked }) };
    return { name, ...images, podCount, ...fromRegistry, ...toVerdictFields(container.verdict) };
  });
  return [{ ...subject, ...toVerdictFields(verdict), containers: entries }];
}

// A verdict's own fields under their names, with the message of an error as its reason.
function toVerdictFields(verdict: WorkloadVerdict | ContainerVerdict): Record<string, unknown> {
  const { kind, ...fields } = verdict;
  if (verdict.kind === "failed") return { verdict: kind, reason: verdict.error.message };
  // What the judge tells the action alone is left out.
  if (verdict.kind === "restarted") {
    const { outdated, isRolledOut } = verdict;
    return {
      verdict: kind,
      outdated,
      tries: Object.fromEntries(triesOf(verdict)),
      ...(isRolledOut && { isRolledOut }),
    };
  }
  if (verdict.kind === "outdated") {
    const { kind: _kind, image: _image, unclear: _unclear, failure, ...told } = verdict;
    return { verdict: kind, ...told, ...(failure && { failure: failure.message }) };
  }
  return { verdict: kind, ...fields };
}

const maxTerminationBytes = 4096; // what the kubelet keeps

/** What `kubectl describe` shows of figwasp's own pod: the counts, then each workload that is neither current nor
 *  skipped. */
export function terminationMessage({ findings, isDryRun }: Report): string {
  const counts = describeCounts(findings, isDryRun, "no workload found");
  const news = findings.filter(({ verdict }) => verdict.kind !== "current" && verdict.kind !== "skipped");
  const lines = news.map(
    ({ subject, verdict }) => `${describeSubject(subject)}: ${describeWorkload(verdict, isDryRun)}`,
  );
  return cutBytes([counts, ...lines.map(printable)].join("\n"), maxTerminationBytes);
}

/** The Event for a restart, or for one that did not help or was taken back; undefined for what is no news. */
export function toEvent({ subject, verdict, containers }: Finding, uid: string, at: Date): WorkloadEvent | undefined {
  if (subject.kind === "list") return undefined;
  const workload = { ...subject, uid };
  if (verdict.kind === "restarted") {
    const message = printable(containers.flatMap(describeChange).join("; "));
    // Each restart is news.
    return newEvent(workload, { reason: "Restarted", type: "Normal", message, identity: at.toISOString(), at });
  }
  if (verdict.kind === "not converged") {
    const message = printable(verdict.reason);
    // Every run finds this again, and it stays one Event.
    return newEvent(workload, { reason: "NotConverged", type: "Warning", message, identity: message, at });
  }
  if (verdict.kind === "taken back") {
    const message = printable(verdict.reason);
    // Every run finds this again too, and words it by what the revisions and the managed fields tell by then.
    const wanted = containers.flatMap(({ name, verdict: of }) => (of.kind === "outdated" ? [name, of.resolved] : []));
    const identity = ["taken back", ...wanted].join(" ");
    return newEvent(workload, { reason: "TakenBack", type: "Warning", message, identity, at });
  }
  return undefined;
}

function describeChange(container: ContainerFinding): string[] {
  const { name, verdict } = container;
  if (verdict.kind !== "outdated") return [];
  const words = describeRelease(container.release);
  return [
    `${name} (${describeImage(container)}) from ${verdict.running} to ${verdict.resolved}${words && ` (${words})`}`,
  ];
}

/** How a run ended that could not go on, on one line whatever a server or a file has put into the message. A mistake of
 *  our own shows where it happened. */
export function describeCrash(error: unknown): string {
  const isKnown = error instanceof Error && !(error instanceof TypeError || error instanceof RangeError);
  const text = isKnown ? `figwasp: ${error.message}` : String((error as Error | undefined)?.stack ?? error);
  return printable(text.replaceAll(/\n\s*/g, " ")).trim();
}
