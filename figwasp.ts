#!/usr/bin/env node
/**
 * figwasp restarts a Kubernetes workload when its image tag has moved in the registry.
 *
 * Kubernetes starts a pod from `app:latest` and does not look at the tag again. figwasp looks once, makes the workload
 * roll if a fresh pod would run other content, and ends. This file holds every decision, in the order in which it is
 * made:
 *
 *   Vocabulary                   what can be said of a workload, and the exit code of each verdict
 *   What runs                    which pods count, and which digest each of their containers runs
 *   What a fresh pod would run   the digest that the tag resolves to now: one HEAD for each image and run
 *   What a difference means      other content, or the same images under another digest
 *   The judge                    from these facts to the verdict of a container and of its workload
 *   The memory                   whether the note of an earlier restart speaks against another one
 *   The action                   one PATCH of two pod-template annotations
 *   The run                      select, judge, restart, wait, report
 *
 * The judge takes plain data and returns plain data. How servers are asked and how findings are printed stands in
 * lib/ (docs/architecture.md). figwasp keeps no state: what it did stands in the pod template.
 */
import { mapConcurrently } from "./lib/calls.ts";
import { announce, noteImageVolumes, noteLostWords } from "./lib/command/announce.ts";
import { conclude } from "./lib/command/conclude.ts";
import { type Env, readConfig } from "./lib/command/config.ts";
import { prepare, type RunContext } from "./lib/command/context.ts";
import { exitWith, type Outside, realOutside } from "./lib/command/outside.ts";
import { isSameNote, nextNote, noteAnnotation, readMarks, writeNote } from "./lib/command/note.ts";
import type { MarkedRevision, Marks, Note } from "./lib/command/note.ts";
import { type PlatformsOf, platformsOfNodes } from "./lib/command/nodes.ts";
import * as reasons from "./lib/command/reasons.ts";
import { describeCrash, reportLines } from "./lib/command/report.ts";
import { type Selection, selectWorkloads } from "./lib/command/select.ts";
import { imagesAskedAbout, isWaitedFor, maxWorkloadsAtOnce, settleRestarts } from "./lib/command/settle.ts";
import { containersOf, readWords } from "./lib/command/words.ts";
import type { Keyring } from "./lib/credentials/keyring.ts";
import { ConfigError, ignoreIfGone, statusOf } from "./lib/errors.ts";
import { connectCluster } from "./lib/kubernetes/cluster.ts";
import { managersBeside, nameOf } from "./lib/kubernetes/objects.ts";
import type { FieldManager, Pod, PodContainer, Revision, Workload } from "./lib/kubernetes/objects.ts";
import type { OwnedObjects } from "./lib/kubernetes/owned-objects.ts";
import { hasImage, type Image, isAlone, noneIfUnreadable, readConfigs, readImages } from "./lib/registry/images.ts";
import { sharesImage, type Source, sourceOfOld, withPlatforms } from "./lib/registry/images.ts";
import { type Digest, UnreadableManifest } from "./lib/registry/manifest.ts";
import { findTaken, imagesOn } from "./lib/registry/platforms.ts";
import { isOtherRepository, isSameImage, isShortName, nameOf as repositoryOf } from "./lib/registry/reference.ts";
import { parseReference, repositoryIn, tryParse } from "./lib/registry/reference.ts";
import { type Registry, describeMissingCredential } from "./lib/registry/registry.ts";
import { messageOf, quote, toTime } from "./lib/text.ts";
import { describeSubject, failedFinding, joinOutdated } from "./lib/verdicts.ts";
import type { ContainerFinding, ContainerVerdict, Finding, NoteEntry } from "./lib/verdicts.ts";
import type { OutdatedContainer, ToRestart, WorkloadVerdict } from "./lib/verdicts.ts";

export { matchingKeys } from "./lib/credentials/keys.ts";
export { parseChallenges } from "./lib/registry/challenge.ts";
export { connectCluster, parseReference };

// --- Vocabulary ---
// The types stand in lib/verdicts.ts, since lib/command/ prints them.
export type * from "./lib/verdicts.ts";

/** The exit code that each verdict of a workload asks for; the run ends with the highest of all. */
export const exitCodes: Record<WorkloadVerdict["kind"], 0 | 1> = {
  restarted: 0, // 1 where another container failed, or was restarted for its digest before: see exitCodeOf
  "taken back": 1, // somebody undid the restart for this very digest, and decides what is next
  "not converged": 1, // a restart for this very digest did not help: somebody has to look
  failed: 1, // a lookup or the restart: refused, changed too often meanwhile, or its note taken out again
  waiting: 0, // the next run looks again
  unknown: 0, // uncertain is never an action, and never "current"
  current: 0,
  skipped: 0, // a restart would change nothing, or the workload is paused
};

// --- What runs ---
// The pods of the newest template tell which digests run, in containers, init containers and sidecars. imageID carries
// no tag, and may carry another repository's name (kubernetes/kubernetes#95385): what is asked about stands in the
// pods' spec.

/** The pods of the newest pod template, from the objects that the workload owns; none before the controller has made
 *  them.
 *  - Deployment: the pods of the ReplicaSet that carries the Deployment's own revision number.
 *  - StatefulSet: the pods whose label names the revision of its status.
 *  - DaemonSet: the pods whose label names the ControllerRevision with the highest number. Not the youngest one: an
 *    undo gives an older revision the highest number. */
export function currentPods(workload: Workload, owned: OwnedObjects): Pod[] {
  const { kind, uid, revision } = workload;
  if (kind === "deployment") {
    const newest = owned.replicaSets.find((replicaSet) => revision !== "" && replicaSet.revision === revision);
    return newest ? (owned.podsByOwner.get(newest.uid) ?? []) : [];
  }
  const newest = owned.controllerRevisions.toSorted((a, b) => a.number - b.number).at(-1);
  const hash = kind === "statefulset" ? revision : (newest?.hash ?? "");
  return (owned.podsByOwner.get(uid) ?? []).filter((pod) => hash !== "" && pod.revisionHash === hash);
}

/** The pods that count. Pods that are terminating do not, nor do pods that have ended; Evicted pods are Failed ones,
 *  and stay listed with the image that they ran (kubernetes/kubernetes#91672). */
export function countingPods(pods: Pod[]): Pod[] {
  return withoutEnded(pods).filter(({ isTerminating }) => !isTerminating);
}

