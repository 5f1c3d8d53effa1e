/**
 * The note that figwasp leaves in the pod template with each restart: its form, and how it is read. What it means for
 * another restart is decided in figwasp.ts.
 */
import { type Digest, isDigest } from "../registry/manifest.ts";
import { isObject, parseObject } from "../text.ts";
import type { Revision } from "../kubernetes/objects.ts";
import type { NoteEntry } from "../verdicts.ts";

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

/** The text of a note. */
export function writeNote(at: string, containers: Record<string, NoteEntry>): string {
  return JSON.stringify({ at, containers });
}

function toNote({ at, containers }: Record<string, unknown>): Note | undefined {
  if (typeof at !== "string" || !isObject(containers)) return undefined;
  const entries = Object.entries(containers).filter((entry): entry is [string, NoteEntry] => isEntry(entry[1]));
  return { at, containers: Object.fromEntries(entries), isOlderForm: false };
}

function isEntry(value: unknown): value is NoteEntry {
  if (!isObject(value)) return false;
  const { image, wanted, ran, unclear, try: tries } = value;
  const digests = [wanted, ran, unclear].flat();
  const isWhole = typeof image === "string" && Array.isArray(ran) && Array.isArray(unclear);
  return isWhole && digests.every(isDigest) && Number.isInteger(tries) && Number(tries) > 0;
}

function toOlderNote(written: Record<string, unknown>, restartedAt = ""): Note | undefined {
  const digests = Object.entries(written).filter((entry): entry is [string, Digest] => isDigest(entry[1]));
  const containers = Object.fromEntries(
    digests.map(([name, wanted]) => [name, { image: "", wanted, ran: [], unclear: [], try: 1 }]),
  );
  return digests.length === 0 ? undefined : { at: restartedAt, containers, isOlderForm: true };
}
