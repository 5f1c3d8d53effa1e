/**
 * `figwasp doctor`: checks whether figwasp could do its work here, and says what to do if it could not. Changes
 * nothing.
 */
import { STATUS_CODES } from "node:http";
import { isHttpError, statusOf } from "../errors.ts";
import { describeQuota, isForNodes, type Quota } from "../registry/limits.ts";
import type { Visit } from "../registry/registry.ts";
import { printable } from "../text.ts";
import { type ContainerFinding, describeSubject, type Finding, type Subject } from "../verdicts.ts";
import type { RunContext } from "./context.ts";
import { nodesRight } from "./nodes.ts";
import { type OptionalRight, rightsOf, toRoleScope } from "./rbac.ts";
import { describeContainer, describeImage, describeWorkload } from "./report.ts";
import { paint, type Terminal } from "./terminal.ts";

/** Everything that the doctor looks at. */
export interface Diagnosis {
  rights: { right: OptionalRight; isGranted: boolean }[];
  /** Of a dry run. */
  findings: Finding[];
  /** With which a run would end that found this. */
  exitCode: number;
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

/** Gathers what the doctor looks at, but for what the run tells at its end. */
export async function gatherDiagnosis(
  run: RunContext,
  findings: Finding[],
): Promise<Omit<Diagnosis, "notes" | "exitCode">> {
  const { cluster, registry } = run;
  const wanted = [...rightsOf(toRoleScope(findings, run)), nodesRight];
  const rights = await Promise.all(wanted.map(async (right) => ({ right, isGranted: await cluster.mayI(right) })));
  const { visits, client } = registry;
  const { aheadMs } = cluster.clock;
  return { rights, findings, visits, quotas: client.quotas, aheadMs };
}

const maxSkewMs = 60_000; // token servers refuse tokens that seem too old or not valid yet

/** Every check on a line, then what to do; and whether all is well. */
export function diagnose(diagnosis: Diagnosis, terminal?: Terminal): { lines: string[]; isWell: boolean } {
  const looked: [string, Check[]][] = [
    ["Rights", diagnosis.rights.map(checkRight)],
    ["Images", checkFindings(diagnosis.findings)],
    ["Registries", [...diagnosis.visits.map(checkVisit), ...[...diagnosis.quotas].map(checkQuota)]],
    ["Clock", [checkClock(diagnosis.aheadMs)]],
    ["Beside it", diagnosis.notes.map((note) => ({ isWell: undefined, found: note }))],
  ];
  const isExplained = diagnosis.exitCode === 0 || looked.some(([, part]) => part.some(isTrouble));
  const parts = isExplained ? looked : [...looked, unexplained];
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
  return { lines: [...lines, ...end], isWell: !checks.some(isTrouble) };
}

function isTrouble({ isWell }: Check): boolean {
  return isWell === false;
}

// All is never well if a run would fail.
const unexplained: [string, Check[]] = [
  "The run",
  [
    {
      isWell: false,
      found: "it would end with exit code 1",
      advice: "Run figwasp with --dry-run for the same workloads: its lines say why",
    },
  ],
];

function lineOf({ isWell, found }: Check, terminal: Terminal | undefined): string {
  const mark = isWell === undefined ? "--" : isWell ? paint(terminal, "green", "ok") : paint(terminal, "red", "NO");
  return `  ${mark}  ${printable(found)}`;
}

function checkRight({ right, isGranted }: Diagnosis["rights"][number]): Check {
  const { verb, resource, name, namespace, isOptional } = right;
  const what = `${resource}${name === undefined ? "" : `/${name}`}`;
  const where = resource === "nodes" ? "" : ` in ${namespace ?? "all namespaces"}`; // nodes are in no namespace
  const found = `${verb} ${what}${where}`;
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

function checkFinding(finding: Finding): Check[] {
  const { subject, verdict, containers, keepsNoRevisions } = finding;
  const name = describeSubject(subject);
  const checks = containers.map((container) => checkContainer(name, container));
  // What holds for one of its containers is told with that container.
  const isTold = containers.some((container) => container.verdict.kind === verdict.kind);
  return [...checks, ...(isTold ? [] : checkVerdict(finding)), ...(keepsNoRevisions ? [checkHistory(name)] : [])];
}

/** What there is to say of a workload beside its containers. */
function checkVerdict({ subject, verdict, containers }: Finding): Check[] {
  const name = describeSubject(subject);
  const found = `${name}: ${describeWorkload(verdict, true)}`;
  switch (verdict.kind) {
    case "current":
      return [];
    case "restarted":
      return (verdict.repeated ?? []).map((container) => {
        const what = `container ${container} of ${name}`;
        const before = "a restart for the same digest did not help before";
        return { isWell: false, found: `${what}: ${before}`, advice: `See to ${what}: ${before}` };
      });
    case "waiting":
    case "unknown":
    case "skipped":
      return [{ isWell: undefined, found }];
    case "failed": {
      const isMissing = containers.length === 0 && statusOf(verdict.error.cause) === 404;
      const advice = `See to ${name}: ${verdict.error.message}`;
      return [{ isWell: false, found, advice: isMissing ? `Name what is there in place of ${name}` : advice }];
    }
    case "not converged": {
      const next = verdict.nextTryAt === undefined ? "no further try" : `next try after ${verdict.nextTryAt}`;
      return [{ isWell: false, found: `${name}: not converged, ${next}`, advice: `See to ${name}: ${verdict.reason}` }];
    }
    case "taken back":
      return [{ isWell: false, found, advice: adviseTakenBack(subject) }];
    default:
      return verdict satisfies never;
  }
}

function adviseTakenBack(subject: Subject): string {
  const target = subject.kind === "list" ? subject.name : `-n ${subject.namespace} ${subject.kind}/${subject.name}`;
  const leave = `kubectl label ${target} figwasp/paused=true leaves it as it is`;
  const roll = `kubectl rollout restart ${target} runs what its tag has, unless that is taken back too`;
  return `See to ${describeSubject(subject)}: ${leave}, ${roll}`;
}

function checkHistory(workload: string): Check {
  const found = `${workload}: revisionHistoryLimit is 0, so that an undo of a restart cannot be remembered`;
  return { isWell: undefined, found, advice: `Set revisionHistoryLimit of ${workload} to 1 or more` };
}

function checkContainer(workload: string, container: ContainerFinding): Check {
  const { name, image, asked = image, verdict } = container;
  const found = `${workload}, container ${name} (${describeImage(container)}): ${describeContainer(container)}`;
  const adviseTo = (what: string): Check => {
    return { isWell: false, found, advice: `See to container ${name} of ${workload}: ${what}` };
  };
  switch (verdict.kind) {
    case "current":
      return { isWell: true, found };
    case "outdated":
      return verdict.failure ? adviseTo(adviseLookup(asked, verdict.failure)) : { isWell: true, found };
    case "unknown":
      return { isWell: undefined, found };
    case "skipped":
      // A pull policy that does not pull does not fit a mutable tag. What else is skipped is as its owner wants it.
      if (verdict.reason.startsWith("imagePullPolicy is ")) return adviseTo("set its imagePullPolicy to Always");
      return { isWell: undefined, found };
    case "failed":
      return adviseTo(adviseLookup(asked, verdict.error));
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
