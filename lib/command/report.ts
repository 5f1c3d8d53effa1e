/**
 * How the findings of a run are told: a line for each container and workload, such that the log alone says what was
 * compared and why; or one JSON document, whose schema is docs/report.schema.json.
 */
import { createHash } from "node:crypto";
import type { Finding, OutdatedContainer } from "../../figwasp.ts";
import type { Release } from "../registry/release.ts";
import { printable, quote } from "../text.ts";
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
export function reportLines({ of, verdict, containers }: Finding, isDryRun: boolean): string[] {
  const subject = subjectOf(of);
  const lines = containers.map((container) => {
    return `${subject}, container ${container.name} (${container.image}): ${describeContainer(container)}`;
  });
  // Image names and annotations are their owners' own words, and the API server takes line ends in them.
  return [...lines, `${subject}: ${describeWorkload(verdict, isDryRun)}`].map(printable);
}

/** `deployment shop/api`. */
export function subjectOf(of: Finding["of"]): string {
  return typeof of === "string" ? of : `${of.kind} ${of.namespace}/${of.name}`;
}

/** The verdict of a container with what it rests on. */
export function describeContainer(container: Finding["containers"][number]): string {
  const { verdict } = container;
  const release = describeRelease(container.release);
  const digests = [
    ...(verdict.kind === "outdated" ? [`running ${runningOf(verdict)} ${shareOf(verdict, container)}`] : []),
    ...("resolved" in verdict ? [`resolved ${verdict.resolved}${release && ` (${release})`}`] : []),
  ];
  return [verdict.kind, ...digests, ...remarksOf(container)].join(", ");
}

function runningOf({ running, alsoRunning = [] }: OutdatedContainer): string {
  return [running, ...alsoRunning].join(" and ");
}

/** How many pods run the outdated digest: `in 1 of 2 pods`. */
export function shareOf({ pods }: { pods: string[] }, { podCount }: { podCount: number }): string {
  return `in ${pods.length} of ${podCount} pods`;
}

/** What is to be said of a container beside its verdict and digests. */
export function remarksOf({ verdict, credential }: Finding["containers"][number]): string[] {
  if (verdict.kind !== "current" && verdict.kind !== "outdated") return [describeReason(verdict)];
  const failure = verdict.kind === "outdated" ? verdict.failure : undefined;
  return [
    ...(failure ? [`no answer about another running digest: ${failure.message}`] : []),
    ...(verdict.kind === "current" && verdict.isEquivalent ? ["another index of the same image"] : []),
    ...(credential === undefined ? [] : [`with ${credential}`]),
  ];
}

/** What a restart is for, by its owner: `version 1.4.2, revision 3f2c1ab`, quoted where the owner's word might be taken
 *  for one of figwasp's own; empty if he says nothing. */
export function describeRelease(release: Release = {}): string {
  const words = Object.entries(release).map(([field, word]: [string, string]) => {
    return `${field} ${/^[\w.+:/@~-]+$/.test(word) ? word : quote(word)}`;
  });
  return words.join(", ");
}

/** The verdict of a workload with what it rests on: it comes first, up to a comma. */
export function describeWorkload(verdict: Finding["verdict"], isDryRun: boolean): string {
  if (verdict.kind === "current") return "current, nothing to do";
  if (verdict.kind !== "restarted") return `${verdict.kind}, ${describeReason(verdict)}`;
  return `${nameOf(verdict.kind, isDryRun)}, outdated: ${Object.keys(verdict.outdated).join(", ")}${verdict.isRolledOut ? "; it has rolled out" : ""}`;
}

function nameOf(kind: string, isDryRun: boolean): string {
  return kind === "restarted" && isDryRun ? "would be restarted" : kind;
}

export function describeReason(verdict: { reason: string } | { error: Error }): string {
  return "error" in verdict ? verdict.error.message : verdict.reason;
}

/** What the log ends with: the notes, and `3 workloads: 1 restarted, 2 current` where it was not one. */
export function closingLines({ findings, notes, isDryRun }: Report): string[] {
  if (findings.length === 1) return notes;
  const workloads = findings.filter(({ of }) => typeof of !== "string");
  return [...notes, `${workloads.length} workloads: ${describeCounts(findings, isDryRun, "none found")}`];
}

function describeCounts(findings: Finding[], isDryRun: boolean, none: string): string {
  const counts = Object.entries(countVerdicts(findings));
  const lists = findings.filter(({ of }) => typeof of === "string").length;
  const found = counts.map(([kind, count]) => `${count} ${nameOf(kind, isDryRun)}`).join(", ") || none;
  return lists === 0 ? found : `${found}; ${lists} lists failed`;
}

function countVerdicts(findings: Finding[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { of, verdict } of findings) {
    if (typeof of !== "string") counts[verdict.kind] = (counts[verdict.kind] ?? 0) + 1;
  }
  return counts;
}

