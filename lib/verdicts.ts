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
  /** The image that the registry was asked about. */
  image: string;
  running: Digest;
  /** Further outdated digests that its pods run; absent if they all run the same. */
  alsoRunning?: Digest[];
  /** What the tag points to now. */
  resolved: Digest;
  /** Names of the pods that run an outdated digest. */
  pods: string[];
  /** Whether the repository no longer has the running digest. */
  isAbsent: boolean;
  /** Whether each outdated digest is one of `unclear`. */
  isPartial: boolean;
  /** Outdated digests that cannot be read, or of which the tag has some images: a pod's own may be among them. */
  unclear: Digest[];
  /** Why the registry did not tell about a further digest that its pods run; absent if it told about all. */
  failure?: Error;
}

export type WorkloadVerdict =
  | ToRestart
  /** `try`: how many restarts were made for this; `nextTryAt`: absent if no further one will be made by itself. */
  | { kind: "not converged"; reason: string; try?: number; nextTryAt?: string }
  | { kind: "taken back" | "waiting" | "skipped" | "unknown"; reason: string }
  | { kind: "failed"; error: Error }
  /** `notStarted`: how many of its pods have not started; absent if all have. */
  | { kind: "current"; notStarted?: number };

/** To be restarted, until the restart is made. */
export interface ToRestart {
  kind: "restarted";
  /** By container name: the digest that it is restarted for. */
  outdated: Record<string, Digest>;
  /** By container name: what the note says of it. */
  note?: Record<string, NoteEntry>;
  /** Names of containers that were restarted for this before and take part in a restart for another one. */
  repeated?: string[];
  /** The restart as it was made; absent before. */
  made?: { at: string; previousVersion: string };
  isRolledOut?: true;
}

/** What figwasp notes of a container that it restarts. */
export interface NoteEntry {
  /** The image that the registry was asked about. */
  image: string;
  /** What its tag pointed to. */
  wanted: Digest;
  /** The outdated digests that its pods ran, also before earlier restarts for the same digest. */
  ran: Digest[];
  /** Those of `ran` that could not be read, or shared images with the tag. */
  unclear: Digest[];
  /** How many restarts were made for this digest. */
  try: number;
}

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
  /** Set if its controller keeps no older revisions: an undo of a restart cannot be remembered then. */
  keepsNoRevisions?: true;
}

/** What was found of one container of a workload. */
export interface ContainerFinding {
  name: string;
  /** As the pod template names it. */
  image: string;
  /** The image that the registry was asked about, if it is another one. */
  asked?: string | undefined;
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
  verdict: ToRestart;
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

/** One verdict for all pods. The first is the one to name: a digest that shares no image with the tag is surely
 *  outdated. */
export function joinOutdated(first: OutdatedContainer, all: OutdatedContainer[]): OutdatedContainer {
  const others = new Set(all.map(({ running }) => running).filter((running) => running !== first.running));
  const unclear = [...new Set(all.flatMap((each) => each.unclear))];
  const pods = all.flatMap((each) => each.pods);
  return { ...first, ...(others.size > 0 && { alsoRunning: [...others] }), pods, unclear };
}
