/**
 * Prints the measurements as a table and as a plot.
 */
import { readFile, writeFile } from "node:fs/promises";
import { format, resolveConfig } from "prettier";
import { plot } from "./plot.ts";
import type { Cost, Counts } from "./stage.ts";

/** The runs of one program, and those of `node -e 0` that alternated with them. */
export interface Measured {
  /** 0: the program was only started. */
  pods: number;
  program: string;
  costs: (Cost & Counts)[];
  base: Cost[];
}

/** The table in Markdown. */
export function tableOf(measured: Measured[]): string {
  const head = ["", "program", "CPU ×", "wall ×", "peak MiB", "API reads", "HEADs", "tokens", "TLS handshakes", "runs"];
  const rows = measured.map(({ pods, program, costs, base }) => {
    const times = (kind: "cpuMs" | "wallMs") => spreadOf(costs.map((cost) => cost[kind] / medianOf(base, kind)));
    const counts = (["reads", "heads", "tokens", "handshakes"] as const).map((kind) =>
      Math.round(medianOf(costs, kind)),
    );
    const memory = spreadOf(costs.map(({ peakMiB }) => peakMiB));
    return [describeSize(pods), program, times("cpuMs"), times("wallMs"), memory, ...counts, costs.length];
  });
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** `start-up`, `1 pod`, `1 000 pods`. */
export function describeSize(pods: number): string {
  if (pods === 0) return "start-up";
  return `${pods.toLocaleString("en").replace(",", " ")} ${pods === 1 ? "pod" : "pods"}`;
}

/** `2.4 (2.3 to 2.6)`: the median, and the interquartile range. */
function spreadOf(values: number[]): string {
  const [low, middle, high] = [0.25, 0.5, 0.75].map((part) => {
    const value = quantile(values, part);
    return value < 10 ? value.toFixed(1) : value.toFixed(0);
  });
  return `${middle} (${low} to ${high})`;
}

function medianOf<Kind extends string>(costs: Record<Kind, number>[], kind: Kind): number {
  return quantile(
    costs.map((cost) => cost[kind]),
    0.5,
  );
}

function quantile(values: number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = part * (sorted.length - 1);
  const [low = NaN, high = low] = sorted.slice(Math.floor(at));
  return low + (high - low) * (at % 1);
}

/** Replaces the table in bench/README.md and the plot beside it. */
export async function writePage(measured: Measured[]): Promise<void> {
  const file = new URL("README.md", import.meta.url);
  const bases = measured.flatMap(({ base }) => base);
  const scale = `\`node -e 0\` took ${medianOf(bases, "cpuMs").toFixed(0)} ms of CPU and ${medianOf(bases, "peakMiB").toFixed(0)} MiB; Node ${process.version}.`;
  const page = (await readFile(file, "utf8")).replace(
    /(<!-- table -->\n).*?(<!-- end of table -->)/s,
    (_all, start: string, end: string) => `${start}\n${scale}\n\n${tableOf(measured)}\n\n${end}`,
  );
  const options = (await resolveConfig(file.pathname)) ?? {};
  await writeFile(file, await format(page, { ...options, parser: "markdown" }));

  const linesOf = (valueOf: (each: Measured) => number) => {
    const sized = measured.filter(({ pods }) => pods > 0);
    const byProgram = Map.groupBy(sized, ({ program }) => program);
    return Array.from(byProgram, ([name, all]) => {
      return { name, points: all.map((each): [number, number] => [each.pods, valueOf(each)]) };
    });
  };
  const cpu = linesOf(({ costs, base }) => medianOf(costs, "cpuMs") / medianOf(base, "cpuMs"));
  const memory = linesOf(({ costs }) => medianOf(costs, "peakMiB"));
  const panels = [
    { title: "CPU, times that of node -e 0", lines: cpu },
    { title: "peak memory, MiB", lines: memory },
  ];
  await writeFile(new URL("cost.svg", import.meta.url), plot(panels, "pods"));
}
