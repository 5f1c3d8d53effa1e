/**
 * What `figwasp doctor` says: whether figwasp could do its work here, and what to do where it could not.
 */
import { STATUS_CODES } from "node:http";
import type { Finding } from "../../figwasp.ts";
import { HttpError, statusOf } from "../http/transport.ts";
import { describeQuota, isForNodes, type Quota } from "../registry/limits.ts";
import type { Visit } from "../registry/registry.ts";
import { printable } from "../text.ts";
import type { Right } from "./rbac.ts";
import { describeContainer, describeReason, subjectOf } from "./report.ts";
import { paint, type Terminal } from "./terminal.ts";

/** What was looked at, without changing anything. */
export interface Diagnosis {
  rights: { right: Right; isGranted: boolean }[];
  /** Of a dry run. */
  findings: Finding[];
  visits: Visit[];
  /** By host. */
  quotas: ReadonlyMap<string, Quota>;
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
    ["Images", checkFindings(diagnosis.findings)],
    ["Registries", [...diagnosis.visits.map(checkVisit), ...[...diagnosis.quotas].map(checkQuota)]],
    ["Clock", [checkClock(diagnosis.aheadMs)]],
    ["Beside it", diagnosis.notes.map((note) => ({ isWell: undefined, found: note }))],
  ];
  const checks = parts.flatMap(([, part]) => part);
  const titled = (title: string, lines: string[]) => [paint(terminal, "bold", title), ...lines];
  const lines = parts.flatMap(([title, part]) => {
    // Repositories of one host are mostly met in the same way.
    const found = [...new Set(part.map((check) => lineOf(check, terminal)))];
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
  return {
    isWell: false,
    found,
    advice: "Grant what is missing: figwasp rbac prints the Role, for kubectl apply -f -",
  };
}

function checkFindings(findings: Finding[]): Check[] {
  if (findings.length > 0) return findings.flatMap(checkFinding);
  const advice = "Name a workload, or label it: kubectl label deployment/my-app figwasp/target=true";
  return [{ isWell: false, found: "no workload was found", advice }];
}

function checkFinding({ of, verdict, containers }: Finding): Check[] {
  const subject = subjectOf(of);
  if (containers.length === 0 && verdict.kind !== "current" && verdict.kind !== "restarted") {
    const found = `${subject}: ${verdict.kind}, ${describeReason(verdict)}`;
    if (verdict.kind !== "failed") return [{ isWell: undefined, found }];
    const isLost = statusOf(verdict.error.cause) === 404;
    const advice = isLost
      ? `Name what is there in place of ${subject}`
      : `See to ${subject}: ${describeReason(verdict)}`;
    return [{ isWell: false, found, advice }];
  }
  const checks = containers.map((container): Check => {
    const { name, image, verdict: own } = container;
    const found = `${subject}, container ${name} (${image}): ${describeContainer(container)}`;
    if (own.kind === "current" || own.kind === "outdated") return { isWell: true, found };
    if (own.kind === "unknown") return { isWell: undefined, found };
    // Pinned is as its owner wants it; a pull policy that does not pull is not what a mutable tag wants.
    const isMeant = own.kind === "skipped" && image.includes("@");
    if (isMeant) return { isWell: undefined, found };
    const advice = own.kind === "failed" ? adviseLookup(image, own.error) : "set its imagePullPolicy to Always";
    return { isWell: false, found, advice: `See to container ${name} of ${subject}: ${advice}` };
  });
  if (verdict.kind !== "not converged") return checks;
  return [
    ...checks,
    { isWell: false, found: `${subject}: not converged`, advice: `See to ${subject}: ${verdict.reason}` },
  ];
}

// By what the registry answered. Where the message names a setting, that is what to do.
function adviseLookup(image: string, { message, cause }: Error): string {
  if (/FIGWASP_|DOCKER_CONFIG/.test(message) || !(cause instanceof HttpError)) return message;
  switch (cause.status) {
    case undefined:
      return `let figwasp reach the registry of ${image}: by HTTPS_PROXY, a NetworkPolicy, or hosts.toml in FIGWASP_CERTS_DIR`;
    case 401:
    case 403:
      return `give its pods a pull Secret that the registry of ${image} takes: kubectl create secret docker-registry`;
    case 404:
      return `push ${image}, name another image by kubectl set image, or give its pods a pull Secret that may see it`;
    case 429:
      return `wait for the limit of the registry of ${image}, run less often, or give the pods a pull Secret with a larger one`;
    default:
      return message;
  }
}

function checkVisit({ registry, base, isMirror, found, status }: Visit): Check {
  const where = `${registry}, at ${isMirror ? "its mirror " : ""}${base}${base.startsWith("http:") ? ", plain http" : ""}`;
  const isOut = status === undefined || [401, 403, 429].includes(status) || status >= 500;
  // A mirror is passed over.
  const isWell = status === 200 ? true : isOut && !isMirror ? false : undefined;
  const answer = status === undefined || status === 200 ? "" : `, and answers ${status} ${STATUS_CODES[status] ?? ""}`;
  return { isWell, found: `${where}: ${found}${answer}` };
}

function checkQuota([host, quota]: [string, Quota]): Check {
  const found = describeQuota(host, quota);
  if (!isForNodes(quota)) return { isWell: true, found };
  const advice = `Run less often, or give the pods a pull Secret for ${host}: what remains is left to the nodes`;
  return { isWell: undefined, found, advice };
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
    advice: isWell ? undefined : "Set this clock, by NTP: tokens are refused that seem too old or not valid yet",
  };
}
