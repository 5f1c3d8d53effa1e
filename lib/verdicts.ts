/**
 * The vocabulary of a run: what is said of a container, of a workload, and of the whole. figwasp.ts reaches the
 * verdicts and says when each applies; lib/command/ prints them.
 */
import type { WorkloadName } from "./kubernetes/objects.ts";
import type { Digest } from "./registry/manifest.ts";
import type { Release } from "./registry/release.ts";
import { messageOf } from "./text.ts";

/** What its pods run, against what a fresh pod would run. */
export type ContainerVerdict =
  | { kind: "current"; resolved: Digest; isEquivalent: boolean }
  | OutdatedContainer
  | { kind: "unknown"; reason: string }
  | { kind: "skipped"; reason: string }
  | { kind: "failed"; error: Error };

/** A container of which at least one pod runs another image than the tag has. */
export interface OutdatedContainer {
  kind: "outdated";
  running: Digest;
  /** Further outdated digests that its pods run; absent if they all run the same. */
  alsoRunning?: Digest[];
  /** What the tag points to now. */
  resolved: Digest;
  /** Names of the pods that run an outdated digest. */
  pods: string[];
  /** Whether the repository no longer has the running digest. */
  isAbsent: boolean;
  /** Whether the tag still has some images of what runs, so that it may be a pod's own image that did not change. */
  isPartial: boolean;
  /** Why the registry did not tell about a further digest that its pods run; absent if it told about all. */
  failure?: Error;
}

export type WorkloadVerdict =
  /** To be restarted, until the restart is made. By container name: the digest that it is restarted for. */
  | { kind: "restarted"; outdated: Record<string, Digest>; isRolledOut?: true }
  | { kind: "not converged" | "waiting" | "skipped" | "unknown"; reason: string }
  | { kind: "failed"; error: Error }
  | { kind: "current" };

/** What a finding is about: a workload, or a list of workloads that could not be read. */
export type Subject = WorkloadName | FailedList;

export interface FailedList {
  kind: "list";
  /** `deployments in shop`. */
  name: string;
}

/** What was found of one subject. */
export interface Finding {
  subject: Subject;
  verdict: WorkloadVerdict;
  /** Empty if the verdict does not rest on containers. */
  containers: ContainerFinding[];
  /** The Secrets that its pods name; absent if no pod was read. */
  pullSecrets?: string[];
}

/** What was found of one container of a workload. */
export interface ContainerFinding {
  name: string;
  /** As the pod template names it. */
  image: string;
  verdict: ContainerVerdict;
  /** How many of the pods that count have this container. */
  podCount: number;
  /** Where the credential comes from that its registry accepted: `key "ghcr.io" of Secret shop/pull`. */
  credential?: string | undefined;
  /** What the owner calls the image that the workload is restarted for. */
  release?: Release | undefined;
}

/** A finding about a workload, whose verdict is that it was restarted. */
export type Restarted = Finding & {
  subject: WorkloadName;
  verdict: Extract<WorkloadVerdict, { kind: "restarted" }>;
};

/** `deployment shop/api`, or `deployments in shop`. */
export function describeSubject(subject: Subject): string {
  return subject.kind === "list" ? subject.name : `${subject.kind} ${subject.namespace}/${subject.name}`;
}

/** The reason or error message of a verdict that has one. */
export function describeReason(verdict: { kind: "failed"; error: Error } | { kind: string; reason: string }): string {
  return "error" in verdict ? verdict.error.message : verdict.reason;
}

/** The finding that a subject could not be dealt with: `Cannot read deployment shop/api: …`. */
export function failedFinding(subject: Subject, verb: string, cause: unknown): Finding {
  const error = new Error(`Cannot ${verb} ${describeSubject(subject)}: ${messageOf(cause)}`, { cause });
  return { subject, verdict: { kind: "failed", error }, containers: [] };
}
