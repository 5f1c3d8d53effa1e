/**
 * The note that figwasp leaves in the pod template with each restart: its form, and how it is read. What it means for
 * another restart is decided in figwasp.ts.
 */
import { type Digest, isDigest } from "../registry/manifest.ts";
import { isObject, parseObject } from "../text.ts";
import type { Revision } from "../kubernetes/objects.ts";
import type { ContainerVerdict, NoteEntry, OutdatedContainer } from "../verdicts.ts";

/** The annotation that holds the note. */
export const noteAnnotation = "figwasp/restarted-for";

/** `{"at": "2026-11-21T10:00:00Z", "containers": {"app": {…}}}`. */
export interface Note {
  /** The restartedAt that was written with it. */
  at: string;
  containers: Partial<Record<string, NoteEntry>>;
  /** Whether it is of an earlier form, which is a map of container to digest: `{"app": "sha256:…"}`. It tells no image
   *  and nothing of what ran. */
  isOlderForm: boolean;
}

/** What a pod template tells of restarts. */
export interface Marks {
  note: Note | undefined;
  /** What the restart annotation says, whoever wrote it. */
  restartedAt: string | undefined;
}

/** A revision, with what its pod template tells of restarts. */
export type MarkedRevision = Revision & Marks;

/** Reads the annotations of a pod template. Anything that figwasp did not write counts as no note. */
export function readMarks(annotations: Readonly<Record<string, string>>, restartAnnotation: string): Marks {
  const restartedAt = annotations[restartAnnotation];
  const written = parseObject(annotations[noteAnnotation] ?? "") ?? {};
  return { note: toNote(written) ?? toOlderNote(written, restartedAt), restartedAt };
}

/** Whether two notes are of one restart. Of the older form the containers tell, since its time is the template's. */
export function isSameNote(one: Note, other: Note): boolean {
  if (!one.isOlderForm) return one.at === other.at;
  return other.isOlderForm && JSON.stringify(one.containers) === JSON.stringify(other.containers);
}

const maxRan = 16;

/** What the note of a restart says: of each outdated container, since the rollout tries them all; and what the note
 *  before said of those that run what was wanted, which may change with the next pods, or could not be judged now.
 *  `entry`: what the note before said of the container, about the same image and digest. */
export function nextNote(
  outdated: { container: OutdatedContainer & { name: string }; entry: NoteEntry | undefined }[],
  { template: { note }, containers }: { template: Marks; containers: ReadonlyMap<string, ContainerVerdict> },
): Record<string, NoteEntry> {
  const isKept = ([name, entry]: [string, NoteEntry | undefined]) => {
    const verdict = containers.get(name);
    if (verdict?.kind === "current") return verdict.resolved === entry?.wanted;
    return verdict?.kind === "failed" || verdict?.kind === "unknown";
  };
  const kept = note && !note.isOlderForm ? Object.entries(note.containers).filter(isKept) : [];
  const entered = outdated.map(({ container, entry }) => {
    const { name, image, resolved: wanted, unclear } = container;
    const now = [container.running, ...(container.alsoRunning ?? [])];
    const before = (entry?.ran ?? []).filter((digest) => !now.includes(digest));
    const ran = [...before, ...now].slice(-Math.max(maxRan, now.length));
    const allUnclear = [...new Set([...(entry?.unclear ?? []), ...unclear])].filter((digest) => ran.includes(digest));
    return [name, { image, wanted, ran, unclear: allUnclear, try: (entry?.try ?? 0) + 1 }];
  });
  return Object.fromEntries([...kept, ...entered]) as Record<string, NoteEntry>;
}

/** The text of a note. */
export function writeNote(at: string, containers: Record<string, NoteEntry>): string {
  return JSON.stringify({ at, containers });
}

const timePattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/; // of toTime
const maxDigests = 1000; // a digest for each node, at most

function toNote({ at, containers }: Record<string, unknown>): Note | undefined {
  if (typeof at !== "string" || !timePattern.test(at) || !isObject(containers)) return undefined;
  const entries = Object.entries(containers).flatMap(([name, value]): [string, NoteEntry][] => {
    const entry = toEntry(value);
    return entry ? [[name, entry]] : [];
  });
  return { at, containers: Object.fromEntries(entries), isOlderForm: false };
}

// Undefined for anything that figwasp did not write. Nothing else is taken over into the next note.
function toEntry(value: unknown): NoteEntry | undefined {
  if (!isObject(value)) return undefined;
  const { image, wanted, ran, unclear, try: tries } = value;
  const isWhole = typeof image === "string" && isDigest(wanted) && areDigests(ran) && areDigests(unclear);
  if (!isWhole || typeof tries !== "number" || !Number.isSafeInteger(tries) || tries < 1) return undefined;
  return { image, wanted, ran, unclear, try: tries };
}

function areDigests(value: unknown): value is Digest[] {
  return Array.isArray(value) && value.length <= maxDigests && value.every(isDigest);
}

// Its time is in whatever zone kubectl was, and anybody's word.
function toOlderNote(written: Record<string, unknown>, restartedAt = ""): Note | undefined {
  const at = /^\d{4}-\d\d-\d\dT[\d:.+Z-]{1,20}$/.test(restartedAt) ? restartedAt : "";
  const digests = Object.entries(written).filter((entry): entry is [string, Digest] => isDigest(entry[1]));
  const containers = Object.fromEntries(
    digests.map(([name, wanted]) => [name, { image: "", wanted, ran: [], unclear: [], try: 1 }]),
  );
  return digests.length === 0 ? undefined : { at, containers, isOlderForm: true };
}
