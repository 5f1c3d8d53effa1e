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
 *   The action and its note      one PATCH of two pod-template annotations
 *   The run                      select, judge, restart, wait, report
 *
 * The judge takes plain data and returns plain data. How servers are asked and how findings are printed stands in
 * lib/ (docs/architecture.md). figwasp keeps no state: what it did stands in the pod template.
 */
import { mapConcurrently } from "./lib/calls.ts";
import { announce, noteImageVolumes } from "./lib/command/announce.ts";
import { conclude } from "./lib/command/conclude.ts";
import { type Env, readConfig } from "./lib/command/config.ts";
import { prepare, type RunContext } from "./lib/command/context.ts";
import { exitWith, type Outside, realOutside } from "./lib/command/outside.ts";
import { describeStuck, describeUnclear } from "./lib/command/reasons.ts";
import { describeCrash, reportLines } from "./lib/command/report.ts";
import { type Selection, selectWorkloads } from "./lib/command/select.ts";
import { waitForRollout } from "./lib/command/wait.ts";
import type { Keyring } from "./lib/credentials/keyring.ts";
import { ConfigError, statusOf } from "./lib/errors.ts";
import { connectCluster } from "./lib/kubernetes/cluster.ts";
import { nameOf, type Pod, type Workload } from "./lib/kubernetes/objects.ts";
import type { OwnedObjects } from "./lib/kubernetes/owned-objects.ts";
import { type Child, type Digest, type Manifest, UnreadableManifest } from "./lib/registry/manifest.ts";
import { parseReference } from "./lib/registry/reference.ts";
import { type Registry, describeMissingCredential } from "./lib/registry/registry.ts";
import { messageOf, parseObject, quote } from "./lib/text.ts";
import { describeReason, describeSubject, failedFinding } from "./lib/verdicts.ts";
import type { ContainerFinding, ContainerVerdict, Finding, OutdatedContainer } from "./lib/verdicts.ts";
import type { Restarted, WorkloadVerdict } from "./lib/verdicts.ts";

export { matchingKeys } from "./lib/credentials/keys.ts";
export { parseChallenges } from "./lib/registry/challenge.ts";
export { connectCluster, parseReference };

// --- Vocabulary ---
// The types stand in lib/verdicts.ts, since lib/command/ prints them.
export type * from "./lib/verdicts.ts";

/** The exit code that each verdict of a workload asks for; the run ends with the highest of all. */
export const exitCodes: Record<WorkloadVerdict["kind"], 0 | 1> = {
  restarted: 0, // 1 if a lookup failed for a container of it all the same: see exitCodeOf
  "taken back": 1, // somebody undid the restart: no second one, until the tag moves or somebody restarts it
  "not converged": 1, // a restart for this very digest did not help: somebody has to look
  failed: 1, // a lookup or the restart: refused, changed too often meanwhile, or its note taken out again
  waiting: 0, // the next run looks again
  unknown: 0, // uncertain is never an action, and never "current"
  current: 0,
  skipped: 0, // a restart would change nothing, or the workload is paused
};

// --- What runs ---
// The pods of the newest template tell which digests run, in containers, init containers and sidecars. The tag comes
// from the pod template alone: imageID carries no tag, and may carry another repository's name
// (kubernetes/kubernetes#95385).

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
  return pods.filter(({ isTerminating, phase }) => !isTerminating && phase !== "Succeeded" && phase !== "Failed");
}

/** The digest that a container runs, or why its status does not tell. An image ID is the digest of the image's config;
 *  if Docker keeps its images in containerd, it is the digest of a manifest. */
export type Running = RunningDigest | { kind: "unreadable"; reason: string };
type RunningDigest = { kind: "digest"; digest: Digest; isImageId: boolean };

/** `status.*ContainerStatuses[].imageID` → the running digest: `docker.io/library/nginx@sha256:…` from containerd and
 *  CRI-O, `docker-pullable://…` from cri-dockerd, a bare `sha256:…` or 64 hex digits for an image ID, empty before the
 *  container has started. Never throws. */