/** The document of `-o json`: one for a run, with what the lines of the log say, and the digests of every container. */
export function toDocument({ findings, notes, isDryRun, exitCode }: Report): Record<string, unknown> {
  return {
    schemaVersion: 1,
    figwaspVersion: RELEASE,
    dryRun: isDryRun,
    exitCode,
    counts: countVerdicts(findings),
    workloads: findings.flatMap(describeFinding),
    unlisted: findings.flatMap(({ of, verdict }) =>
      typeof of === "string" ? [{ of, ...describeVerdict(verdict) }] : [],
    ),
    notes,
  };
}

function describeFinding({ of, verdict, containers }: Finding): Record<string, unknown>[] {
  if (typeof of === "string") return [];
  const described = containers.map(({ name, image, podCount, credential, release, verdict: own }) => {
    const asked = { ...(credential !== undefined && { credential }), ...(release && { release }) };
    return { name, image, podCount, ...asked, ...describeVerdict(own) };
  });
  return [{ ...of, ...describeVerdict(verdict), containers: described }];
}

// A verdict's own fields under their names, with the message of an error as its reason.
function describeVerdict(verdict: Finding["verdict"] | Finding["containers"][number]["verdict"]) {
  const { kind, ...fields } = verdict;
  if ("error" in fields) return { verdict: kind, reason: fields.error.message };
  if ("failure" in fields && fields.failure) return { verdict: kind, ...fields, failure: fields.failure.message };
  return { verdict: kind, ...fields };
}

const messageLimitBytes = 4096; // of what the kubelet keeps

/** What `kubectl describe` shows of figwasp's own pod: the counts, then each workload that is not as it was. */
export function terminationMessage({ findings, isDryRun }: Report): string {
  const counts = describeCounts(findings, isDryRun, "no workload found");
  const told = findings.filter(({ verdict }) => verdict.kind !== "current" && verdict.kind !== "skipped");
  const lines = told.map(({ of, verdict }) => `${subjectOf(of)}: ${describeWorkload(verdict, isDryRun)}`);
  return cutBytes([counts, ...lines.map(printable)].join("\n"), messageLimitBytes);
}

// Where a character is cut through, it is left out.
function cutBytes(text: string, limit: number): string {
  const cut = Buffer.from(text).subarray(0, limit).toString("utf8");
  return cut.replace(/\ufffd$/, "");
}

const eventLimitBytes = 1024; // NoteLengthLimit of the API server

const kindNames = { deployment: "Deployment", statefulset: "StatefulSet", daemonset: "DaemonSet" };

/** An Event of a workload, as the API takes it. */
export type WorkloadEvent = NonNullable<ReturnType<typeof toEvent>>;

/** The Event for a restart, or for one that did not help; undefined for what is no news. */
export function toEvent({ of, verdict, containers }: Finding, uid: string, at: Date) {
  if (typeof of === "string" || (verdict.kind !== "restarted" && verdict.kind !== "not converged")) return undefined;
  const isRestart = verdict.kind === "restarted";
  const changes = containers.flatMap(({ name, image, verdict: own, release }) => {
    if (own.kind !== "outdated") return [];
    const described = describeRelease(release);
    return [`${name} (${image}) from ${own.running} to ${own.resolved}${described && ` (${described})`}`];
  });
  const message = printable(isRestart ? changes.join("; ") : verdict.reason);
  // Each restart is news. That the nodes still pull something else is found at each run, and is one Event.
  const news = isRestart ? at.toISOString() : message;
  const unique = createHash("sha256").update(`${uid} ${news}`).digest("hex").slice(0, 16);
  const time = `${at.toISOString().slice(0, 19)}Z`;
  return {
    metadata: { name: `${of.name.slice(0, 200)}.figwasp-${unique}`, namespace: of.namespace },
    involvedObject: { apiVersion: "apps/v1", ...of, kind: kindNames[of.kind], uid },
    reason: isRestart ? "Restarted" : "NotConverged",
    type: isRestart ? "Normal" : "Warning",
    message: cutBytes(message, eventLimitBytes),
    count: 1,
    firstTimestamp: time,
    lastTimestamp: time,
    source: { component: "figwasp" },
    reportingComponent: "figwasp",
  };
}

/** Whether somebody has to look: the exit code is 1. */
export function isTrouble({ verdict, containers }: Finding): boolean {
  const found = [verdict, ...containers.map((container) => container.verdict)];
  return found.some((each) => each.kind === "failed" || each.kind === "not converged" || "failure" in each);
}

/** How a run ended that could not go on: a known error is one line, a mistake of our own shows where it happened. */
export function describeEnd(error: unknown): string {
  const isKnown = error instanceof Error && !(error instanceof TypeError || error instanceof RangeError);
  return isKnown ? `figwasp: ${error.message}` : String((error as Error | undefined)?.stack ?? error);
}
