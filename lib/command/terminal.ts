/**
 * What a person at a terminal sees: how far the run is, and in the end the findings as a table with short digests.
 */
import { styleText } from "node:util";
import { printable } from "../text.ts";
import { type ContainerFinding, type ContainerVerdict, describeSubject, type Finding } from "../verdicts.ts";
import type { WorkloadVerdict } from "../verdicts.ts";
import type { WorkloadName } from "../kubernetes/objects.ts";
import type { Output } from "./config.ts";
import { closingLines, describeImage, describeRelease, describeShare, describeWorkload } from "./report.ts";
import { remarksOf, type Report, toDocument } from "./report.ts";

export interface Terminal {
  /** Its width in characters. */
  columns: number;
  /** Whether it shows colours, and NO_COLOR does not forbid them. */
  hasColors: boolean;
}

type Style = Parameters<typeof styleText>[0];

const styles: Record<WorkloadVerdict["kind"] | ContainerVerdict["kind"], Style> = {
  current: "green",
  restarted: ["green", "bold"],
  outdated: "yellow",
  waiting: "yellow",
  unknown: "magenta",
  skipped: "dim",
  failed: "red",
  "taken back": "red",
  "not converged": "red",
};

const headings = ["NAMESPACE", "WORKLOAD", "CONTAINER", "VERDICT", "DIGEST", "IMAGE"];
const gap = 2;
const minRemarkColumns = 40; // a narrower terminal breaks the lines itself

/** The last lines of a run: one JSON document, the table if there is a terminal, or what the log has not told yet. */
export function finalLines(report: Report, output: Output, terminal: Terminal | undefined): string[] {
  if (output === "json") return [JSON.stringify(toDocument(report), undefined, 2)];
  return terminal ? drawTable(report, terminal) : closingLines(report);
}

/** A row for each container and, under it, what its verdict rests on; then what the log of a pod ends with. */
export function drawTable(report: Report, terminal: Terminal): string[] {
  const { findings, isDryRun } = report;
  const workloads = findings.map(({ subject, verdict }) => {
    const [word = "", ...reason] = printable(describeWorkload(verdict, isDryRun)).split(", ");
    const painted = paint(terminal, styles[verdict.kind], word);
    return [`${printable(describeSubject(subject))}: ${painted}`, ...reason].join(", ");
  });
  return [...drawContainers(findings, terminal), ...workloads, ...closingLines(report)];
}

function drawContainers(findings: Finding[], terminal: Terminal): string[] {
  const rows = findings.flatMap(({ subject, containers }) => {
    if (subject.kind === "list") return [];
    return containers.map((container) => ({ container, cells: cellsOf(subject, container) }));
  });
  if (rows.length === 0) return [];

  const table = [headings, ...rows.map(({ cells }) => cells)];
  const widths = headings.map((_heading, column) => {
    return table.reduce((widest, row) => Math.max(widest, row[column]?.length ?? 0), 0);
  });
  // The last column holds the images, which may be long: in a narrow terminal they stand under the row.
  const isNarrow = widths.reduce((sum, width) => sum + gap + width, -gap) > terminal.columns;
  const pad = (row: string[]) => {
    const shown = isNarrow ? row.slice(0, -1) : row;
    const isLast = (column: number) => column === shown.length - 1;
    return shown.map((cell, column) => (isLast(column) ? cell : cell.padEnd((widths[column] ?? 0) + gap)));
  };
  const indent = " ".repeat((widths[0] ?? 0) + (widths[1] ?? 0) + 2 * gap);
  const lines = rows.flatMap(({ container, cells }) => {
    const [namespace, workload, name, verdict = "", ...rest] = pad(cells);
    const painted = paint(terminal, styles[container.verdict.kind], verdict);
    const remarks = [...(isNarrow ? cells.slice(-1) : []), ...remarksUnder(container)];
    const wrapped = wrap(printable(remarks.join(", ")), terminal.columns - indent.length - 2);
    const under = wrapped.map((text, line) => indent + paint(terminal, "dim", `${line === 0 ? "└" : " "} ${text}`));
    return [[namespace, workload, name, painted, ...rest].join(""), under].flat();
  });
  return [paint(terminal, "bold", pad(headings).join("")), ...lines, ""];
}

function remarksUnder(container: ContainerFinding): string[] {
  const texts = [describeShare(container), describeRelease(container.release), ...remarksOf(container)];
  return texts.filter((text) => text !== "");
}

function cellsOf(workload: WorkloadName, container: ContainerFinding): string[] {
  const { name, verdict } = container;
  const owner = `${workload.kind}/${workload.name}`;
  return [
    workload.namespace,
    owner,
    name,
    verdict.kind,
    digestsOf(verdict),
    shortenImage(describeImage(container)),
  ].map(printable);
}

function digestsOf(verdict: ContainerVerdict): string {
  if (verdict.kind === "current") return shortenDigest(verdict.resolved);
  if (verdict.kind !== "outdated") return "-";
  return `${shortenDigest(verdict.running)} → ${shortenDigest(verdict.resolved)}`;
}

// To twelve digits, as Docker does: enough to tell two digests apart.
function shortenDigest(digest: string): string {
  return digest.replace(/^sha256:([a-f0-9]{12}).*$/, "$1");
}

function shortenImage(image: string): string {
  return image.replaceAll(/(@sha256:[a-f0-9]{12})[a-f0-9]+/g, "$1");
}

// Breaks lines between words only: a URL or a digest stays whole, so that it can be copied.
function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ").filter((part) => part !== "")) {
    const longer = `${lines.at(-1) ?? ""} ${word}`;
    if (lines.length > 0 && longer.length <= Math.max(columns, minRemarkColumns)) lines.splice(-1, 1, longer);
    else lines.push(word);
  }
  return lines;
}

/** The text in a style, if the terminal has colours. */
export function paint(terminal: Terminal | undefined, style: Style, text: string): string {
  return terminal?.hasColors ? styleText(style, text, { validateStream: false }) : text;
}

/** How far a run is, as a line that fits the terminal and is overwritten by the next one. */
export function progressLine(text: string, columns: number): string {
  return `${printable(text).slice(0, columns - 3)} …`;
}