function withoutEnded(pods: Pod[]): Pod[] {
  return pods.filter(({ phase }) => phase !== "Succeeded" && phase !== "Failed");
}

/** The digest that a container runs, or why its status does not tell. An image ID is the digest of the image's config;
 *  if Docker keeps its images in containerd, it is the digest of a manifest. */
export type Running = RunningDigest | { kind: "unreadable"; reason: string };
const notStarted = { kind: "unreadable", reason: "the container has not started" } as const;
type RunningDigest = { kind: "digest"; digest: Digest; isImageId: boolean; repository?: string };

/** `status.*ContainerStatuses[].imageID` → the running digest: `docker.io/library/nginx@sha256:…` from containerd and
 *  CRI-O, `docker-pullable://…` from cri-dockerd, a bare `sha256:…` or 64 hex digits for an image ID, empty before the
 *  container has started. Never throws. */
export function runningDigest(imageID: string): Running {
  if (imageID === "") return notStarted;
  const name = imageID.replace(/^[a-z][a-z0-9+.-]*:\/\//, "");
  // `kind load` and `ctr import` invent a name; its digest was never in a registry (kubernetes-sigs/kind#4184).
  const isImported = /(?:^|\/)import-\d{4}-\d{2}-\d{2}@/.test(name);
  if (isImported) return { kind: "unreadable", reason: "the image was imported into the node" };
  const [, repository, algorithm, hex] = /^(.*@)?(sha256:)?([a-f0-9]{64})$/s.exec(name) ?? [];
  const isImageId = repository === undefined;
  const isDigest = hex !== undefined && (isImageId || algorithm !== undefined);
  if (!isDigest) return { kind: "unreadable", reason: `imageID ${quote(imageID)} holds no sha256 digest` };
  return { kind: "digest", digest: `sha256:${hex}`, isImageId };
}

// --- What a fresh pod would run ---
// Admission may write another image into the pods than their template names, so the pods tell which tag to ask about.

/** What a registry is asked about the container of a pod.
 *  - image: about this one. `shortName`: what the pod names, if only its node knows which registry is meant.
 *  - nothing: no registry can tell what a fresh pod would run.
 *  `isPinned`: admission has put a digest into the pod. Another one is pulled whatever the pull policy says. */
export type Asked = { isPinned: boolean } & (
  { kind: "image"; image: string; shortName?: string } | { kind: "nothing"; reason: string }
);

/** What to ask about a pod's container, whose template names `template`. The first rule that applies decides:
 *  1. pinned by digest in the template's repository, as policy controllers do: the template's tag, which the admission
 *     of a fresh pod would resolve;
 *  2. pinned in another repository, as by OpenShift's lookup: nothing;
 *  3. a short name that CRI-O took from another host than docker.io, as its imageID tells: its tag there;
 *  4. otherwise, also for image swappers and injectors: the pod's own image. */
export function imageToAsk(template: string, { image, imageID, runtime }: PodContainer): Asked {
  const plain = { kind: "image", image, isPinned: false } as const;
  const [own, named] = [tryParse(image), tryParse(template)];
  if (!own) return plain;
  if (own.digest !== undefined) {
    if (named && repositoryOf(named) === repositoryOf(own)) return { ...plain, image: template, isPinned: true };
    return { kind: "nothing", reason: reasons.describeForeignPin(repositoryOf(own)), isPinned: true };
  }
  if (runtime === "cri-o" && isShortName(image)) {
    const { repository } = repositoryIn(imageID);
    if (repository === undefined)
      return { kind: "nothing", reason: reasons.describeUntoldHost(image), isPinned: false };
    if (tryParse(repository)?.registry !== "docker.io") {
      return { ...plain, image: `${repository}:${own.tag}`, shortName: image };
    }
  }
  return isSameImage(image, template) ? { ...plain, image: template } : plain;
}

// A fresh pod pulls what the tag points to now. One HEAD resolves it, once for each image and run. A GET follows if the
// HEAD was answered with 403, 404 or 405 or without a digest, and to explain a difference (repository.ts).
// A lookup fails if the registry did not answer with a digest in the end: no connection, no answer within the deadline,
// a certificate that is not trusted, a redirect or token server that figwasp does not follow, a hosts.toml it cannot
// use, a pull Secret that is broken, a refused login, any other status than 200. A login is tried with the credentials
// of the pods' pull Secrets that match, in the kubelet's order, and anonymously only if none matches; once a host has
// refused three credentials in this run, it gets no other one. A passing error (408, 5xx, a broken connection) is tried
// three times. A host that answers 429, or lets two deadlines pass, is not asked again in this run, and every further
// lookup there fails. So does a GET where less than a fifth of a quota is left, which is for the nodes.

/** What the registry says about a tag, and what it means that a container runs another digest.
 *  - failed: the registry did not answer about the tag.
 *  - unknown: it answered with something that cannot be read, such as a manifest of schema 1.
 *  - resolved: `digest` is what the tag points to now, `meanings` what each running digest is, compared with that one,
 *    and `credential` where the credential comes from that the registry accepted, undefined if it took none. */
export type Lookup =
  | { kind: "failed"; error: Error }
  | { kind: "unknown"; reason: string }
  | { kind: "resolved"; digest: Digest; meanings: ReadonlyMap<Digest, Meaning>; credential: string | undefined };

// --- What a difference means ---
// Two digests can stand for the same images: an index and the manifest of one of its platforms, or two indexes that
// differ only in attestations. Two images are the same if their manifests or their configs have the same digest, since
// a config names the layers and the platform. Only the node knows which platform it runs, so every platform of what
// runs counts that the tag has, too. A platform that the tag has lost does not: no node of it can get anything else,
// unless it can run the image of another one.

/** What a running digest is, compared with what the tag has:
 *  - same: the tag's own digest, the digest of one of its images, or the config of one;
 *  - equivalent: another digest, and the same images on every platform that both have;
 *  - partial: other content, and the tag has some of its images;
 *  - other: other content;
 *  - unreadable: other content as far as can be told, since its manifest cannot be read;
 *  - absent: other content as far as can be told, since no repository has it any more;
 *  - incomparable: it cannot be told whether it is other content;
 *  - failed: the registry did not answer about it. */
export type Meaning =
  | { kind: "same" | "equivalent" | "partial" | "other" | "unreadable" | "absent" }
  | { kind: "incomparable"; reason: string }
  | { kind: "failed"; error: Error };

/** Resolves the tag of an image, and compares the running digests with it. `restartedFor` is the digest that figwasp
 *  has restarted the container for. Never throws. */
export async function lookUp(registry: Registry, image: string, options: LookupOptions): Promise<Lookup> {
  const { running, restartedFor, keyring, platformsOf = async () => undefined } = options;
  const toError = (cause: unknown): Error => {
    if (cause instanceof SyntaxError) return cause; // of parseReference
    const message = messageOf(cause) + describeMissingCredential(cause, parseReference(image), keyring);
    return new Error(`Cannot resolve ${quote(image)}: ${registry.logins.redact(message)}`, { cause });
  };
  try {
    const reference = parseReference(image);
    const repository = registry.open(reference, keyring);
    const digest = await repository.resolve(reference.tag);
    const open = (name: string) => registry.open(parseReference(name), keyring);
    const source = (name = "") => sourceOfOld(repository, isOtherRepository(name, reference) ? open(name) : undefined);
    const wasActedOn = digest === restartedFor;
    const meanings = await explain(digest, running, { tag: repository, old: source, wasActedOn, platformsOf, toError });
    return { kind: "resolved", digest, meanings, credential: repository.credential };
  } catch (cause) {
    const error = toError(cause);
    return cause instanceof UnreadableManifest ? { kind: "unknown", reason: error.message } : { kind: "failed", error };
  }
}

type LookupOptions = {
  running: Running[];
  restartedFor?: Digest | undefined;
  keyring: Keyring;
  platformsOf?: PlatformsOf;
};
/** `old`: where to read what a node runs of the repository that it names. `wasActedOn`: figwasp has restarted the
 *  container for the tag's digest before. */
interface ExplainOptions {
  tag: Source;
  old: (repository: string | undefined) => Source;
  wasActedOn: boolean;
  platformsOf: PlatformsOf;
  toError: (cause: unknown) => Error;
}

async function explain(resolved: Digest, running: Running[], options: ExplainOptions): Promise<Map<Digest, Meaning>> {
  const meanings = new Map<Digest, Meaning>([[resolved, { kind: "same" }]]);
  const others = running.filter((entry) => entry.kind === "digest").filter(({ digest }) => digest !== resolved);
  if (others.length === 0) return meanings;
  const images = await readImages(resolved, options.tag);
  if (!images) throw new Error(`the repository no longer has ${resolved}`);

  for (const { digest } of images) meanings.set(digest, { kind: "same" });
  const hasImageId = others.some(({ digest, isImageId }) => isImageId && !meanings.has(digest));
  const configs = hasImageId ? await readConfigs(images) : undefined;
  for (const config of configs ?? []) meanings.set(config, { kind: "same" });
  // If one node reports a digest as an image ID and another one with its repository, it is a manifest's.
  for (const entry of others.toSorted((a, b) => Number(a.isImageId) - Number(b.isImageId))) {
    if (!meanings.has(entry.digest)) meanings.set(entry.digest, await compare(images, entry, { ...options, configs }));
  }
  return meanings;
}

async function compare(
  images: Image[],
  { digest, isImageId, repository }: RunningDigest,
  { old, wasActedOn, platformsOf, configs, toError }: ExplainOptions & { configs: Digest[] | undefined },
): Promise<Meaning> {
  const unknown: Meaning = { kind: "incomparable", reason: "its image ID cannot be compared" };
  try {
    // An image ID can be the digest of a manifest, too.
    const ran = await readImages(digest, old(repository)).catch(noneIfUnreadable);
    if (ran?.length === 0) return isImageId && !configs ? unknown : { kind: "unreadable" };
    const guess = ran && (await compareImages(images, ran, wasActedOn));
    const isPair = images.length === 1 && ran?.length === 1;
    const isSure = isPair ? guess?.kind !== "incomparable" : guess?.kind === "equivalent";
    const platforms = ran && !isSure ? await platformsOf(digest) : undefined;
    const meaning = ran && platforms ? await compareOn(platforms, { images, ran, wasActedOn }) : guess;
    if (isImageId && !configs && meaning?.kind !== "equivalent") return unknown;
    return meaning ?? { kind: isImageId ? "other" : "absent" };
  } catch (cause) {
    if (cause instanceof UnreadableManifest) throw cause; // of the tag: nothing can be compared with it
    // The trouble with one digest says nothing about another one.
    return { kind: "failed", error: toError(cause) };
  }
}

// Only the platforms of the nodes count where they are known, and of these not one that the tag has lost.
async function compareOn(
  platforms: string[],
  { images, ran, wasActedOn }: { images: Image[]; ran: Image[]; wasActedOn: boolean },
): Promise<Meaning> {
  const to = await withPlatforms(images);
  const pairs = platforms.map((each) => imagesOn(each, { to, from: ran })).filter(([taken]) => taken.length > 0);
  const meanings = await Promise.all(pairs.map((pair) => compareImages(...pair, wasActedOn)));
  const byGravity = ["other", "partial", "incomparable", "equivalent"];
  const [gravest] = meanings.toSorted((a, b) => byGravity.indexOf(a.kind) - byGravity.indexOf(b.kind));
  return gravest ?? { kind: "incomparable", reason: reasons.noCommonPlatform };
}

// Stops at the first platform whose image is another one. A manifest that stands alone does not tell its platform, and
// its config is asked for it where the other side is an index.
async function compareImages(images: Image[], ran: Image[], wasActedOn: boolean): Promise<Meaning> {
  const isMixed = isAlone(images) !== isAlone(ran);
  const [to, from] = isMixed ? [await withPlatforms(images), await withPlatforms(ran)] : [images, ran];
  let isShared = false;
  for (const image of from) {
    const candidates = to.filter(({ platform }) => !platform || !image.platform || platform === image.platform);
    if (candidates.length === 0) continue; // a platform that the tag has lost
    if (await hasImage(candidates, image)) isShared = true;
    else if (isMixed && (isAlone(to) || isAlone(from))) return { kind: "incomparable", reason: reasons.untoldPlatform };
    else return { kind: (await sharesImage(images, ran, wasActedOn)) ? "partial" : "other" };
  }
  if (!isShared) return { kind: "incomparable", reason: reasons.noCommonPlatform };
  const taken = findTaken(to, from);
  return taken ? { kind: "incomparable", reason: reasons.describeGained(taken.platform) } : { kind: "equivalent" };
}

// --- The judge ---
// Pure functions from plain data to a verdict. Uncertain is never a restart, and never "current".

/** One container of a workload, with everything that is known about it. */
export interface ContainerFacts {
  /** As the pod template names it. */
  image: string;
  /** The container in each pod that counts and has it. */
  pods: ContainerInPod[];
  /** The pod whose pull policy a fresh one would have; if absent, pods that would not pull do not count. */
  youngest?: string | undefined;
  /** What a fresh pod would be asked about, which is as for the youngest pod; the template's image if absent. */
  fresh?: Asked;
  /** What the registry says of that image. Absent if it was not asked, because the answer could not matter. */
  lookup?: Lookup | undefined;
  /** What it says of the images that older pods name instead, by image. */
  otherLookups?: ReadonlyMap<string, Lookup>;
  /** Why it is not looked at: its owner names other containers, or it is not in the template. */
  exclusion?: string | undefined;
}

/** `asked`: the template's image if absent. */
type ContainerInPod = { pod: string; pullPolicy: string; running: Running; asked?: Asked };

/** The verdict of a container, from all pods that count and have started it. The first rule that applies decides:
 *  1. skipped: not looked at; the template pins a digest; or a fresh pod would not pull, as the youngest tells by its
 *     pull policy;
 *  2. outdated: a pod runs other content, whatever is unknown about other pods;
 *  3. failed: the registry did not answer about the tag, or about a running digest;
 *  4. unknown: a pod does not tell what it runs, that cannot be compared, or no pod has the container;
 *  5. current. */
export function judgeContainer(facts: ContainerFacts): ContainerVerdict {
  const skipReason = reasonToSkip(facts);
  if (skipReason !== undefined) return skipped(skipReason);

  const pulling = facts.youngest === undefined ? facts.pods.filter(wouldPull) : facts.pods;
  const started = pulling.filter(({ running }) => running.kind === "digest" || running.reason !== notStarted.reason);
  const verdicts = (started.length > 0 ? started : pulling).map((pod) => judgePod(pod, facts));
  const outdated = verdicts.filter((verdict) => verdict.kind === "outdated");
  const failed = verdicts.find((verdict) => verdict.kind === "failed");
  const first = outdated.find(({ isPartial }) => !isPartial) ?? outdated[0];
  if (first) return { ...joinOutdated(first, outdated), ...(failed && { failure: failed.error }) };
  if (failed) return failed;
  const unknown = verdicts.find((verdict) => verdict.kind === "unknown");
  if (unknown) return unknown;
  return verdicts[0] ?? { kind: "unknown", reason: "no pod has this container" };
}

/** Why a restart would not change what the container runs, whatever the registry says; undefined if it could. */
function reasonToSkip({ image, pods, youngest, exclusion }: ContainerFacts): string | undefined {
  if (exclusion !== undefined) return exclusion;
  if (image.includes("@")) return "pinned by digest";
  const decisive = pods.find(({ pod }) => pod === youngest) ?? pods.find(wouldPull) ?? pods[0];
  if (!decisive || wouldPull(decisive)) return undefined;
  return `imagePullPolicy is ${decisive.pullPolicy}, so that a restart would not pull: set it to Always`;
}

function wouldPull({ pullPolicy, asked }: ContainerInPod): boolean {
  return pullPolicy === "Always" || asked?.isPinned === true;
}

// A pod is current if it runs what a fresh pod would, or what its own image has: where admission has changed its mind
// since, the older pods are not restarted for that. They are outdated only if neither is so.
function judgePod(pod: ContainerInPod, facts: ContainerFacts): ContainerVerdict {
  const template: Asked = { kind: "image", image: facts.image, isPinned: false };
  const { fresh = template, lookup, otherLookups } = facts;
  const { asked: own = fresh } = pod;
  const byFresh = judgeRunning(pod, fresh, lookup);
  const isAsFresh = own.kind === "image" && fresh.kind === "image" && own.image === fresh.image;
  if (byFresh.kind === "current" || isAsFresh) return byFresh;
  const byOwn = judgeRunning(pod, own, own.kind === "image" ? otherLookups?.get(own.image) : undefined);
  return byOwn.kind === "outdated" ? byFresh : byOwn;
}

function judgeRunning({ pod, running }: ContainerInPod, asked: Asked, lookup: Lookup | undefined): ContainerVerdict {
  const unknown = (reason: string) => ({ kind: "unknown", reason: `pod ${pod}: ${reason}` }) as const;
  if (running.kind === "unreadable") return unknown(running.reason);
  if (asked.kind === "nothing") return unknown(asked.reason);
  const meaning = lookup?.kind === "resolved" ? lookup.meanings.get(running.digest) : undefined;
  const isElsewhere = meaning?.kind === "absent" || (lookup?.kind === "failed" && statusOf(lookup.error.cause) === 404);
  if (asked.shortName !== undefined && isElsewhere) {
    return unknown(reasons.describeGuess(asked.shortName, asked.image));
  }
  if (lookup?.kind === "failed") return lookup;
  if (lookup?.kind === "unknown") return unknown(lookup.reason);
  if (!lookup || !meaning) return unknown("the registry was not asked");
  if (meaning.kind === "failed") return meaning;
  if (meaning.kind === "incomparable") return unknown(meaning.reason);
  const isEquivalent = meaning.kind === "equivalent";
  if (meaning.kind === "same" || isEquivalent) return { kind: "current", resolved: lookup.digest, isEquivalent };
  const { digest } = running;
  const isPartial = meaning.kind === "partial" || meaning.kind === "unreadable";
  const { image } = asked;
  // A registry that deletes what no tag points to: the nodes may know the same image by that digest.
  const named = tryParse(running.repository ?? "");
  const isExpired = meaning.kind === "absent" && named && repositoryOf(named) === repositoryOf(parseReference(image));
  const flags = { isAbsent: meaning.kind === "absent", isPartial, unclear: isPartial || isExpired ? [digest] : [] };
  return { kind: "outdated", image, running: digest, resolved: lookup.digest, pods: [pod], ...flags };
}

/** The verdict of a workload that follows from the object alone (rules 1 to 3 of judgeWorkload); undefined if its pods
 *  decide. */
export function judgeWithoutPods(workload: Workload): WorkloadVerdict | undefined {
  const { kind, isDeleted, isPaused, isOnDelete, isObserved, obstacle, replicas, partition } = workload;
  if (isDeleted) return skipped("being deleted");
  if (isPaused) return skipped("paused: kubectl rollout resume lets it roll again");
  if (isOnDelete) return skipped("its update strategy is OnDelete: delete its pods, or set RollingUpdate");
  if (!isObserved && obstacle !== undefined) return { kind: "failed", error: new Error(obstacle) };
  if (!isObserved) return { kind: "waiting", reason: "the controller has not seen the newest template yet" };
  if (replicas === 0 && kind === "daemonset") return skipped("no node wants a pod of it");
  if (replicas === 0) return skipped("scaled to zero: there is nothing to compare");
  if (partition < replicas) return undefined;
  return skipped(`its partition of ${partition} keeps all ${replicas} pods from being replaced: lower it`);
}

function skipped(reason: string): { kind: "skipped"; reason: string } {
  return { kind: "skipped", reason };
}

export interface WorkloadFacts {
  /** The pods that count. */
  pods: Pod[];
  /** Those of older templates. */
  olderPods?: Pod[];
  /** What its controller says that it cannot do. */
  obstacle?: string | undefined;
  /** By name. */
  containers: Map<string, ContainerVerdict>;
  /** By the API server's clock. */
  now: Date;
  /** The pause after a restart that did not help. Undefined: one that grows from an hour to a day; Infinity: no further
   *  try. */
  retryIntervalMs: number | undefined;
  template: Marks;
  /** Who has written the pod template, the latest first. */
  managers: FieldManager[];
  /** The newest first; they matter only where a container is outdated. */
  revisions: MarkedRevision[];
}

/** The verdict of a workload. The first rule that applies decides; in brackets the exit code.
 *   1. skipped [0]: being deleted; paused, by Kubernetes or by its owner's label; its update strategy is OnDelete;
 *   2. waiting [0]: its controller has not seen the newest template; failed [1]: since it can make no ReplicaSet;
 *   3. skipped [0]: no pod is wanted, or a partition keeps all pods of a StatefulSet from being replaced;
 *   4. failed [1]: no pod of the newest template has started, and its controller says what it cannot do, or a pod of an
 *      older template that has not been ready for ten minutes holds a StatefulSet or DaemonSet up. waiting [0]: without
 *      either;
 *   5. restarted [0]: a container is outdated, and what figwasp remembers does not speak against it (recall). All
 *      outdated containers go into the note, since the rollout tries each of them;
 *   6. taken back [1]: somebody undid the restart for this very digest;
 *   7. not converged [1]: the restart for this very digest made the pods, and they run what ran before. Due again once
 *      the pause has passed;
 *   8. failed [1]: a lookup failed, or its controller says what it cannot do;
 *   9. unknown [0]: as 7, but all that they run could not be read, or the tag has some of its images. containerd groups
 *      names by config digest, so a node that pulled index I2 beside index I1 with the same image may go on reporting
 *      I1. Never due again;
 *  10. unknown [0]: a container is unknown;
 *  11. current [0]: a container is current, and the others are skipped; reported as "nothing to do";
 *  12. skipped [0]: all containers are skipped. */
export function judgeWorkload(facts: WorkloadFacts): WorkloadVerdict {
  const hanging = hasStarted(facts.pods) ? undefined : (facts.obstacle ?? reasons.describeBlocker(blockerOf(facts)));
  if (hanging !== undefined) return { kind: "failed", error: new Error(hanging) };
  if (!hasStarted(facts.pods)) return { kind: "waiting", reason: "no pod of the current revision has started" };

  const all = Array.from(facts.containers, ([name, verdict]) => ({ name, ...verdict }));
  const outdated = all.filter((container) => container.kind === "outdated");
  const recalled = outdated.map((container) => ({ container, ...recall(container, facts) }));
  const isDue = (memory: Memory) => memory.kind === "stuck" && memory.nextTryMs <= facts.now.getTime();
  const cause = recalled.find(({ kind }) => kind === "nothing") ?? recalled.find(isDue);
  if (cause) {
    const note = nextNote(recalled, facts);
    const others = recalled.filter((each) => each !== cause).map(({ container }) => container.name);
    const repeated = others.filter((name) => (note[name]?.try ?? 1) > 1);
    const digests = outdated.map(({ name, resolved }): [string, Digest] => [name, resolved]);
    return { kind: "restarted", outdated: Object.fromEntries(digests), note, repeated };
  }
  const takenBack = recalled.find((memory) => memory.kind === "taken back");
  if (takenBack) return { kind: "taken back", reason: reasons.describeTakenBack(takenBack, facts.managers) };
  const stuck = recalled.find((memory) => memory.kind === "stuck");
  if (stuck) return reasons.toNotConverged(stuck);

  const namesOf = (kind: ContainerVerdict["kind"]) =>
    all.filter((verdict) => verdict.kind === kind).map(({ name }) => name);
  const [failed, unknown, current] = [namesOf("failed"), namesOf("unknown"), namesOf("current")];
  if (failed.length > 0) return { kind: "failed", error: new Error(`no answer for ${failed.join(", ")}`) };
  if (facts.obstacle !== undefined) return { kind: "failed", error: new Error(facts.obstacle) };
  const [unclear] = recalled; // all that are left
  if (unclear) return { kind: "unknown", reason: reasons.describeUnclear(unclear.container) };
  if (unknown.length > 0) return { kind: "unknown", reason: `cannot tell for ${unknown.join(", ")}` };
  const waiting = facts.pods.filter((pod) => pod.containers.some(({ imageID }) => imageID === "")).length;
  if (current.length > 0) return { kind: "current", ...(waiting > 0 && { notStarted: waiting }) };
  return skipped("no container whose image a restart could change");
}

function hasStarted(pods: Pod[]): boolean {
  return pods.some((pod) => pod.containers.some(({ imageID }) => imageID !== ""));
}

// A StatefulSet or DaemonSet does not replace a pod while another one is not ready (kubernetes/kubernetes#67250).
function blockerOf({ pods, olderPods = [], now }: WorkloadFacts): Pod | undefined {
  if (pods.length > 0) return undefined; // it is under way
  return olderPods.find(({ unreadySinceMs = Infinity }) => now.getTime() - unreadySinceMs >= 10 * minuteMs);
}

/** The exit code that a finding asks for: that of its verdict, and 1 if a lookup failed for a container, whatever
 *  became of the others, or if a container that an earlier restart did not help takes part in one for another. */
export function exitCodeOf({ verdict, containers }: Finding): 0 | 1 {
  const verdicts = containers.map((container) => container.verdict);
  const hasFailure = verdicts.some((each) => each.kind === "failed" || (each.kind === "outdated" && each.failure));
  const isRepeated = verdict.kind === "restarted" && (verdict.repeated ?? []).length > 0;
  return hasFailure || isRepeated ? 1 : exitCodes[verdict.kind];
}

// --- The memory ---
// The note in the pod template tells what the last restart was for. It does not prevent a restart: it speaks against
// one only where this very restart is known not to have helped, or was undone.

/** What figwasp remembers of an outdated container. `entry` is what its next note goes on from.
 *  - nothing: nothing speaks against a restart;
 *  - taken back: somebody undid the restart for this digest, which had made this revision;
 *  - unclear: the restart did not help, and the pods' own image may be one that the tag still has;
 *  - stuck: the restart did not help. The next try is due at `nextTryMs`; never if that is no time that a Date can hold. */
export type Memory =
  | { kind: "nothing"; entry: NoteEntry | undefined }
  | { kind: "taken back"; entry: NoteEntry; at: string; revision: number }
  | { kind: "unclear"; entry: NoteEntry }
  | { kind: "stuck"; entry: NoteEntry; at: string; nextTryMs: number };

type NamedOutdated = OutdatedContainer & { name: string };
const [minuteMs, hourMs] = [60_000, 3_600_000];

/** Whether a note speaks against restarting a container. The note of the template does if all of this holds:
 *  1. it is about the image that is asked about, and
 *  2. about the digest that the tag has;
 *  3. nobody has restarted the workload since: the template has no restartedAt of somebody else's;
 *  4. that restart made the newest revision. It did not if an older one has the same note, if the template went back to
 *     the newest or, where no older one is left, if the newest was made more than a minute apart from `at`. After the
 *     second try an older one does not count that was made within that minute: something answers each restart;
 *  5. every outdated digest ran before that restart too, or before an earlier one for the same digest.
 *  If the revision before has such a note, and the template does not have that restart whole any more (the note or its
 *  restartedAt is missing, or an older note is there), there are two cases. The template went back to an older revision
 *  (2: note, 3: is 1 again): the restart was taken back, until the tag has another digest or a newer revision is made.
 *  Or a newer one was made (2: note, 3: none): something takes annotations out, and the note counts as the template's. */
export function recall(container: NamedOutdated, facts: WorkloadFacts): Memory {
  const { template, revisions } = facts;
  const [newest, ...older] = revisions;
  const before = older.find((each, index) => !isLeftOver(each, older.slice(index + 1)));
  const isLost = before?.note && entryAbout(container, before.note) && !isStillThere(before.note, template);
  const lost = isLost ? before.note : undefined;
  const note = lost ?? template.note;
  const entry = note && entryAbout(container, note);
  if (!note || !entry) return { kind: "nothing", entry };
  if (newest && before && lost && hasGoneBack(newest, before, template)) {
    const isTagBack = entry.try === 1 && wasPulledSince(container, before, facts.pods);
    return isTagBack ? { kind: "nothing", entry } : { kind: "taken back", entry, at: note.at, revision: before.number };
  }
  const digests = digestsOf(container);
  const isThisVeryRestart =
    !isRestartedSince(note.at, facts) && (lost !== undefined || hasMadeTheNewest(note, entry.try, revisions));
  const hasNotHelped = note.isOlderForm || digests.every((digest) => entry.ran.includes(digest));
  if (!isThisVeryRestart || !hasNotHelped) return { kind: "nothing", entry };
  const isUnclear =
    container.isPartial || digests.every((digest) => [...entry.unclear, ...container.unclear].includes(digest));
  if (isUnclear) return { kind: "unclear", entry };
  const growingMs = note.isOlderForm ? Infinity : Math.min(hourMs * 2 ** (entry.try - 1), 24 * hourMs);
  const pauseMs = facts.retryIntervalMs ?? growingMs;
  return { kind: "stuck", entry, at: note.at, nextTryMs: Date.parse(note.at) + pauseMs };
}

function digestsOf({ running, alsoRunning = [] }: OutdatedContainer): Digest[] {
  return [running, ...alsoRunning];
}

// Rules 1 and 2.
function entryAbout({ name, image, resolved }: NamedOutdated, note: Note): NoteEntry | undefined {
  const entry = note.containers[name];
  if (entry?.wanted !== resolved) return undefined;
  return note.isOlderForm || isSameImage(entry.image, image) ? entry : undefined;
}

// That restart with note and time, or a newer one.
function isStillThere({ at }: Note, template: Marks): boolean {
  const isNewer = template.note !== undefined && Date.parse(template.note.at) > Date.parse(at);
  return isNewer || (template.note?.at === at && template.restartedAt === at);
}

// What is left of a restart for a moment, where its two annotations are taken out one by one.
function isLeftOver({ note, restartedAt }: MarkedRevision, older: MarkedRevision[]): boolean {
  return !note && restartedAt !== undefined && older.some((each) => each.note?.at === restartedAt);
}

// A ControllerRevision does not tell that it is used again where the one before is of the same second. Then the template
// went back if nothing of the restart is left in it.
function hasGoneBack(newest: Revision, before: MarkedRevision, { note, restartedAt }: Marks): boolean {
  return newest.isReused ?? ![note?.at, restartedAt].includes(before.note?.at);
}

// Pods that were all made after the undone revision, and yet run something else, were given that by the tag, which has
// come to this digest again since. A stale mirror looks the same, so that this is believed once.
function wasPulledSince(container: OutdatedContainer, { createdAtMs }: Revision, pods: Pod[]): boolean {
  const outdated = pods.filter(({ name }) => container.pods.includes(name));
  return outdated.length > 0 && outdated.every((pod) => pod.createdAtMs > createdAtMs);
}

// Rule 3. A restartedAt that an older revision without this note has was put back, as was one from long before it.
function isRestartedSince(at: string, { template: { restartedAt }, revisions }: WorkloadFacts): boolean {
  if (restartedAt === undefined || restartedAt === at) return false;
  const isOld = Date.parse(restartedAt) < Date.parse(at) - 10 * minuteMs; // clocks of laptops differ
  return !isOld && !revisions.slice(1).some((older) => older.restartedAt === restartedAt && older.note?.at !== at);
}

// Rule 4. A note of the older form has the time of whoever restarted last, so that an older revision may have the same.
function hasMadeTheNewest(note: Note, tries: number, [newest, ...older]: MarkedRevision[]): boolean {
  if (!newest) return true;
  const isAtOnce = Math.abs(newest.createdAtMs - Date.parse(note.at)) <= minuteMs;
  const isCarriedOn = older.some((each) => each.note && isSameNote(each.note, note));
  if (newest.isReused || isCarriedOn) return !newest.isReused && isAtOnce && tries > 2;
  return older.length > 0 || isAtOnce;
}

// --- The action ---
// What `kubectl rollout restart` writes, and beside it the note.

/** What came of a restart. Conflict: the workload was changed, or is gone, after it was read. */
type RestartResult =
  | { kind: "made"; made: NonNullable<ToRestart["made"]> }
  | { kind: "skipped"; reason: string }
  | { kind: "conflict" | "failed"; error: Error };

/** Makes the workload roll, by one PATCH of two annotations of its pod template. The API server is asked first what it
 *  would make of that: without its note each run would restart the workload again, and a template that admission pins
 *  would not follow the tag any more. */
async function restart(run: RunContext, workload: Workload, note: Record<string, NoteEntry>): Promise<RestartResult> {
  const { restartAnnotation } = run.config;
  const [now, before] = [toTime(run.now()), workload.templateAnnotations[restartAnnotation]];
  const at = now === before ? toTime(new Date(Date.parse(now) + 1000)) : now; // no two restarts have the same
  const annotations = { [restartAnnotation]: at, [noteAnnotation]: writeNote(at, note) };
  const failed = (verb: string, why: string) => new Error(`${verb} ${describeSubject(workload)}: ${why}`);
  try {
    const asked = await run.cluster.annotateTemplate(workload, annotations, { isDryRun: true });
    const lost = asked.lostAnnotations.join(", ");
    const wouldLose = `the pod template would have no annotation ${lost}, something takes it out`;
    if (lost !== "") return { kind: "failed", error: failed("Cannot restart", wouldLose) };
    if (Object.keys(note).some((name) => asked.images.get(name)?.includes("@"))) {
      return skipped("pinned by admission: something writes a digest into the pod template when it is changed");
    }
    const { lostAnnotations } = await run.cluster.annotateTemplate(workload, annotations, { isDryRun: false });
    if (lostAnnotations.length === 0) return { kind: "made", made: { at, previousVersion: workload.resourceVersion } };
    const verb = lostAnnotations.includes(restartAnnotation) ? "Cannot restart" : "Restarted";
    const hasLost = `the pod template has no annotation ${lostAnnotations.join(", ")} now, something takes it out again`;
    return { kind: "failed", error: failed(verb, hasLost) };
  } catch (cause) {
    const error = new Error(`Cannot restart ${describeSubject(workload)}: ${messageOf(cause)}`, { cause });
    return { kind: [404, 409].includes(statusOf(cause) ?? 0) ? "conflict" : "failed", error };
  }
}

// --- The run ---
// Errors are caught once for each workload, so that one bad workload never hides another, and once for everything. A
// list of a kind that is refused is a failed finding, and the other kinds are looked at. What is only told decides
// nothing and fails nothing (announce, conclude): Events, notes, hints about what applies the manifests (Flux, Argo
// CD), image volumes, the termination message.

/** Runs once. Resolves to the exit code:
 *  - 2: a setting that cannot be used, such as `cronjob/my-app` or a bad duration, or no cluster to ask. Nothing is
 *    judged.
 *  - 1: a finding asks for it (exitCodeOf), the run could not go on, `doctor` finds something that is not well, such as
 *    a failed lookup, or `rbac` finds no workload or cannot read one.
 *  - 0: everything else, also if no workload was found. `doctor`, `rbac` and --dry-run judge, and restart nothing. */
export async function main(argv: readonly string[], env: Env, outside: Outside): Promise<number> {
  try {
    const config = readConfig(argv, env);
    if (config.kind === "text") {
      outside.log(config.text);
      return 0;
    }
    const run = await prepare(config, outside);
    const findings = await judgeAll(run);
    const exitCode = findings.some((finding) => exitCodeOf(finding) === 1) ? 1 : 0;
    return await conclude(run, outside, { findings, exitCode });
  } catch (error) {
    const message = describeCrash(error);
    (outside.logError ?? outside.log)(message);
    await outside.end?.(message);
    return error instanceof ConfigError ? 2 : 1;
  }
}

/** Judges and restarts what is selected, and gives the findings in the order of selection. With --wait it then waits
 *  for the rollouts: only after every workload has been restarted, so that one slow rollout does not delay another
 *  restart. */
async function judgeAll(run: RunContext): Promise<Finding[]> {
  const logged = (finding: Finding) => {
    for (const line of reportLines(finding, run.config.isDryRun)) run.log(line);
    return finding;
  };
  run.showProgress("reading the workloads");
  const selections = await selectWorkloads(run);
  let done = 0;
  const judged = await mapConcurrently(selections, maxWorkloadsAtOnce, async (selection) => {
    const finding = selection.kind === "failed" ? selection.finding : await judgeAndRestart(run, selection);
    if (!isWaitedFor(run, finding)) logged(finding);
    run.showProgress(`${++done} of ${selections.length} workloads looked at`);
    return finding;
  });
  return settleRestarts(run, judged, { judge: (workload) => judgeOne(run, workload), logged });
}

// The limit is for a workload that is changed all the time; its controller's writes to the status count as changes.
const maxTries = 5;

/** Judges a workload, and restarts it if it is outdated. If it was changed after it was read, perhaps by another
 *  figwasp, it is read and judged anew, and restarted if it is outdated still. Never throws. */
async function judgeAndRestart(run: RunContext, selection: Exclude<Selection, { kind: "failed" }>): Promise<Finding> {
  const subject = nameOf(selection.workload);
  try {
    let workload = selection.kind === "listed" ? selection.workload : await run.cluster.getWorkload(subject);
    for (let tries = 1; ; tries++) {
      const finding = await judgeOne(run, workload);
      const { verdict } = finding;
      if (verdict.kind !== "restarted" || run.config.isDryRun) return await announce(run, workload, finding);
      const result = await restart(run, workload, verdict.note ?? {});
      if (result.kind === "made") {
        return await announce(run, workload, { ...finding, verdict: { ...verdict, made: result.made } });
      }
      if (result.kind === "skipped") return { ...finding, verdict: result };
      if (result.kind === "failed" || tries === maxTries) return { ...finding, verdict: { ...result, kind: "failed" } };
      run.registry.forgetTags(imagesAskedAbout(finding));
      const changed = await run.cluster.getWorkload(subject).catch(ignoreIfGone);
      if (!changed) return { subject, verdict: skipped("it is gone"), containers: [] };
      workload = changed;
    }
  } catch (error) {
    return failedFinding(subject, "read", error);
  }
}

async function judgeOne(run: RunContext, workload: Workload): Promise<Finding> {
  const { config, cluster } = run;
  const subject = nameOf(workload);
  const words = readWords(workload);
  const history = workload.revisionHistoryLimit === 0 ? { keepsNoRevisions: true as const } : {};
  const early = words.isPaused ? skipped(reasons.describePaused(workload)) : judgeWithoutPods(workload);
  if (early && config.command === "run") return { subject, verdict: early, containers: [] };

  noteImageVolumes(run, workload);
  const owned = await cluster.readOwnedObjects(workload);
  noteLostWords(run, workload, owned);
  const current = currentPods(workload, owned);
  const pods = countingPods(current);
  const pullSecrets = pods.flatMap((pod) => pod.pullSecrets);
  // `rbac` and `doctor` look at the pods of every workload: they need the names of their Secrets.
  const known = config.command === "rbac" ? (early ?? notAsked) : early;
  if (known) return { subject, verdict: known, containers: [], pullSecrets, ...history };

  const marksOf = (annotations: Workload["templateAnnotations"]) => readMarks(annotations, config.restartAnnotation);
  const template = marksOf(workload.templateAnnotations);
  const judging = containersOf(workload, pods, words.containers).map((container) => {
    return judgeOneContainer(run, container, { workload, template, pods, pullSecrets });
  });
  const containers = await Promise.all(judging);
  const isOutdated = containers.some((container) => container.verdict.kind === "outdated");
  const revisions = isOutdated ? await cluster.readRevisions(workload) : [];
  const verdict = judgeWorkload({
    pods,
    olderPods: withoutEnded(owned.podsByOwner.get(workload.uid) ?? []).filter((pod) => !current.includes(pod)),
    obstacle: workload.obstacle,
    containers: new Map(containers.map((container) => [container.name, container.verdict])),
    now: run.now(),
    retryIntervalMs: config.retryIntervalMs,
    template,
    managers: managersBeside(config.fieldManager, workload),
    revisions: revisions.map((revision) => Object.assign(marksOf(revision.templateAnnotations), revision)),
  });
  return { subject, verdict, containers: hasStarted(pods) ? containers : [], pullSecrets, ...history };
}

const notAsked: WorkloadVerdict = { kind: "unknown", reason: "no registry was asked" };

type Surroundings = { workload: Workload; template: Marks; pods: Pod[]; pullSecrets: string[] };

async function judgeOneContainer(
  run: RunContext,
  { name, image, exclusion }: ReturnType<typeof containersOf>[number],
  around: Surroundings,
): Promise<ContainerFinding> {
  const pods = around.pods.flatMap(({ name: pod, node, createdAtMs, containers }) => {
    const found = containers.find((candidate) => candidate.name === name);
    if (!found) return [];
    const { pullPolicy, imageID } = found;
    const running = { ...runningDigest(imageID), ...repositoryIn(imageID) };
    return [{ pod, node, createdAtMs, pullPolicy, running, asked: imageToAsk(image, found) }];
  });
  // Of a container that has not started it is not known which registry its node takes a short name from.
  const isTold = ({ running }: (typeof pods)[number]) => running.kind === "digest" || !isShortName(image);
  const sorted = pods.toSorted((a, b) => b.createdAtMs - a.createdAtMs);
  const youngest = sorted.find(isTold);
  const facts: ContainerFacts = { image, exclusion, pods, youngest: sorted[0]?.pod };
  // The registry is asked only if its answer matters.
  if (youngest && pods.some(({ running }) => running.kind === "digest") && reasonToSkip(facts) === undefined) {
    Object.assign(facts, await lookUpAll(run, around, { name, pods, fresh: youngest.asked }));
  }
  const credential = facts.lookup?.kind === "resolved" ? facts.lookup.credential : undefined;
  const asked = facts.fresh?.kind === "image" && facts.fresh.image !== image ? { asked: facts.fresh.image } : {};
  return { name, image, ...asked, verdict: judgeContainer(facts), podCount: pods.length, credential };
}

// With the credentials of the pods that count.
async function lookUpAll(
  { registry, pullSecrets, cluster }: RunContext,
  { workload, template, pullSecrets: secretNames }: Surroundings,
  { name, pods, fresh }: { name: string; pods: (ContainerInPod & { node: string })[]; fresh: Asked },
): Promise<Pick<ContainerFacts, "fresh" | "lookup" | "otherLookups">> {
  const restartedFor = template.note?.containers[name]?.wanted;
  const running = pods.map((pod) => pod.running);
  const platformsOf = platformsOfNodes(cluster, pods);
  const ask = (image: string): Promise<Lookup> => {
    return pullSecrets.keyringOf(workload.namespace, secretNames).then(
      (keyring) => lookUp(registry, image, { running, restartedFor, keyring, platformsOf }),
      (error: Error) => ({ kind: "failed", error }),
    );
  };
  const images = [fresh, ...pods.map(({ asked }) => asked)].flatMap((asked) => {
    return asked?.kind === "image" ? [asked.image] : [];
  });
  const lookUps = Array.from(new Set(images), async (image): Promise<[string, Lookup]> => [image, await ask(image)]);
  const byImage = new Map(await Promise.all(lookUps));
  return { fresh, lookup: fresh.kind === "image" ? byImage.get(fresh.image) : undefined, otherLookups: byImage };
}

// A credential plugin that is still running is not waited for.
if (import.meta.main) void main(process.argv.slice(2), process.env, realOutside(connectCluster)).then(exitWith);
