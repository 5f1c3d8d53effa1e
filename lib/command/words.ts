/**
 * What the owner of a workload says to figwasp, by a label and an annotation of the workload itself.
 */
import type { Pod, Workload } from "../kubernetes/objects.ts";
import { quote } from "../text.ts";
import { injected, unnamed } from "./reasons.ts";

const pausedLabel = "figwasp/paused";
/** Names the containers that are looked at. */
export const containersAnnotation = "figwasp/containers";

/** What the words are read from. The keys of both records begin with `figwasp/`. */
export type OwnedWorkload = Pick<Workload, "containers" | "isDeleted" | "ownLabels" | "ownAnnotations">;

export interface OwnerWords {
  /** Whether the workload is to be left alone, whoever selects it. */
  isPaused: boolean;
  /** Names of the containers that count; undefined if all do, or if the workload is left alone. */
  containers: Set<string> | undefined;
}

/** Reads the label `figwasp/paused` (`true` or `false`) and, unless that says to leave the workload alone, the annotation
 *  `figwasp/containers` (`app, worker`: names of containers in the pod template). Throws Error for a word that cannot be
 *  read, since its owner meant something by it: `its label figwasp/paused is "yes", true or false is needed`. Of a
 *  workload that is being deleted, nothing is read. */
export function readWords({ isDeleted, ownLabels, ownAnnotations, containers }: OwnedWorkload): OwnerWords {
  if (isDeleted) return { isPaused: false, containers: undefined };
  if (ownAnnotations[pausedLabel] !== undefined) {
    throw new Error("it has an annotation figwasp/paused, and a label of that name is needed");
  }
  if (ownLabels[containersAnnotation] !== undefined) {
    throw new Error("it has a label figwasp/containers, and an annotation of that name is needed");
  }
  // A label, since an undo of a Deployment takes away the annotations that were added since, and leaves labels.
  if (readPaused(ownLabels[pausedLabel])) return { isPaused: true, containers: undefined };
  const names = containers.map(({ name }) => name);
  return { isPaused: false, containers: readNames(ownAnnotations[containersAnnotation], names) };
}

function readPaused(word = "false"): boolean {
  if (word === "true" || word === "false") return word === "true";
  throw new Error(`its label figwasp/paused is ${quote(word)}, true or false is needed`);
}

function readNames(words: string | undefined, known: string[]): Set<string> | undefined {
  if (words === undefined) return undefined;
  const names = words.split(",").map((name) => name.trim());
  const all = known.join(", ");
  if (names.every((name) => name === "")) {
    throw new Error(`its annotation figwasp/containers names no container, one of ${all} is needed`);
  }
  const wrong = names.find((name) => !known.includes(name));
  if (wrong === undefined) return new Set(names);
  throw new Error(`its annotation figwasp/containers names ${quote(wrong)}, which is none of its containers: ${all}`);
}

/** The containers of the pod template, and those that only the pods have, such as a service mesh's. `names`: those that
 *  the owner wants to be looked at; undefined for all. */
export function containersOf({ containers }: Workload, pods: Pod[], names: ReadonlySet<string> | undefined) {
  const all = new Map<string, { name: string; image: string; exclusion: string | undefined }>();
  for (const { name, image } of containers) {
    all.set(name, { name, image, exclusion: names === undefined || names.has(name) ? undefined : unnamed });
  }
  for (const { name, image } of pods.flatMap((pod) => pod.containers)) {
    if (!all.has(name)) all.set(name, { name, image, exclusion: injected });
  }
  return [...all.values()];
}
