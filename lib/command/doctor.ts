/**
 * `figwasp doctor`: checks whether figwasp could do its work here, and says what to do if it could not. Changes
 * nothing.
 */
import { STATUS_CODES } from "node:http";
import { isHttpError, statusOf } from "../errors.ts";
import { describeQuota, isForNodes, type Quota } from "../registry/limits.ts";
import type { Visit } from "../registry/registry.ts";
import { printable } from "../text.ts";
import { type ContainerFinding, describeReason, describeSubject, type Finding } from "../verdicts.ts";
import type { RunContext } from "./context.ts";
import { type OptionalRight, rightsOf, toRoleScope } from "./rbac.ts";
import { describeContainer } from "./report.ts";
import { paint, type Terminal } from "./terminal.ts";

/** Everything that the doctor looks at. */
export interface Diagnosis {
  rights: { right: OptionalRight; isGranted: boolean }[];
  /** Of a dry run. */
  findings: Finding[];
  visits: Visit[];
  /** By host. */
  quotas: ReadonlyMap<string, Quota>;
  notes: string[];
  /** How far this clock is ahead of the API server's, in milliseconds; undefined if it told no time. */
  aheadMs: number | undefined;
}

interface Check {
  /** Whether it is as it should be; undefined if that cannot be told, or does not matter. */
  isWell: boolean | undefined;
  found: string;
  advice?: string | undefined;
}

/** Gathers what the doctor looks at, but for the notes of the run. */
export async function gatherDiagnosis(run: RunContext, findings: Finding[]): Promise<Omit<Diagnosis, "notes">> {
  const { cluster, registry } = run;
  const wanted = rightsOf(toRoleScope(findings, run));
  const rights = await Promise.all(wanted.map(async (right) => ({ right, isGranted: await cluster.mayI(right) })));
  const { visits, client } = registry;
  const { aheadMs } = cluster.clock;
  return { rights, findings, visits, quotas: client.quotas, aheadMs };
}

const maxSkewMs = 60_000; // token servers refuse tokens that seem too old or not valid yet

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
    // The repositories of one host mostly give the same line.
    const unique = [...new Set(part.map((check) => lineOf(check, terminal)))];
    return unique.length > 0 ? titled(title, unique) : [];
  });
  const advice = [...new Set(checks.flatMap((check) => check.advice ?? []))];
  const steps = advice.map((what, index) => `  ${index + 1}. ${printable(what)}`);
  const end = steps.length > 0 ? titled("What to do", steps) : titled("All is well: there is nothing to do", []);
  return { lines: [...lines, ...end], isWell: checks.every(({ isWell }) => isWell !== false) };
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

function checkFinding({ subject, verdict, containers }: Finding): Check[] {
  const name = describeSubject(subject);
  const isAsContainersSay = verdict.kind === "current" || verdict.kind === "restarted";
  if (containers.length === 0 && !isAsContainersSay) {
    const found = `${name}: ${verdict.kind}, ${describeReason(verdict)}`;
    if (verdict.kind !== "failed") return [{ isWell: undefined, found }];
    const isMissing = statusOf(verdict.error.cause) === 404;
    const advice = isMissing ? `Name what is there in place of ${name}` : `See to ${name}: ${describeReason(verdict)}`;
    return [{ isWell: false, found, advice }];
  }
  const checks = containers.map((container) => checkContainer(name, container));
  if (verdict.kind !== "not converged") return checks;
  const advice = `See to ${name}: ${verdict.reason}`;
  return [...checks, { isWell: false, found: `${name}: not converged`, advice }];
}

function checkContainer(workload: string, container: ContainerFinding): Check {
  const { name, image, verdict } = container;
  const found = `${workload}, container ${name} (${image}): ${describeContainer(container)}`;
  const adviseTo = (what: string): Check => {
    return { isWell: false, found, advice: `See to container ${name} of ${workload}: ${what}` };
  };
  switch (verdict.kind) {
    case "current":
    case "outdated":
      return { isWell: true, found };
    case "unknown":
      return { isWell: undefined, found };
    case "skipped":
      // A pinned image is as its owner wants it. A pull policy that does not pull does not fit a mutable tag.
      return image.includes("@") ? { isWell: undefined, found } : adviseTo("set its imagePullPolicy to Always");
    case "failed":
      return adviseTo(adviseLookup(image, verdict.error));
    default:
      return verdict satisfies never;
  }
}

// The advice follows from what the registry answered. If the message names a setting already, it is the advice.
function adviseLookup(image: string, { message, cause }: Error): string {
  if (/FIGWASP_|DOCKER_CONFIG/.test(message) || !isHttpError(cause)) return message;
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
  // A mirror that does not answer is skipped, so it is no trouble.
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
  const isWell = Math.abs(aheadMs) <= maxSkewMs;
  return {
    isWell,
    found,
    advice: isWell ? undefined : "Set this clock, by NTP: tokens are refused that seem too old or not valid yet",
  };
}
