import type { Spent } from "./waits.ts";

/** A scenario that has ended. */
export interface Ended {
  name: string;
  /** The file and line, such as `features/1-moved-tag.feature:11`. */
  place: string;
  seconds: number;
  /** The times are in milliseconds. */
  spent: Spent;
}

export interface RunTimes {
  /** The steps of making and deleting what all scenarios share. */
  steps: { name: string; seconds: number }[];
  scenarios: Ended[];
  /** The time from the start of the first scenario to the end of the last. */
  scenariosSeconds: number;
  /** The time from the start of the process to the end of the run. */
  runSeconds: number;
  workers: number;
}

const slowest = 10;
const estimated = 150;

/** Says in lines where the time of a run went. */
export function summarize({ steps, scenarios, scenariosSeconds, runSeconds, workers }: RunTimes): string[] {
  const sum = scenarios.reduce((before, { seconds }) => before + seconds, 0);
  const sorted = scenarios.toSorted((one, other) => other.seconds - one.seconds).slice(0, slowest);
  const lines = [
    `The run took ${inWords(runSeconds)}, its ${scenarios.length} scenarios ${inWords(scenariosSeconds)}`,
    ...steps.map(({ name, seconds }) => `${inColumn(seconds)}  ${name}`),
    `The ${sorted.length} slowest scenarios, and what they spent most of it with`,
    ...sorted.map(
      ({ name, place, seconds, spent }) => `${inColumn(seconds)}  ${name} (${place}): ${described(spent, 3)}`,
    ),
    `All scenarios together: ${inWords(sum)}, which ${workers} at a time shared`,
    ...sortedSpent(total(scenarios)).map(([kind, ms]) => `${inColumn(ms / 1000)}  ${kind}`),
  ];
  // A few scenarios do not show how long many would take.
  if (scenarios.length < 3 * workers) return lines;
  const rest = runSeconds - scenariosSeconds;
  const estimate = rest + (scenariosSeconds * estimated) / scenarios.length;
  return [...lines, `An estimate for ${estimated} scenarios like these: ${inWords(estimate)}`];
}

function total(scenarios: Ended[]): Spent {
  const sums: Spent = {};
  for (const { spent } of scenarios) for (const [kind, ms] of sortedSpent(spent)) sums[kind] = (sums[kind] ?? 0) + ms;
  return sums;
}

function sortedSpent(spent: Spent): [keyof Spent, number][] {
  const entries = Object.entries(spent) as [keyof Spent, number][];
  return entries.toSorted(([, one], [, other]) => other - one);
}

function described(spent: Spent, most: number): string {
  const parts = sortedSpent(spent).slice(0, most);
  return parts.map(([kind, ms]) => `${kind} ${(ms / 1000).toFixed(1)} s`).join(", ") || "nothing that is counted";
}

function inColumn(seconds: number): string {
  return `${seconds.toFixed(1).padStart(8)} s`;
}

function inWords(seconds: number): string {
  return seconds < 120 ? `${seconds.toFixed(1)} s` : `${(seconds / 60).toFixed(1)} min`;
}
