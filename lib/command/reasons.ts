/**
 * Reasons of a verdict that take more than a few words. When each applies is decided in figwasp.ts.
 */
import type { FieldManager, Pod, WorkloadName } from "../kubernetes/objects.ts";
import { quote, toTime } from "../text.ts";
import type { NoteEntry, OutdatedContainer, WorkloadVerdict } from "../verdicts.ts";

type NamedOutdated = OutdatedContainer & { name: string };

/** Why a container is unknown that was restarted, and whose pods may run an image that the tag still has. */
export function describeUnclear({ name, running, resolved, isAbsent }: NamedOutdated): string {
  const shared = "an older index with some of the same images: the nodes may know one by either name";
  const expired = "which the registry no longer has: the nodes may know the same image by that name";
  return `${name} was restarted for ${resolved}, and its pods run ${running}, ${isAbsent ? expired : shared}`;
}

/** Why a manifest and an index cannot be compared. */
export const untoldPlatform =
  "the tag has changed between one image and an index, and the image does not tell its platform";
/** Why two indexes cannot be compared. */
export const noCommonPlatform = "the tag has no image for any platform of what runs";

/** Why an index that has gained or lost a platform cannot be compared. */
export function describeGained(platform: string): string {
  return `the tag has an image for ${platform} that a node may take in place of what it runs`;
}

const latestTimeMs = 8.64e15; // that a Date can hold

/** The verdict where a restart has not helped. The next try is due at `nextTryMs`; never if that is no time. */
export function toNotConverged(stuck: {
  container: NamedOutdated;
  entry: NoteEntry;
  at: string;
  nextTryMs: number;
}): WorkloadVerdict {
  const { container, entry, at, nextTryMs } = stuck;
  const nextTryAt = nextTryMs <= latestTimeMs ? toTime(new Date(nextTryMs)) : undefined;
  const reason = describeStuck(container, { restartedAt: at, nextTryAt });
  return { kind: "not converged", reason, try: entry.try, ...(nextTryAt !== undefined && { nextTryAt }) };
}

// The likeliest cause first: if the registry does not have what the nodes pulled, they know it by another name.
function describeStuck(
  { name, running, resolved, isAbsent }: NamedOutdated,
  { restartedAt, nextTryAt }: { restartedAt: string; nextTryAt: string | undefined },
): string {
  const mirror = "they pull through a mirror or cache that still serves an older image";
  const proxy = "a proxy rewrites the image, or the nodes know it by another repository's name";
  const likely = isAbsent ? `${proxy}; or ${mirror}` : `${mirror}; or ${proxy}`;
  const next = nextTryAt === undefined ? "no further try" : `next try after ${nextTryAt}`;
  return (
    `${name} was restarted for ${resolved} at ${restartedAt || "a time that no note tells"}, ` +
    `and its pods run ${running}. Likely ${likely}. ` +
    "Mount the nodes' certs.d folder as FIGWASP_CERTS_DIR to ask where they ask, set FIGWASP_RETRY_INTERVAL, or " +
    `restart it by hand; ${next}`
  );
}

/** Why a container that its owner's annotation does not name is skipped. */
export const unnamed = "not among the containers that its annotation figwasp/containers names";
/** Why a container that only the pods have is skipped. */
export const injected = "not in the pod template: what injects it decides about its image";

/** Which pod of an older template holds a rollout up, and what to do; undefined if none does. */
export function describeBlocker(pod: Pod | undefined): string | undefined {
  if (pod?.unreadySinceMs === undefined) return undefined;
  const since = toTime(new Date(pod.unreadySinceMs));
  const holdsUp = `pod ${pod.name} of an older template has not been ready since ${since} and holds the rollout up`;
  return `${holdsUp}: ${pod.isTerminating ? "it does not end, look at its node" : "mend or delete it"}`;
}

/** Why a container is not restarted for a digest again: the template has gone back to what it was before. */
export function describeTakenBack(
  { container, at, revision }: { container: NamedOutdated; at: string; revision: number },
  managers: FieldManager[],
): string {
  const { name, resolved } = container;
  const when = `at ${at} (revision ${revision})`;
  return (
    `${name} was restarted for ${resolved} ${when}, ` +
    `and ${describeWriter(managers, at)} took that back: ${untilMoved}`
  );
}

/** The same of a restart that was gone from the template by the end of the run. */
export function describeTakenBackAtOnce(
  { outdated, at }: { outdated: Record<string, string>; at: string },
  managers: FieldManager[],
): string {
  const what = Object.entries(outdated).map(([name, digest]) => `${name} was restarted for ${digest}`);
  return `${what.join(", ")} at ${at}, and ${describeWriter(managers, at)} took that back at once: ${untilMoved}`;
}

const untilMoved = "it is not restarted for that digest again, until the tag moves or somebody restarts it";

// Who only removes fields, as an undo does, leaves no trace but that they are gone.
function describeWriter(managers: FieldManager[], at: string): string {
  const [latest] = managers;
  if (!latest?.name) return "somebody";
  if (latest.atMs > Date.parse(at)) return latest.name; // times are whole seconds: what is of the same one may be older
  return `somebody (its template belongs to field manager ${latest.name})`;
}

/** Why a workload is skipped that its owner has paused. */
export function describePaused({ kind, name }: WorkloadName): string {
  return `paused by its label figwasp/paused: kubectl label ${kind}/${name} figwasp/paused- ends that`;
}

/** Why no registry can tell what admission would pin a fresh pod to. */
export function describeForeignPin(repository: string): string {
  return (
    `its pods are pinned to ${repository}, ` +
    "another repository than the template's: what resolved it there is not asked"
  );
}

/** Why a short name on a CRI-O node is not asked about. */
export function describeUntoldHost(image: string): string {
  return `its node does not tell from which registry it took the short name ${quote(image)}`;
}

/** Why what a CRI-O node runs cannot be compared. `asked` is the image in the repository that the node reports. */
export function describeGuess(shortName: string, asked: string): string {
  const repository = asked.replace(/:[^:/]*$/, "");
  return (
    `its node took the short name ${quote(shortName)} from ${repository}, ` +
    "and that repository does not have what runs"
  );
}
