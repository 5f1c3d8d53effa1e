/**
 * What a person at a terminal sees: the findings as a table with short digests, and meanwhile how far the run is.
 */
import { styleText } from "node:util";
import type { Finding } from "../../figwasp.ts";
import type { Named } from "../kubernetes/objects.ts";
import { printable } from "../text.ts";
import type { Output } from "./config.ts";
import {
  closingLines,
  describeRelease,
  describeWorkload,
  remarksOf,
  type Report,
  shareOf,
  subjectOf,
  toDocument,
} from "./report.ts";

export interface Terminal {
  /** Its width in characters. */
  columns: number;
  /** Whether it shows them, and nobody asked for none (NO_COLOR). */
  hasColors: boolean;
}

type Container = Finding["containers"][number];
type Style = Parameters<typeof styleText>[0];
type Verdict = Finding["verdict"]["kind"] | Container["verdict"]["kind"];

const styles: Record<Verdict, Style> = {
  current: "green",
  restarted: ["green", "bold"],
  outdated: "yellow",
  waiting: "yellow",
  unknown: "magenta",
  skipped: "dim",
  failed: "red",
  "not converged": "red",
};

const headings = ["NAMESPACE", "WORKLOAD", "CONTAINER", "VERDICT", "DIGEST", "IMAGE"];
const gap = 2;
const narrowest = 40; // of a remark; a terminal breaks what is longer

/** What a run ends with: one JSON document, the table where there is a terminal, or what the log has not told yet. */
export function closing(report: Report, output: Output, terminal: Terminal | undefined): string[] {
  if (output === "json") return [JSON.stringify(toDocument(report), undefined, 2)];
  return terminal ? drawTable(report, terminal) : closingLines(report);
}

/** A row for each container and, under it, what its verdict rests on; then what the log of a pod ends with. */
export function drawTable(report: Report, terminal: Terminal): string[] {
  const { findings, isDryRun } = report;
  const workloads = findings.map(({ of, verdict }) => {
    const [word = "", ...reason] = printable(describeWorkload(verdict, isDryRun)).split(", ");
    return [`${printable(subjectOf(of))}: ${paint(terminal, styles[verdict.kind], word)}`, ...reason].join(", ");
  });
  return [...drawContainers(findings, terminal), ...workloads, ...closingLines(report)];
}

function drawContainers(findings: Finding[], terminal: Terminal): string[] {
  const rows = findings.flatMap(({ of, containers }) => {
    return typeof of === "string" ? [] : containers.map((container) => ({ container, cells: cellsOf(of, container) }));
  });
  if (rows.length === 0) return [];

  const all = [headings, ...rows.map(({ cells }) => cells)];
  const widths = headings.map((_, at) => all.reduce((widest, row) => Math.max(widest, row[at]?.length ?? 0), 0));
  // The last column is of images, which may be long.
  const isNarrow = widths.reduce((sum, width) => sum + gap + width, -gap) > terminal.columns;
  const pad = (row: string[]) => {
    const shown = isNarrow ? row.slice(0, -1) : row;
    return shown.map((cell, at) => (at < shown.length - 1 ? cell.padEnd((widths[at] ?? 0) + gap) : cell));
  };
  const indent = " ".repeat((widths[0] ?? 0) + (widths[1] ?? 0) + 2 * gap);
  const lines = rows.flatMap(({ container, cells }) => {
    const [namespace, workload, name, verdict = "", ...rest] = pad(cells);
    const painted = paint(terminal, styles[container.verdict.kind], verdict);
    const remarks = [...(isNarrow ? cells.slice(-1) : []), ...remarksUnder(container)];
    const wrapped = wrap(printable(remarks.join(", ")), terminal.columns - indent.length - 2);
    const under = wrapped.map((text, at) => indent + paint(terminal, "dim", `${at === 0 ? "└" : " "} ${text}`));
    return [[namespace, workload, name, painted, ...rest].join(""), under].flat();
  });
  return [paint(terminal, "bold", pad(headings).join("")), ...lines, ""];
}

function remarksUnder(container: Container): string[] {
  const { verdict } = container;
  const share = verdict.kind === "outdated" ? shareOf(verdict, container) : "";
  return [share, describeRelease(container.release), ...remarksOf(container)].filter((text) => text !== "");
}

function cellsOf(of: Named, { name, image, verdict }: Container): string[] {
  const { namespace, kind, name: workload } = of;
  return [namespace, `${kind}/${workload}`, name, verdict.kind, digestsOf(verdict), shorten(image)].map(printable);
}

function digestsOf(verdict: Container["verdict"]): string {
  if (verdict.kind === "current") return short(verdict.resolved);
  return verdict.kind === "outdated" ? `${short(verdict.running)} → ${short(verdict.resolved)}` : "-";
}

// As Docker shortens them: enough to tell two apart.
function short(digest: string): string {
  return digest.replace(/^sha256:([a-f0-9]{12}).*$/, "$1");
}

function shorten(image: string): string {
  return image.replace(/(@sha256:[a-f0-9]{12})[a-f0-9]+$/, "$1");
}

// Between words: a URL or a digest stays whole, to be copied.
function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ").filter((each) => each !== "")) {
    const longer = `${lines.at(-1) ?? ""} ${word}`;
    if (lines.length > 0 && longer.length <= Math.max(columns, narrowest)) lines.splice(-1, 1, longer);
    else lines.push(word);
  }
  return lines;
}

/** A text in a style, where the terminal has colours. */
export function paint(terminal: Terminal | undefined, style: Style, text: string): string {
  return terminal?.hasColors ? styleText(style, text, { validateStream: false }) : text;
}

/** How far a run is, as the line that is written over again and again. */
export function progressLine(text: string, columns: number): string {
  return `${printable(text).slice(0, columns - 3)} …`;
}
