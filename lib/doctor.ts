/**
 * What `figwasp doctor` says: whether figwasp could do its work here, and what to do where it could not.
 */
import type { Finding } from "../figwasp.ts";
import type { Right } from "./rbac.ts";
import { describeContainer, reasonOf, subjectOf } from "./report.ts";
import { paint, type Terminal } from "./terminal.ts";
import { printable } from "./transport.ts";

/** What was looked at, without changing anything. */
export interface Diagnosis {
  rights: { right: Right; isGranted: boolean }[];
  /** Of a dry run. */
  findings: Finding[];
  notes: string[];
  /** How far this clock is ahead of the API server's, in milliseconds; undefined if that told no time. */
  aheadMs: number | undefined;
}

interface Check {
  /** Whether it is as it should be; undefined where that cannot be told, or does not matter. */
  isWell: boolean | undefined;
  found: string;
  advice?: string | undefined;
}

const skewLimitMs = 60_000; // tokens are dated

/** Every check on a line, then what to do; and whether all is well. */
export function diagnose(diagnosis: Diagnosis, terminal?: Terminal): { lines: string[]; isWell: boolean } {
  const parts: [string, Check[]][] = [
    ["Rights", diagnosis.rights.map(checkRight)],
    ["Images and their registries", checkFindings(diagnosis.findings)],
    ["Clock", [checkClock(diagnosis.aheadMs)]],
    ["Beside it", diagnosis.notes.map((note) => ({ isWell: undefined, found: note }))],
  ];
  const checks = parts.flatMap(([, part]) => part);
  const titled = (title: string, lines: string[]) => [paint(terminal, "bold", title), ...lines];
  const lines = parts.flatMap(([title, part]) => {
    const found = part.map((check) => lineOf(check, terminal));
    return found.length > 0 ? titled(title, found) : [];
  });
  const advice = [...new Set(checks.flatMap((check) => check.advice ?? []))];
  const end = advice.map((what, at) => `  ${at + 1}. ${printable(what)}`);
  const closing = end.length > 0 ? titled("What to do", end) : titled("All is well: there is nothing to do", []);
  return { lines: [...lines, ...closing], isWell: checks.every(({ isWell }) => isWell !== false) };
}

function lineOf({ isWell, found }: Check, terminal: Terminal | undefined): string {
  const mark = isWell === undefined ? "--" : isWell ? paint(terminal, "green", "ok") : paint(terminal, "red", "NO");
  return `  ${mark}  ${printable(found)}`;
}

function checkRight({ right, isGranted }: Diagnosis["rights"][number]): Check {
  const { verb, resource, name, namespace, isOptional } = right;
  const what = `${resource}${name === undefined ? "" : `/${name}`}`;
  const found = `${verb} ${what} in ${namespace ?? "all namespaces"}`;
  if (isGranted) return { isWell: true, found };
  if (isOptional !== undefined) return { isWell: undefined, found: `${found}: not granted, ${isOptional}` };
  return { isWell: false, found, advice: `Grant what is missing: figwasp rbac prints the Role` };
}

function checkFindings(findings: Finding[]): Check[] {
  if (findings.length > 0) return findings.flatMap(checkFinding);
  const advice = "Name a workload, or label it: kubectl label deployment/my-app figwasp/target=true";
  return [{ isWell: false, found: "no workload was found", advice }];
}

function checkFinding({ of, verdict, containers }: Finding): Check[] {
  const subject = subjectOf(of);
  if (containers.length === 0 && verdict.kind !== "current" && verdict.kind !== "restarted") {
    const isWell = verdict.kind === "failed" ? false : undefined;
    const found = `${subject}: ${verdict.kind}, ${reasonOf(verdict)}`;
    return [{ isWell, found, advice: isWell === false ? `See to ${subject}: ${reasonOf(verdict)}` : undefined }];
  }
  const checks = containers.map((container): Check => {
    const { name, image, verdict: own } = container;
    const found = `${subject}, container ${name} (${image}): ${describeContainer(container)}`;
    if (own.kind === "current" || own.kind === "outdated") return { isWell: true, found };
    if (own.kind === "unknown") return { isWell: undefined, found };
    // Pinned is as its owner wants it; a pull policy that does not pull is not what a mutable tag wants.
    const isMeant = own.kind === "skipped" && !own.reason.startsWith("imagePullPolicy");
    if (isMeant) return { isWell: undefined, found };
    return { isWell: false, found, advice: `See to container ${name} of ${subject}: ${reasonOf(own)}` };
  });
  if (verdict.kind !== "not converged") return checks;
  return [
    ...checks,
    { isWell: false, found: `${subject}: not converged`, advice: `See to ${subject}: ${verdict.reason}` },
  ];
}

function checkClock(aheadMs: number | undefined): Check {
  if (aheadMs === undefined) return { isWell: undefined, found: "the API server tells no time" };
  const seconds = Math.round(Math.abs(aheadMs) / 1000);
  const found =
    seconds < 2 ? "as the API server's" : `${seconds} s ${aheadMs > 0 ? "ahead of" : "behind"} the API server's`;
  const isWell = Math.abs(aheadMs) <= skewLimitMs;
  return {
    isWell,
    found,
    advice: isWell ? undefined : "Set this clock: tokens are refused that seem too old or not valid yet",
  };
}