export function runningDigest(imageID: string): Running {
  if (imageID === "") return { kind: "unreadable", reason: "the container has not started" };
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

const restartedForKey = "figwasp/restarted-for";

/** figwasp's note of its last restart, from the annotations of a pod or of a pod template: by container name, the
 *  digest that the container was restarted for. Anything that figwasp did not write counts as no note. */
export function restartedFor(annotations: Record<string, string>): Record<string, unknown> {
  const note = annotations[restartedForKey];
  return (note === undefined ? undefined : parseObject(note)) ?? {};
}

// --- What a fresh pod would run ---
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

async function resolveTag(registry: Registry, image: string, keyring: Keyring) {
  const reference = parseReference(image);
  const repository = registry.open(reference, keyring);
  const digest = await repository.resolve(reference.tag);
  return { digest, repository };
}

// --- What a difference means ---
// Two digests can stand for the same images: an index and the manifest of one of its platforms, or two indexes that
// differ only in attestations. Two images are the same if their manifests or their configs have the same digest, since
// a config names the layers and the platform. Only the node knows which platform it runs, so every platform of what
// runs counts.

/** What a running digest is, compared with what the tag has:
 *  - same: the tag's own digest, the digest of one of its images, or the config of one;
 *  - equivalent: another digest, and the tag has every image of it;
 *  - partial: other content, and the tag has some of its images;
 *  - other: other content;
 *  - absent: other content, and the repository no longer has it;
 *  - incomparable: an image ID, and the configs of the tag's images could not be read;
 *  - failed: the registry did not answer about it. */
export type Meaning =
  { kind: "same" | "equivalent" | "partial" | "other" | "absent" | "incomparable" } | { kind: "failed"; error: Error };

/** Resolves the tag of an image, and compares the running digests with it. `restartedFor` are the digests that figwasp
 *  has restarted the container for. Never throws. */
export async function lookUp(registry: Registry, image: string, options: LookupOptions): Promise<Lookup> {
  const { running, restartedFor: actedOn = new Set(), keyring } = options;
  const toError = (cause: unknown): Error => {
    if (cause instanceof SyntaxError) return cause; // of parseReference
    const message = messageOf(cause) + describeMissingCredential(cause, parseReference(image), keyring);
    return new Error(`Cannot resolve ${quote(image)}: ${registry.logins.redact(message)}`, { cause });
  };
  try {
    const { digest, repository } = await resolveTag(registry, image, keyring);
    const read: ReadManifest = (wanted) => repository.manifest(wanted);
    const meanings = await explain(digest, running, { read, wasActedOn: actedOn.has(digest), toError });
    return { kind: "resolved", digest, meanings, credential: repository.credential };
  } catch (cause) {
    const error = toError(cause);
    return cause instanceof UnreadableManifest ? { kind: "unknown", reason: error.message } : { kind: "failed", error };
  }
}

type LookupOptions = { running: Running[]; restartedFor?: ReadonlySet<unknown>; keyring: Keyring };
/** Reads a manifest; undefined if the repository does not have it. */
type ReadManifest = (digest: Digest) => Promise<Manifest | undefined>;
/** `wasActedOn`: figwasp has restarted the container for the tag's digest before. */
type ExplainOptions = { read: ReadManifest; wasActedOn: boolean; toError: (cause: unknown) => Error };

async function explain(resolved: Digest, running: Running[], options: ExplainOptions): Promise<Map<Digest, Meaning>> {
  const { read } = options;
  const meanings = new Map<Digest, Meaning>([[resolved, { kind: "same" }]]);
  const others = running.filter((entry) => entry.kind === "digest").filter(({ digest }) => digest !== resolved);
  if (others.length === 0) return meanings;
  const tag = await read(resolved);
  if (!tag) throw new Error(`the repository no longer has ${resolved}`);

  for (const { digest } of imagesOf(tag)) meanings.set(digest, { kind: "same" });
  const hasImageId = others.some(({ digest, isImageId }) => isImageId && !meanings.has(digest));
  const configs = hasImageId ? await readConfigs(tag, read) : undefined;
  for (const config of configs ?? []) meanings.set(config, { kind: "same" });
  // If one node reports a digest as an image ID and another one with its repository, it is a manifest's.
  for (const entry of others.toSorted((a, b) => Number(a.isImageId) - Number(b.isImageId))) {
    if (!meanings.has(entry.digest)) meanings.set(entry.digest, await compare(tag, entry, { ...options, configs }));
  }
  return meanings;
}

/** The images of a manifest: itself, or the children of an index but for attestations, which are statements about
 *  images and never run. */
function imagesOf(manifest: Manifest): Pick<Child, "digest" | "platform">[] {
  if (manifest.config !== undefined) return [{ digest: manifest.digest, platform: "" }];
  return manifest.children.filter(({ isAttestation }) => !isAttestation);
}

// All of them or undefined: an image ID that is not among some of the configs may be one of the others.
async function readConfigs(tag: Manifest, read: ReadManifest): Promise<Digest[] | undefined> {
  const configs = await Promise.all(imagesOf(tag).map(async ({ digest }) => (await read(digest))?.config));
  const known = configs.filter((config) => config !== undefined);
  return known.length > 0 && known.length === configs.length ? known : undefined;
}

async function compare(
  tag: Manifest,
  { digest, isImageId }: RunningDigest,
  { read, wasActedOn, configs, toError }: ExplainOptions & { configs: Digest[] | undefined },
): Promise<Meaning> {
  try {
    // An image ID can be the digest of a manifest, too.
    const old = await readOld(digest, read);
    if (old && (await hasEveryImage(tag, old, read))) return { kind: "equivalent" };
    if (isImageId && !configs) return { kind: "incomparable" };
    if (!old) return { kind: isImageId ? "other" : "absent" };
    return { kind: (await hasSomeImage(tag, old, { read, wasActedOn })) ? "partial" : "other" };
  } catch (cause) {
    if (cause instanceof UnreadableManifest) throw cause; // of the tag: nothing can be compared with it
    // The trouble with one digest says nothing about another one. About an image ID the configs have already told.
    return isImageId && configs ? { kind: "other" } : { kind: "failed", error: toError(cause) };
  }
}

// If the running manifest can no longer be read, treat it as one whose images the tag does not have.
async function readOld(digest: Digest, read: ReadManifest): Promise<Manifest | undefined> {
  try {
    return await read(digest);
  } catch (error) {
    if (error instanceof UnreadableManifest) return { digest, children: [], config: undefined, annotations: undefined };
    throw error;
  }
}

// Stops at the first image that the tag does not have.
async function hasEveryImage(tag: Manifest, old: Manifest, read: ReadManifest): Promise<boolean> {
  const images = imagesOf(old);
  for (const image of images) if (!(await hasImage(tag, image, read))) return false;
  return images.length > 0;
}

// Partial matters only after a restart did not help (judgeWorkload, rule 8). Before one, equal manifests tell enough,
// and the configs of the further platforms are not read.
async function hasSomeImage(tag: Manifest, old: Manifest, { read, wasActedOn }: Omit<ExplainOptions, "toError">) {
  const digests = new Set(imagesOf(tag).map(({ digest }) => digest));
  if (imagesOf(old).some(({ digest }) => digests.has(digest))) return true;
  if (wasActedOn) for (const image of imagesOf(old)) if (await hasImage(tag, image, read)) return true;
  return false;
}

// The same manifest, or the same config, among the tag's images of that platform. An image that is not in an index does
// not tell its platform, so it is compared with all.
async function hasImage(
  tag: Manifest,
  image: Pick<Child, "digest" | "platform">,
  read: ReadManifest,
): Promise<boolean> {
  const candidates = imagesOf(tag).filter(
    ({ platform }) => !platform || !image.platform || platform === image.platform,
  );
  if (candidates.some(({ digest }) => digest === image.digest)) return true;
  const config = (await readOld(image.digest, read))?.config;
  const configs = await Promise.all(candidates.map(async ({ digest }) => (await read(digest))?.config));
  return config !== undefined && configs.includes(config);
}

// --- The judge ---
// Pure functions from plain data to a verdict. Uncertain is never a restart, and never "current".

/** One container of a workload, with everything that is known about it. */
export interface ContainerFacts {
  /** As the pod template names it. */
  image: string;
  /** The container in each pod that counts and has it. */
  pods: { pod: string; pullPolicy: string; running: Running }[];
  /** Absent if no registry was asked, because the answer could not matter. */
  lookup?: Lookup;
}

/** The verdict of a container, from all pods that count. The first rule that applies decides:
 *  1. skipped: the template pins a digest, or no pod would pull again because no pull policy is Always;
 *  2. outdated: a pod runs other content, whatever is unknown about other pods;
 *  3. failed: the registry did not answer about the tag, or about a running digest;
 *  4. unknown: a pod does not tell what it runs, that cannot be compared, or no pod has the container;
 *  5. current. */
export function judgeContainer(facts: ContainerFacts): ContainerVerdict {
  const skipReason = reasonToSkip(facts);
  if (skipReason !== undefined) return skipped(skipReason);

  const pulling = facts.pods.filter(({ pullPolicy }) => pullPolicy === "Always");
  const verdicts = pulling.map(({ pod, running }) => judgeRunning(pod, running, facts.lookup));
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
function reasonToSkip({ image, pods }: ContainerFacts): string | undefined {
  if (image.includes("@")) return "pinned by digest";
  const [first] = pods;
  if (!first || pods.some(({ pullPolicy }) => pullPolicy === "Always")) return undefined;
  return `imagePullPolicy is ${first.pullPolicy}, so that a restart would not pull: set it to Always`;
}

function judgeRunning(pod: string, running: Running, lookup: Lookup | undefined): ContainerVerdict {
  const unknown = (reason: string) => ({ kind: "unknown", reason: `pod ${pod}: ${reason}` }) as const;
  if (running.kind === "unreadable") return unknown(running.reason);
  if (lookup?.kind === "failed") return lookup;
  if (lookup?.kind === "unknown") return unknown(lookup.reason);
  const meaning = lookup?.meanings.get(running.digest);
  if (!lookup || !meaning) return unknown("the registry was not asked");
  if (meaning.kind === "failed") return meaning;
  if (meaning.kind === "incomparable") return unknown("its image ID cannot be compared");
  const isEquivalent = meaning.kind === "equivalent";
  if (meaning.kind === "same" || isEquivalent) return { kind: "current", resolved: lookup.digest, isEquivalent };
  const flags = { isAbsent: meaning.kind === "absent", isPartial: meaning.kind === "partial" };
  return { kind: "outdated", running: running.digest, resolved: lookup.digest, pods: [pod], ...flags };
}

// The first is the one to name: a digest that shares no image with the tag is surely outdated.
function joinOutdated(first: OutdatedContainer, all: OutdatedContainer[]): OutdatedContainer {
  const others = new Set(all.map(({ running }) => running).filter((running) => running !== first.running));
  return { ...first, ...(others.size > 0 && { alsoRunning: [...others] }), pods: all.flatMap(({ pods }) => pods) };
}

/** The verdict of a workload that follows from the object alone (rules 1 to 3 of judgeWorkload); undefined if its pods
 *  decide. */
export function judgeWithoutPods(workload: Workload): WorkloadVerdict | undefined {
  const { kind, isPaused, isOnDelete, isObserved, replicas, partition } = workload;
  if (isPaused) return skipped("paused: kubectl rollout resume lets it roll again");
  if (isOnDelete) return skipped("its update strategy is OnDelete: delete its pods, or set RollingUpdate");
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
  /** By name. */
  containers: Map<string, ContainerVerdict>;
  now: Date;
  /** Undefined: a restart that did not help is never tried again for the same digest. */
  retryIntervalMs: number | undefined;
  /** The annotation by which the pods tell when they were restarted. */
  restartAnnotation?: string;
}

/** The verdict of a workload. The first rule that applies decides; in brackets the exit code.
 *   1. skipped [0]: paused, or its update strategy is OnDelete;
 *   2. waiting [0]: its controller has not seen the newest template;
 *   3. skipped [0]: no pod is wanted, or a partition keeps all pods of a StatefulSet from being replaced;
 *   4. waiting [0]: no pod of the newest template has started;
 *   5. restarted [0]: a container is outdated and was not restarted for this digest before, or one of rule 6 is due for
 *      another try. This asks for the restart, with all outdated containers in its note, since it is for each of them;
 *   6. not converged [1]: a container is outdated although its pods were made by a restart for this very digest, and
 *      the tag has none of their images. Due again once the retry interval has passed; with none set, never;
 *   7. failed [1]: a lookup failed;
 *   8. unknown [0]: as 6, but the tag has some of their images. containerd groups names by config digest, so a node
 *      that pulled index I2 beside index I1 with the same image may go on reporting I1. Never due again;
 *   9. unknown [0]: a container is unknown;
 *  10. current [0]: a container is current, and the others are skipped; reported as "nothing to do";
 *  11. skipped [0]: all containers are skipped. */
export function judgeWorkload(facts: WorkloadFacts): WorkloadVerdict {
  const { pods, containers, now, retryIntervalMs } = facts;
  const { restartAnnotation = "kubectl.kubernetes.io/restartedAt" } = facts;
  const hasStarted = pods.some((pod) => pod.containers.some(({ imageID }) => imageID !== ""));
  if (!hasStarted) return { kind: "waiting", reason: "no pod of the current revision has started" };

  const all = Array.from(containers, ([name, verdict]) => ({ name, ...verdict }));
  const outdated = all.filter((container) => container.kind === "outdated");
  const triedBefore = outdated.filter((container) => wasRestartedFor(container, pods));
  const stuck = triedBefore.find(({ isPartial }) => !isPartial);
  const restartTimes = pods.map(({ annotations }) => annotations[restartAnnotation]);
  // A pod that does not tell when it was restarted holds the next try back: no comparison with NaN is true.
  const pauseMs = retryIntervalMs ?? Infinity;
  const isRetryDue = restartTimes.every((time = "") => now.getTime() - Date.parse(time) >= pauseMs);
  if (outdated.length > triedBefore.length || (stuck && isRetryDue)) {
    const digests = outdated.map(({ name, resolved }): [string, Digest] => [name, resolved]);
    return { kind: "restarted", outdated: Object.fromEntries(digests) };
  }
  if (stuck) {
    const restartedAt = restartTimes.find((time) => time !== undefined);
    return { kind: "not converged", reason: describeStuck(stuck, { restartedAt, retryIntervalMs }) };
  }

  const namesOf = (kind: ContainerVerdict["kind"]) =>
    all.filter((verdict) => verdict.kind === kind).map(({ name }) => name);
  const [failed, unknown, current] = [namesOf("failed"), namesOf("unknown"), namesOf("current")];
  if (failed.length > 0) return { kind: "failed", error: new Error(`no answer for ${failed.join(", ")}`) };
  const [partial] = triedBefore; // all that are left of them, since none is stuck
  if (partial) return { kind: "unknown", reason: describeUnclear(partial) };
  if (unknown.length > 0) return { kind: "unknown", reason: `cannot tell for ${unknown.join(", ")}` };
  if (current.length > 0) return { kind: "current" };
  return skipped("no container whose image a restart could change");
}

// Whether figwasp's restart for this very digest made each of its outdated pods.
function wasRestartedFor({ name, resolved, pods: names }: OutdatedContainer & { name: string }, pods: Pod[]): boolean {
  const outdatedPods = pods.filter((pod) => names.includes(pod.name));
  return outdatedPods.every(({ annotations }) => restartedFor(annotations)[name] === resolved);
}

/** The exit code that a finding asks for: that of its verdict, and 1 if a lookup failed for a container, whatever
 *  became of the others. */
export function exitCodeOf({ verdict, containers }: Finding): 0 | 1 {
  const verdicts = containers.map((container) => container.verdict);
  const hasFailure = verdicts.some((each) => each.kind === "failed" || (each.kind === "outdated" && each.failure));
  return hasFailure ? 1 : exitCodes[verdict.kind];
}

// --- The action and its note ---
// What `kubectl rollout restart` writes, and beside it what the restart was for. Annotations of the template reach the
// pods, so each pod tells which restart made it. The note does not prevent a restart; it lets the next run see that the
// restart for this digest did not help.

/** What came of a restart. Conflict: the workload was changed after it was read. */
type RestartResult = { kind: "made" } | { kind: "conflict" | "failed"; error: Error };

/** Makes the workload roll, by one PATCH of two annotations of its pod template. Notes about other containers stay, or
 *  these would be restarted for the same digest again. */
async function restart(
  { cluster, config, now }: Pick<RunContext, "cluster" | "config" | "now">,
  workload: Workload,
  outdated: Record<string, Digest>,
): Promise<RestartResult> {
  const { restartAnnotation } = config;
  const hasContainer = ([name]: [string, unknown]) => workload.containers.some((container) => container.name === name);
  const kept = Object.entries(restartedFor(workload.templateAnnotations)).filter(hasContainer);
  const annotations = {
    [restartAnnotation]: `${now().toISOString().slice(0, 19)}Z`,
    [restartedForKey]: JSON.stringify({ ...Object.fromEntries(kept), ...outdated }),
  };
  try {
    const lost = await cluster.annotateTemplate(workload, annotations);
    if (lost.length === 0) return { kind: "made" };
    // A webhook may remove what it does not know. Without its note each run would restart the workload again.
    const what = `the pod template has no annotation ${lost.join(", ")} now, something takes it out again`;
    const verb = lost.includes(restartAnnotation) ? "Cannot restart" : "Restarted";
    return { kind: "failed", error: new Error(`${verb} ${describeSubject(workload)}: ${what}`) };
  } catch (cause) {
    const error = new Error(`Cannot restart ${describeSubject(workload)}: ${messageOf(cause)}`, { cause });
    return { kind: statusOf(cause) === 409 ? "conflict" : "failed", error };
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

const maxWorkloadsAtOnce = 4;
const rolloutPollMs = 500; // longer if more rollouts are waited for

/** Judges and restarts what is selected, and gives the findings in the order of selection. With --wait it then waits
 *  for the rollouts: only after every workload has been restarted, so that one slow rollout does not delay another
 *  restart. */
async function judgeAll(run: RunContext): Promise<Finding[]> {
  const { isWaiting, isDryRun } = run.config;
  const isWaitedFor = (finding: Finding): finding is Restarted =>
    isWaiting && !isDryRun && finding.verdict.kind === "restarted";
  const logged = (finding: Finding) => {
    for (const line of reportLines(finding, isDryRun)) run.log(line);
    return finding;
  };
  run.showProgress("reading the workloads");
  const selections = await selectWorkloads(run);
  let done = 0;
  const judged = await mapConcurrently(selections, maxWorkloadsAtOnce, async (selection) => {
    const finding = selection.kind === "failed" ? selection.finding : await judgeAndRestart(run, selection);
    if (!isWaitedFor(finding)) logged(finding);
    run.showProgress(`${++done} of ${selections.length} workloads looked at`);
    return finding;
  });
  const pollMs = rolloutPollMs * Math.max(1, judged.filter(isWaitedFor).length / maxWorkloadsAtOnce);
  const settle = async (finding: Finding) => {
    if (!isWaitedFor(finding)) return finding;
    const judge = (workload: Workload) => judgeAfterRollout(run, workload, finding);
    return logged(await waitForRollout(run, finding, { pollMs, judge }));
  };
  return Promise.all(judged.map(settle));
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
      const result = await restart(run, workload, verdict.outdated);
      if (result.kind === "made") return await announce(run, workload, finding);
      if (result.kind === "failed" || tries === maxTries) return { ...finding, verdict: { ...result, kind: "failed" } };
      run.registry.forgetTags(workload.containers.map(({ image }) => image));
      workload = await run.cluster.getWorkload(subject);
    }
  } catch (error) {
    return failedFinding(subject, "read", error);
  }
}

async function judgeOne(run: RunContext, workload: Workload): Promise<Finding> {
  const { config, cluster, now } = run;
  const subject = nameOf(workload);
  const early = judgeWithoutPods(workload);
  if (early && config.command === "run") return { subject, verdict: early, containers: [] };

  noteImageVolumes(run, workload);
  const pods = countingPods(currentPods(workload, await cluster.readOwnedObjects(workload)));
  const pullSecrets = pods.flatMap((pod) => pod.pullSecrets);
  // `rbac` and `doctor` look at the pods of every workload: they need the names of their Secrets.
  const known = config.command === "rbac" ? (early ?? notAsked) : early;
  if (known) return { subject, verdict: known, containers: [], pullSecrets };

  const judging = workload.containers.map((container) =>
    judgeOneContainer(run, { ...container, workload, pods, pullSecrets }),
  );
  const containers = await Promise.all(judging);
  const verdicts = new Map(containers.map((container) => [container.name, container.verdict]));
  const { retryIntervalMs, restartAnnotation } = config;
  const verdict = judgeWorkload({ pods, containers: verdicts, now: now(), retryIntervalMs, restartAnnotation });
  return { subject, verdict, containers: verdict.kind === "waiting" ? [] : containers, pullSecrets };
}

const notAsked: WorkloadVerdict = { kind: "unknown", reason: "no registry was asked" };

type ContainerInPods = { name: string; image: string; workload: Workload; pods: Pod[]; pullSecrets: string[] };

async function judgeOneContainer(run: RunContext, container: ContainerInPods): Promise<ContainerFinding> {
  const { name, image, workload, pods, pullSecrets } = container;
  const inPods = pods.flatMap((pod) => {
    const found = pod.containers.find((candidate) => candidate.name === name);
    return found ? [{ pod: pod.name, ...found, running: runningDigest(found.imageID) }] : [];
  });
  const facts: ContainerFacts = { image, pods: inPods };
  const running = inPods.map((entry) => entry.running);
  // The registry is asked only if its answer matters, with the credentials of the pods that count.
  if (running.some(({ kind }) => kind === "digest") && reasonToSkip(facts) === undefined) {
    const restarts = new Set(pods.map(({ annotations }) => restartedFor(annotations)[name]));
    facts.lookup = await run.pullSecrets.keyringOf(workload.namespace, pullSecrets).then(
      (keyring) => lookUp(run.registry, image, { running, restartedFor: restarts, keyring }),
      (error: Error) => ({ kind: "failed", error }),
    );
  }
  const credential = facts.lookup?.kind === "resolved" ? facts.lookup.credential : undefined;
  return { name, image, verdict: judgeContainer(facts), podCount: inPods.length, credential };
}

/** What the new pods run of the containers that were outdated; undefined while that cannot be told, because of pods
 *  that have not started for example. All is well if the pods run what the tag points to by now, or somebody has pinned
 *  the image. */
async function judgeAfterRollout(
  run: RunContext,
  workload: Workload,
  restarted: Restarted,
): Promise<Finding | undefined> {
  let after = await judgeOne(run, workload);
  if (troubleOf(after, restarted) === "outdated") {
    run.registry.forgetTags(workload.containers.map(({ image }) => image));
    after = await judgeOne(run, workload);
  }
  const trouble = troubleOf(after, restarted);
  if (trouble === undefined) return { ...restarted, verdict: { ...restarted.verdict, isRolledOut: true } };
  if (trouble === "unknown") return undefined;
  if (after.verdict.kind === "restarted") throw new Error("it has rolled out, and is outdated again");
  if (after.verdict.kind === "failed") throw new Error(`it has rolled out, and has ${describeReason(after.verdict)}`);
  return announce(run, workload, after);
}

// The first verdict, of those containers that it was restarted for, that is neither current nor skipped.
function troubleOf({ verdict, containers }: Finding, restarted: Restarted): ContainerVerdict["kind"] | undefined {
  if (verdict.kind === "waiting") return "unknown";
  const names = Object.keys(restarted.verdict.outdated);
  const kindsNow = containers.filter(({ name }) => names.includes(name)).map((container) => container.verdict.kind);
  return kindsNow.find((kind) => kind !== "current" && kind !== "skipped");
}

// A credential plugin that is still running is not waited for.
if (import.meta.main) void main(process.argv.slice(2), process.env, realOutside(connectCluster)).then(exitWith);
