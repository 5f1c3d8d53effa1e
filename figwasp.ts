#!/usr/bin/env node
/**
 * figwasp restarts a Kubernetes workload when its image tag has moved in the registry.
 *
 * Kubernetes starts a pod from `app:latest` and never looks again. figwasp looks, once, and ends:
 *
 *   config       which workloads, which deadlines                        lib/command/config.ts
 *   workloads    their templates, and the pods of the current revision   Cluster, countingPods
 *   references   the tag from the template, what runs from imageID       parseReference, runningDigest
 *   credentials  those that the kubelet would try                        gatherKeyring, and lib/credentials/keyring.ts
 *   registry     the digest that the tag resolves to now, by one HEAD    lookUp, and lib/registry/registry.ts
 *   verdicts     would a fresh pull bring other content?                 judgeContainer, judgeWorkload
 *   restarts     one PATCH of two pod-template annotations; a report     main, and lib/command/report.ts
 *
 * Run it with `npx tsx figwasp.ts`, with `node figwasp.ts`, or as a Job. `--help` lists the settings.
 * It keeps no state: what it did stands in the pod template, and so in the pods.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { V1Pod, V1Secret, V1SelfSubjectAccessReview } from "@kubernetes/client-node";
import { shareCall } from "./lib/calls.ts";
import { type Config, type Env, readConfig } from "./lib/command/config.ts";
import { diagnose, type Diagnosis } from "./lib/command/doctor.ts";
import { hintsFor } from "./lib/command/gitops.ts";
import { exitWith, realOutside } from "./lib/command/outside.ts";
import { printRoles, type Right, rightsOf, toSelection } from "./lib/command/rbac.ts";
import {
  describeEnd,
  describeReason,
  isTrouble,
  type Report,
  reportLines,
  subjectOf,
  terminationMessage,
  toEvent,
  type WorkloadEvent,
} from "./lib/command/report.ts";
import { closing, type Terminal } from "./lib/command/terminal.ts";
import { type Login, parseDockerConfig, quoteKey, readDockerConfig } from "./lib/credentials/docker-config.ts";
import type { Keyring, LoginSource } from "./lib/credentials/keyring.ts";
import { isForAnybody } from "./lib/credentials/keys.ts";
import { ConfigError } from "./lib/errors.ts";
import { traced } from "./lib/http/trace.ts";
import { boundFetch, type Fetch, HttpError, statusOf } from "./lib/http/transport.ts";
import { type Call, type ClusterConfig, connectApi, type KubernetesList, listAll } from "./lib/kubernetes/api.ts";
import {
  type AnyWorkload,
  type Kind,
  kinds,
  type Named,
  type Pod,
  type Secret,
  toControllerRevision,
  toPod,
  toReplicaSet,
  toSecret,
  toWorkload,
  type Workload,
} from "./lib/kubernetes/objects.ts";
import { LimitedClient } from "./lib/registry/limits.ts";
import { type Digest, imagesOf, type Manifest, UnreadableManifest } from "./lib/registry/manifest.ts";
import { parseReference, type Reference } from "./lib/registry/reference.ts";
import { describeMissingCredential, Registry } from "./lib/registry/registry.ts";
import type { Release } from "./lib/registry/release.ts";
import { messageOf, parseObject, printable, quote } from "./lib/text.ts";

export { parseChallenges } from "./lib/registry/challenge.ts";
export { matchingKeys } from "./lib/credentials/keys.ts";
export type { Digest } from "./lib/registry/manifest.ts";
export { parseReference, type Reference };
export type { Pod, Secret, Workload } from "./lib/kubernetes/objects.ts";

// --- Reference ---
// Which image a container names, and which digest its pod reports. The tag comes from the pod template and
// the digest from the status, never the other way round: imageID carries no tag, and may carry another
// repository's name (kubernetes/kubernetes#95385).

/** The digest that a container runs, or why the status does not tell. An image ID is the digest of the image's config;
 *  where Docker keeps its images in containerd, that of a manifest. */
export type Running = RunningDigest | { reason: string };
export type RunningDigest = { digest: Digest; isImageId: boolean };

/** `status.*ContainerStatuses[].imageID` → the running digest: `docker.io/library/nginx@sha256:…` from
 *  containerd and CRI-O, `docker-pullable://…` from cri-dockerd, a bare `sha256:…` or 64 hex digits for an
 *  image ID, empty before the start. Never throws: what it cannot read is a reason. */
export function runningDigest(imageID: string): Running {
  if (imageID === "") return { reason: "the container has not started" };
  const name = imageID.replace(/^[a-z][a-z0-9+.-]*:\/\//, "");
  // `kind load` and `ctr import` make up a name; its digest was never in a registry (kubernetes-sigs/kind#4184).
  if (/(?:^|\/)import-\d{4}-\d{2}-\d{2}@/.test(name)) return { reason: "the image was imported into the node" };

  const at = name.lastIndexOf("@");
  const found = /^(sha256:)?([a-f0-9]{64})$/.exec(name.slice(at + 1));
  if (!found || (at >= 0 && !found[1])) return { reason: `imageID ${quote(imageID)} holds no sha256 digest` };
  return { digest: `sha256:${found[2]}`, isImageId: at < 0 };
}

// --- Registry ---
// What a tag resolves to now, and what it means that a pod runs something else. How a registry is asked, and with which
// credential, stands in lib/: one HEAD for an image and run, a GET only to explain a difference.

/** What the registry says about a tag, and, where a container runs another digest, what that one means. Unknown: it has
 *  answered, with what cannot be read. */
export type Lookup =
  { kind: "failed"; error: Error } | { kind: "unknown"; reason: string } | ({ kind: "resolved" } & Resolved);

export interface Resolved extends Explanation {
  digest: Digest;
  /** Where the credential comes from that it took; absent if it took none. */
  credential?: string;
}

export interface Explanation {
  /** Of the tag's index. */
  children: Digest[];
  /** Of the tag's images, read for a running image ID; undefined where they could not be read. */
  configs: Digest[] | undefined;
  /** Running digests whose images the tag all still has: attestations were changed, or platforms added. */
  equivalent: Digest[];
  /** Running digests of which the tag has some images still. */
  partial: Digest[];
  /** Running digests that the repository does not have. */
  absent: Digest[];
  /** Running digests about which the registry did not answer. */
  failures: Map<Digest, Error>;
}

/** Resolves the tag of an image; looks further only to explain a difference. Never throws. */
export async function lookUp(
  registry: Registry,
  image: string,
  { running, keyring }: { running: Running[]; keyring: Keyring },
): Promise<Lookup> {
  const toError = (cause: unknown): Error => {
    if (cause instanceof SyntaxError) return cause;
    const message = messageOf(cause) + describeMissingCredential(cause, parseReference(image), keyring);
    return new Error(`Cannot resolve ${quote(image)}: ${registry.logins.redact(message)}`, { cause });
  };
  try {
    const reference = parseReference(image);
    const repository = registry.open(reference, keyring);
    const digest = await repository.resolve(reference.tag);
    const others = running.flatMap((found) => ("digest" in found && found.digest !== digest ? [found] : []));
    const read = (wanted: Digest) => repository.manifest(wanted);
    const explanation = await explain(digest, others, read);
    const failures = new Map([...explanation.failures].map(([other, cause]) => [other, toError(cause)]));
    const { credential } = repository;
    return { kind: "resolved", digest, ...explanation, failures, ...(credential !== undefined && { credential }) };
  } catch (cause) {
    const error = toError(cause);
    return cause instanceof UnreadableManifest ? { kind: "unknown", reason: error.message } : { kind: "failed", error };
  }
}

type ReadManifest = (digest: Digest) => Promise<Manifest | undefined>;

async function explain(digest: Digest, running: RunningDigest[], read: ReadManifest): Promise<Explanation> {
  const found: Explanation = {
    children: [],
    configs: [],
    equivalent: [],
    partial: [],
    absent: [],
    failures: new Map(),
  };
  if (running.length === 0) return found;
  const tag = await read(digest);
  if (!tag) throw new Error(`the repository no longer has ${digest}`);
  found.children = tag.children.map((child) => child.digest);

  const others = running.filter((other) => !found.children.includes(other.digest));
  if (others.some(({ isImageId }) => isImageId)) found.configs = await readConfigs(tag, read);
  // An image ID may be a manifest's digest too, where Docker keeps its images in containerd.
  const unexplained = others.filter((other) => !found.configs?.includes(other.digest));
  for (const [old, isImageId] of new Map(unexplained.map((other) => [other.digest, other.isImageId]))) {
    try {
      const manifest = await readOld(old, read);
      if (!manifest && !isImageId) found.absent.push(old);
      if (manifest && (await hasImagesOf(tag, manifest, read))) found.equivalent.push(old);
      else if (manifest && imagesOf(manifest).some((image) => found.children.includes(image.digest))) {
        found.partial.push(old);
      }
    } catch (error) {
      if (error instanceof UnreadableManifest) throw error;
      // One digest's trouble says nothing of another's; and of an image ID the configs have told already.
      if (!isImageId || !found.configs) found.failures.set(old, error as Error);
    }
  }
  return found;
}

// What runs, and cannot be read any more, is no image that the tag has.
async function readOld(digest: Digest, read: ReadManifest): Promise<Manifest | undefined> {
  try {
    return await read(digest);
  } catch (error) {
    if (!(error instanceof UnreadableManifest)) throw error;
    return { digest, children: [], config: undefined, annotations: undefined };
  }
}

// Whether every image of the old manifest is one of the tag's too. Nobody but the node knows which platform it
// runs, so all of them count. Equal configs are equal content: a config names its layers and its platform.
async function hasImagesOf(tag: Manifest, old: Manifest, read: ReadManifest): Promise<boolean> {
  const images = imagesOf(old);
  for (const image of images) {
    const fits = (other: string) => !other || !image.platform || other === image.platform;
    const candidates = imagesOf(tag).filter(({ platform }) => fits(platform));
    if (candidates.some(({ digest }) => digest === image.digest)) continue;
    const config = (await readOld(image.digest, read))?.config;
    const configs = await Promise.all(candidates.map(async ({ digest }) => (await read(digest))?.config));
    if (config === undefined || !configs.includes(config)) return false;
  }
  return images.length > 0;
}

async function readConfigs(tag: Manifest, read: ReadManifest): Promise<Digest[] | undefined> {
  const configs = await Promise.all(imagesOf(tag).map(async ({ digest }) => (await read(digest))?.config));
  return configs.length > 0 && configs.every((config) => config !== undefined) ? configs : undefined;
}

// --- Cluster ---
// The reads, the one change, and an Event that says so; each method is a verb of the Role in deploy/, or asks for one.
// How the API server is found and asked stands in lib/.

// A ReplicaSet holds a template as large as the Deployment's; only its metadata is of use.
const metadataOnly = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/** The API server, as far as figwasp asks it. */
export type Cluster = Awaited<ReturnType<typeof connectCluster>>;

/** Throws ConfigError where there is no cluster, and Error where it lets nobody in; its methods throw HttpError. */
export async function connectCluster(fetch: Fetch, config: ClusterConfig) {
  const { namespace: ownNamespace, call, clock } = await connectApi(fetch, config);
  return {
    clock,

    /** Where to look when no namespace is named. */
    namespace: ownNamespace,

    async getWorkload(kind: Kind, namespace: string, name: string): Promise<Workload> {
      return toWorkload(kind, (await call(workloadPath({ kind, namespace, name }))) as AnyWorkload);
    },

    /** In all namespaces where none is given. */
    listWorkloads(kind: Kind, namespace: string | undefined, selector: string): Promise<Workload[]> {
      const path = appsPath(namespace, `${kind}s`);
      return listAll(call, path, { selector, pick: (object: AnyWorkload) => toWorkload(kind, object) });
    },

    /** The pods of the newest template of each workload; none before the controller made them. They are looked for in one
     *  namespace, by one selector that fits them all. */
    readPods: (workloads: Iterable<Workload>, namespace: string, selector: string) =>
      readPods(call, [...workloads], { namespace, selector, annotations: [restartedForKey, config.restartAnnotation] }),

    /** Undefined where there is none. Status 403: the Role grants neither `get` nor `list`. */
    async getSecret(namespace: string, name: string): Promise<Secret | undefined> {
      const secret = await readSecret(call, namespace, name);
      return secret && toSecret(secret);
    },

    /** Whether the API server would let figwasp do so. */
    async mayI({ namespace, verb, group, resource, name }: Right): Promise<boolean> {
      const resourceAttributes = { namespace, verb, group, resource, name };
      const body = JSON.stringify({ spec: { resourceAttributes } });
      const path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
      const review = await call(path, { method: "POST", body });
      return (review as V1SelfSubjectAccessReview).status?.allowed === true;
    },

    /** For `kubectl describe`. Status 403: the Role does not grant it; 409: an Event of this name is there still. */
    async recordEvent(event: WorkloadEvent): Promise<void> {
      const path = `/api/v1/namespaces/${event.metadata.namespace}/events`;
      await call(path, { method: "POST", body: JSON.stringify(event) });
    },

    /** Sets annotations of the pod template. Status 409: the workload is no longer the one given. */
    annotateTemplate: (workload: Workload, annotations: Annotations) =>
      annotateTemplate(call, workload, { annotations, ...config }),
  };
}

type Annotations = Record<string, string>;

const restartedForKey = "figwasp/restarted-for";

function appsPath(namespace: string | undefined, rest: string): string {
  return `/apis/apps/v1/${namespace === undefined ? "" : `namespaces/${namespace}/`}${rest}`;
}

function workloadPath({ kind, namespace, name }: Named): string {
  return appsPath(namespace, `${kind}s/${name}`);
}

/** By the uid of the workload; an Error where they cannot be told from older ones. */
type PodsOf = Map<string, Pod[] | Error>;

interface Scope {
  namespace: string;
  selector: string;
  /** Those of a pod that are read. */
  annotations: string[];
}

// The controllers label each pod with its revision: a Deployment's pods belong to its ReplicaSet, the others' pods carry
// the name of a ControllerRevision, which a StatefulSet tells in its status and a DaemonSet does not.
async function readPods(call: Call, workloads: Workload[], scope: Scope): Promise<PodsOf> {
  const { namespace, selector, annotations } = scope;
  const failures = new Map<Kind, Error>();
  const listFor = async <T>(kind: Kind, resource: string, options: { pick: (object: never) => T; accept?: string }) => {
    if (!workloads.some((workload) => workload.kind === kind)) return [];
    const list = listAll(call, appsPath(namespace, resource), { selector, ...options });
    return list.catch((error: unknown) => {
      failures.set(kind, error as Error);
      return [];
    });
  };
  const replicaSets = await listFor("deployment", "replicasets", { pick: toReplicaSet, accept: metadataOnly });
  const revisions = await listFor("daemonset", "controllerrevisions", { pick: toControllerRevision });
  const pick = (pod: V1Pod) => toPod(pod, annotations);
  const pods = await listAll(call, `/api/v1/namespaces/${namespace}/pods`, { selector, pick });

  const replicaSetsOf = Map.groupBy(replicaSets, ({ ownerUid }) => ownerUid);
  // By number, not by age: an undo gives an old one the highest.
  const newest = new Map(revisions.toSorted((a, b) => a.number - b.number).map((each) => [each.ownerUid, each.hash]));
  const podsByOwner = Map.groupBy(pods, ({ ownerUid }) => ownerUid);
  const current = workloads.map(({ kind, uid, revision }): [string, Pod[] | Error] => {
    const error = failures.get(kind);
    if (error) return [uid, error];
    if (kind === "deployment") {
      const replicaSet = replicaSetsOf.get(uid)?.find((each) => revision && each.revision === revision);
      return [uid, (replicaSet && podsByOwner.get(replicaSet.uid)) ?? []];
    }
    const hash = kind === "statefulset" ? revision : newest.get(uid);
    return [uid, (podsByOwner.get(uid) ?? []).filter((pod) => hash && pod.revision === hash)];
  });
  return new Map(current);
}

// figwasp v1's Role grants `list` in place of `get`: it is asked for this one Secret alone.
async function readSecret(call: Call, namespace: string, name: string): Promise<V1Secret | undefined> {
  const path = `/api/v1/namespaces/${namespace}/secrets`;
  try {
    return (await call(`${path}/${encodeURIComponent(name)}`)) as V1Secret;
  } catch (refused) {
    if (statusOf(refused) === 404) return undefined;
    if (statusOf(refused) !== 403) throw refused;
    const query = new URLSearchParams({ fieldSelector: `metadata.name=${name}` });
    const listed = call(`${path}?${query.toString()}`) as Promise<KubernetesList<V1Secret>>;
    return (await listed.catch((error: unknown) => refuseAs(refused, error))).items?.[0];
  }
}

// Where the fallback is forbidden too, what the recommended Role lacks is the one to read about.
function refuseAs(refused: unknown, error: unknown): never {
  throw statusOf(error) === 403 ? refused : error;
}

// With the resourceVersion the API server refuses to write where the workload is no longer the one that was
// judged, so that two runs at once restart once.
async function annotateTemplate(
  call: Call,
  workload: Workload,
  { annotations, fieldManager }: ClusterConfig & { annotations: Annotations },
): Promise<void> {
  const { resourceVersion } = workload;
  const path = workloadPath(workload);
  const query = `?${new URLSearchParams({ fieldManager }).toString()}`;
  try {
    const patch = { metadata: { resourceVersion }, spec: { template: { metadata: { annotations } } } };
    const headers = { "content-type": "application/strategic-merge-patch+json" };
    const patched = (await call(path + query, {
      method: "PATCH",
      headers,
      body: JSON.stringify(patch),
    })) as AnyWorkload;
    refuseLost(`PATCH ${path}`, patched, annotations);
  } catch (refused) {
    if (statusOf(refused) !== 403) throw refused;
    // figwasp v1's Role grants "update" in place of "patch". The object goes back as it came, unknown fields too.
    const raw = (await call(path).catch((error: unknown) => refuseAs(refused, error))) as {
      metadata: { resourceVersion: string };
      spec: { template: { metadata?: { annotations?: Annotations } } };
    };
    if (raw.metadata.resourceVersion !== resourceVersion) throw new HttpError(409, `${path} has changed in between`);
    const { template } = raw.spec;
    template.metadata = { ...template.metadata, annotations: { ...template.metadata?.annotations, ...annotations } };
    const put = call(path + query, { method: "PUT", body: JSON.stringify(raw) }) as Promise<AnyWorkload>;
    refuseLost(`PUT ${path}`, await put.catch((error: unknown) => refuseAs(refused, error)), annotations);
  }
}

// A webhook may take out what it does not know. Without its note each run would restart the workload again.
function refuseLost(asked: string, { spec }: AnyWorkload, annotations: Annotations): void {
  if (!spec?.template) return; // no answer of an API server
  const lost = Object.keys(annotations).filter((key) => spec.template.metadata?.annotations?.[key] === undefined);
  if (lost.length === 0) return;
  throw new Error(`${asked}: the pod template has no annotation ${lost.join(", ")} now, something takes it out again`);
}

// --- Judge ---
// Pure functions: from plain data to a verdict. Uncertain is never a restart and never "current".

/** One container of a workload, with all that is known of it. */
export interface ContainerFacts {
  /** As the pod template names it. */
  image: string;
  /** The container in each pod of the current revision that has it. */
  pods: { pod: string; pullPolicy: string; running: Running }[];
  /** Absent where nobody asked, because the answer could not matter. */
  lookup?: Lookup;
}

export interface OutdatedContainer {
  kind: "outdated";
  running: Digest;
  /** Further ones that its pods run; absent where they all run the same. */
  alsoRunning?: Digest[];
  resolved: Digest;
  pods: string[];
  /** Whether the repository no longer has the running digest. */
  isAbsent: boolean;
  /** Whether the tag still has some of the images that may be running. */
  isPartial: boolean;
  /** Why the registry did not tell about another digest that its pods run; absent if it told of all. */
  failure?: Error;
}

export type ContainerVerdict =
  | { kind: "current"; resolved: Digest; isEquivalent: boolean }
  | OutdatedContainer
  | { kind: "unknown"; reason: string }
  | { kind: "skipped"; reason: string }
  | { kind: "failed"; error: Error };

// Why a container is no candidate for a restart whatever the registry says; undefined if it is one.
function reasonToSkip({ image, pods }: ContainerFacts): string | undefined {
  if (image.includes("@")) return "pinned by digest";
  const [first] = pods;
  if (first && pods.every(({ pullPolicy }) => pullPolicy !== "Always")) {
    return `imagePullPolicy is ${first.pullPolicy}, so that a restart would not pull: set it to Always`;
  }
  return undefined;
}

/** The verdict over all pods of the current revision: their worst. */
export function judgeContainer(facts: ContainerFacts): ContainerVerdict {
  const skip = reasonToSkip(facts);
  if (skip !== undefined) return { kind: "skipped", reason: skip };

  const pulling = facts.pods.filter(({ pullPolicy }) => pullPolicy === "Always");
  const verdicts = pulling.map(({ pod, running }) => judgeRunning(pod, running, facts.lookup));
  const outdated = verdicts.filter((verdict) => verdict.kind === "outdated");
  const failed = verdicts.find((verdict) => verdict.kind === "failed");
  const first = outdated.find(({ isPartial }) => !isPartial) ?? outdated[0];
  if (first) return { ...joinOutdated(first, outdated), ...(failed && { failure: failed.error }) };
  const ofKind = (kind: ContainerVerdict["kind"]) => verdicts.find((verdict) => verdict.kind === kind);
  const none = { kind: "unknown", reason: "no pod has this container" } as const;
  return failed ?? ofKind("unknown") ?? ofKind("current") ?? none;
}

function joinOutdated(first: OutdatedContainer, all: OutdatedContainer[]): OutdatedContainer {
  const others = new Set(all.map(({ running }) => running).filter((running) => running !== first.running));
  const also = others.size > 0 && { alsoRunning: [...others] };
  return { ...first, ...also, pods: all.flatMap(({ pods }) => pods) };
}

function judgeRunning(pod: string, running: Running, lookup: Lookup | undefined): ContainerVerdict {
  if ("reason" in running) return { kind: "unknown", reason: `pod ${pod}: ${running.reason}` };
  if (!lookup) return { kind: "unknown", reason: `pod ${pod}: the registry was not asked` };
  if (lookup.kind === "failed") return lookup;
  if (lookup.kind === "unknown") return { kind: "unknown", reason: `pod ${pod}: ${lookup.reason}` };

  const { digest: resolved, children, configs, equivalent, partial, absent, failures } = lookup;
  const { digest, isImageId } = running;
  const isEquivalent = equivalent.includes(digest);
  const isSame = digest === resolved || children.includes(digest) || configs?.includes(digest);
  if (isSame || isEquivalent) return { kind: "current", resolved, isEquivalent };
  const error = failures.get(digest);
  if (error) return { kind: "failed", error };
  if (isImageId && !configs) return { kind: "unknown", reason: `pod ${pod}: its image ID cannot be compared` };
  const found = { isAbsent: absent.includes(digest), isPartial: partial.includes(digest) };
  return { kind: "outdated", running: digest, resolved, pods: [pod], ...found };
}

export type WorkloadVerdict =
  // To be restarted, until the restart is made; rolled out, where that was waited for.
  | { kind: "restarted"; outdated: Record<string, Digest>; isRolledOut?: true }
  | { kind: "not converged" | "waiting" | "skipped" | "unknown"; reason: string }
  | { kind: "failed"; error: Error }
  | { kind: "current" };

/** The verdict where the object alone says enough; undefined where the pods have to be looked at. */
export function judgeWithoutPods(workload: Workload): WorkloadVerdict | undefined {
  if (workload.isPaused) return { kind: "skipped", reason: "paused: kubectl rollout resume lets it roll again" };
  if (workload.isOnDelete) {
    return { kind: "skipped", reason: "its update strategy is OnDelete: delete its pods, or set RollingUpdate" };
  }
  if (!workload.isObserved) return { kind: "waiting", reason: "the controller has not seen the newest template yet" };
  const { kind, replicas, partition } = workload;
  if (replicas === 0 && kind === "daemonset") return { kind: "skipped", reason: "no node wants a pod of it" };
  if (replicas === 0) return { kind: "skipped", reason: "scaled to zero: there is nothing to compare" };
  if (partition >= replicas) {
    const reason = `its partition of ${partition} keeps all ${replicas} pods from being replaced: lower it`;
    return { kind: "skipped", reason };
  }
  return undefined;
}

/** The pods that count: not those that are ending or have ended, Evicted ones among them, which stay listed
 *  with what they ran (kubernetes/kubernetes#91672). */
export function countingPods(pods: Pod[]): Pod[] {
  return pods.filter(({ isTerminating, phase }) => !isTerminating && phase !== "Succeeded" && phase !== "Failed");
}

export interface WorkloadFacts {
  /** The pods that count, of the current revision. */
  pods: Pod[];
  containers: Map<string, ContainerVerdict>;
  now: Date;
  retryIntervalMs: number | undefined;
  /** Under which annotation the pods tell when they were restarted. */
  restartAnnotation?: string;
}

/** From the verdicts of the containers, by name, to that of the workload. `restarted` asks for the restart. */
export function judgeWorkload(facts: WorkloadFacts): WorkloadVerdict {
  const { pods, containers } = facts;
  const hasStarted = pods.some((pod) => pod.containers.some(({ imageID }) => imageID !== ""));
  if (!hasStarted) return { kind: "waiting", reason: "no pod of the current revision has started" };

  const all = [...containers];
  const outdated = all.flatMap(([name, verdict]) => (verdict.kind === "outdated" ? [{ name, ...verdict }] : []));
  const tried = outdated.filter((container) => wasRestartedFor(container, pods));
  // A node that knows an image by two indexes names the first by alphabet.
  const unclear = tried.find(({ isPartial }) => isPartial);
  const stuck = tried.filter(({ isPartial }) => !isPartial);
  const isRetried = stuck.length > 0 && isRetryDue(facts);
  if (outdated.length > tried.length || isRetried) {
    return { kind: "restarted", outdated: Object.fromEntries(outdated.map(({ name, resolved }) => [name, resolved])) };
  }
  const [first] = stuck;
  if (first) return { kind: "not converged", reason: whyStuck(first, facts) };

  const namesOf = (kind: string) => all.flatMap(([name, verdict]) => (verdict.kind === kind ? [name] : [])).join(", ");
  if (namesOf("failed")) return { kind: "failed", error: new Error(`no answer for ${namesOf("failed")}`) };
  if (unclear) return { kind: "unknown", reason: whyUnclear(unclear) };
  if (namesOf("unknown")) return { kind: "unknown", reason: `cannot tell for ${namesOf("unknown")}` };
  if (namesOf("current")) return { kind: "current" };
  return { kind: "skipped", reason: "no container whose image a restart could change" };
}

type Outdated = OutdatedContainer & { name: string };

// Whether its outdated pods were themselves made by figwasp's restart for this very digest.
function wasRestartedFor({ name, resolved, pods: outdated }: Outdated, pods: Pod[]): boolean {
  return pods.every((pod) => !outdated.includes(pod.name) || restartedFor(pod.annotations)[name] === resolved);
}

/** What the last restart was for, by container name, from the annotations of a pod or a template; what is not
 *  figwasp's own writing counts as nothing. */
export function restartedFor(annotations: Record<string, string>): Record<string, unknown> {
  return parseObject(annotations[restartedForKey] ?? "") ?? {};
}

function restartTimes({ pods, restartAnnotation = "kubectl.kubernetes.io/restartedAt" }: WorkloadFacts) {
  return pods.map(({ annotations }) => annotations[restartAnnotation]);
}

function isRetryDue(facts: WorkloadFacts): boolean {
  const { now, retryIntervalMs = Infinity } = facts;
  return restartTimes(facts).every((time = "") => now.getTime() - Date.parse(time) >= retryIntervalMs);
}

function whyUnclear({ name, running, resolved }: Outdated): string {
  const why = "an older index with some of the same images: the nodes may know one by either name";
  return `${name} was restarted for ${resolved}, and its pods run ${running}, ${why}`;
}

// The likeliest cause first, from what the registry knows of the digest that the nodes pulled.
function whyStuck({ name, running, resolved, isAbsent }: Outdated, facts: WorkloadFacts): string {
  const when = restartTimes(facts).find((time) => time !== undefined) ?? "a time that no pod tells";
  const retry = facts.retryIntervalMs === undefined ? ", or set FIGWASP_RETRY_INTERVAL" : "";
  const mirror = "they pull through a mirror or cache that still serves an older image";
  const proxy = "a proxy rewrites the image, or the nodes know it by another repository's name";
  const likely = isAbsent ? `${proxy}; or ${mirror}` : `${mirror}; or ${proxy}`;
  return (
    `${name} was restarted for ${resolved} at ${when}, and its pods run ${running}. Likely ${likely}; or somebody ` +
    `rolled it out since. Mount the nodes' certs.d folder as FIGWASP_CERTS_DIR to ask where they ask${retry}, or restart it by hand`
  );
}

// --- Report ---
// What was found. How it is told, as lines or as JSON, stands in lib/.

/** What was found of a workload, or that a list of them could not be had: `deployments in shop`. */
export interface Finding {
  of: Named | string;
  verdict: WorkloadVerdict;
  /** The Secrets that its pods name; absent where no pod was read. */
  pullSecrets?: string[];
  containers: {
    name: string;
    image: string;
    verdict: ContainerVerdict;
    podCount: number;
    /** Where the credential comes from that its registry took: `key "ghcr.io" of Secret shop/pull`. */
    credential?: string | undefined;
    /** What the owner calls the image that it is restarted for. */
    release?: Release | undefined;
  }[];
}

// --- Main ---
// Ties the sections together: reads, judges, restarts, reports. Catches once per workload, so that one bad
// workload never hides another, and once for all.

/** What `main` reaches of the world, beside the files that its settings name. */
export interface Outside {
  fetch: Fetch;
  connect: (fetch: Fetch, config: ClusterConfig) => Promise<Cluster>;
  now: () => Date;
  log: (line: string) => void;
  /** Absent: `log`. */
  logError?: (line: string) => void;
  /** Where `log` goes, if that is a terminal. */
  terminal?: Terminal;
  /** Shows a person how far the run is; absent where nobody looks on. */
  progress?: (text: string) => void;
  /** Leaves what `kubectl describe` shows of a pod that has ended. */
  end?: (message: string) => Promise<void>;
  /** Ends the run; its reason says why, such as a signal of the operating system. */
  stop?: AbortSignal;
}

/** Runs once. Resolves to the exit code: 0 judged and acted on, 1 something failed, 2 bad variable or no cluster. */
export async function main(argv: readonly string[], env: Env, outside: Outside): Promise<number> {
  try {
    const config = readConfig(argv, env);
    if ("print" in config) {
      outside.log(config.print);
      return 0;
    }
    const shared = await prepare(config, outside);
    const findings = await examineAll(shared);
    if (config.command === "rbac") {
      outside.log(await printRoles(findings, shared.where));
      return 0;
    }
    if (config.command === "doctor") {
      const { lines, isWell } = diagnose(await gatherDiagnosis(shared, findings), outside.terminal);
      for (const line of lines) outside.log(line);
      return isWell ? 0 : 1;
    }
    const exitCode = findings.some(isTrouble) ? 1 : 0;
    const notes = [...ownNotes(shared), ...shared.registry.notes];
    const report: Report = { findings, notes, isDryRun: config.isDryRun, exitCode };
    await outside.end?.(terminationMessage(report));
    for (const line of closing(report, config.output, outside.terminal)) outside.log(line);
    return exitCode;
  } catch (error) {
    const message = describeEnd(error);
    (outside.logError ?? outside.log)(message);
    await outside.end?.(message);
    return error instanceof ConfigError ? 2 : 1;
  }
}

/** What the functions below share during a run. */
interface Run {
  config: Config;
  /** Which workloads, in the end. */
  where: Pick<Config, "targets" | "isAllNamespaces"> & { namespace: string };
  cluster: Cluster;
  registry: Registry;
  /** Workloads of a namespace in which there are many, and its pods by their uid, read at once. */
  crowds: Map<string, Set<Workload>>;
  podsOfCrowds: Map<string, Promise<PodsOf>>;
  /** By `namespace/name`. */
  secrets: Map<string, Promise<LoginSource>>;
  /** The docker config that is mounted, where one is. */
  mounted: LoginSource | undefined;
  /** Something to be read once a run, beside the verdicts. */
  notes: Set<string>;
  /** Ends the run. */
  signal: AbortSignal;
  now: () => Date;
  /** For the log, while the run goes on. */
  tell: (line: string) => void;
  /** For somebody who looks on. */
  progress: (text: string) => void;
}

const workloadsAtOnce = 4;

async function prepare(config: Config, outside: Outside): Promise<Run> {
  const deadline = new AbortController();
  const isOver = new Error(`the run has reached its deadline of ${config.runTimeoutMs / 1000} s`);
  setTimeout(() => deadline.abort(isOver), config.runTimeoutMs).unref();
  const signal = AbortSignal.any([deadline.signal, ...(outside.stop ? [outside.stop] : [])]);
  const trace = (line: string) => (outside.logError ?? outside.log)(registry.logins.redact(line));
  const asked = config.isVerbose ? traced(outside.fetch, trace) : outside.fetch;
  const fetch = boundFetch(asked, config.clientTimeoutMs, signal);
  const registry = new Registry(config, new LimitedClient(fetch, { signal }));
  const dockerConfig = config.dockerConfig === undefined ? undefined : await readDockerConfig(config.dockerConfig);
  const mounted = dockerConfig && toSource(dockerConfig.file, dockerConfig.logins);
  // A credential plugin of the kubeconfig knows no deadline.
  const ended = new Promise<never>((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(new Error(`Cannot connect: ${messageOf(signal.reason)}`)));
  });
  const cluster = await Promise.race([outside.connect(fetch, config), ended]);
  const where = { ...config, namespace: config.namespace ?? cluster.namespace };
  const isLog = config.command === "run" && config.output === "text" && !outside.terminal;
  const tell = (line: string) => (isLog ? outside.log(line) : undefined);
  const { now, progress = () => {} } = outside;
  const read = { crowds: new Map(), podsOfCrowds: new Map(), secrets: new Map(), notes: new Set<string>() };
  return { config, where, cluster, registry, ...read, mounted, signal, now, tell, progress };
}

// In the order in which they were selected, whichever was done first.
async function examineAll(shared: Run): Promise<Finding[]> {
  const { config, tell, progress } = shared;
  progress("reading the workloads");
  const selected = await selectWorkloads(shared);
  const queue = selected.entries();
  const findings: Finding[] = [];
  let done = 0;
  const isFollowed = (finding: Finding): finding is Restarted =>
    config.isWaiting && !config.isDryRun && finding.verdict.kind === "restarted";
  const keep = (at: number, finding: Finding) => {
    findings[at] = finding;
    for (const line of reportLines(finding, config.isDryRun)) tell(line);
  };
  const work = async () => {
    for (const [at, next] of queue) {
      const finding = "verdict" in next ? next : await converge(shared, next);
      if (isFollowed(finding)) findings[at] = finding;
      else keep(at, finding);
      progress(`${++done} of ${selected.length} workloads looked at`);
    }
  };
  await Promise.all(Array.from({ length: workloadsAtOnce }, work));
  // Only then: nobody's restart waits for another's rollout.
  const followed = findings.flatMap((finding, at) => (isFollowed(finding) ? [{ finding, at }] : []));
  const everyMs = pollMs * Math.max(1, followed.length / workloadsAtOnce);
  await Promise.all(followed.map(async ({ finding, at }) => keep(at, await follow(shared, finding, everyMs))));
  return findings;
}

/** A finding of a workload that was restarted. */
type Restarted = Finding & { of: Named; verdict: Extract<WorkloadVerdict, { kind: "restarted" }> };

// What figwasp has met beside the verdicts, other than with registries.
function ownNotes({ notes, registry }: Run): string[] {
  return Array.from(notes, (note) => printable(registry.logins.redact(note)));
}

// What the doctor looks at beside the verdicts.
async function gatherDiagnosis(shared: Run, findings: Finding[]): Promise<Diagnosis> {
  const { cluster, registry, where } = shared;
  const wanted = rightsOf(toSelection(findings, where));
  const rights = await Promise.all(wanted.map(async (right) => ({ right, isGranted: await cluster.mayI(right) })));
  const { visits, remarks, client } = registry;
  const notes = [...ownNotes(shared), ...remarks];
  return { rights, findings, visits, quotas: client.quotas, notes, aheadMs: cluster.clock.aheadMs };
}

// From so many on, a namespace's pods are read at once: in pages of 500, in place of two small lists for each workload.
const crowdSize = 8;

/** A workload to look at, read already where it came from a list. */
type Selected = Named & { workload?: Workload };

// The named workloads, or what the selector finds of each kind; that a kind cannot be listed is a finding.
async function selectWorkloads(shared: Run): Promise<(Selected | Finding)[]> {
  const { config, cluster } = shared;
  const { namespace } = shared.where;
  if (config.targets.length > 0) return config.targets.map((target) => ({ ...target, namespace }));

  const where = config.isAllNamespaces ? undefined : namespace;
  const lists = kinds.map(async (kind) => {
    try {
      const found = await cluster.listWorkloads(kind, where, config.selector);
      return found.map((workload) => ({ kind, namespace: workload.namespace, name: workload.name, workload }));
    } catch (error) {
      return [failure(`${kind}s ${where === undefined ? "in all namespaces" : `in ${where}`}`, "list", error)];
    }
  });
  const selected = (await Promise.all(lists)).flat();
  const workloads = selected.flatMap((each) => ("workload" in each ? [each.workload] : []));
  for (const [each, found] of Map.groupBy(workloads, (workload) => workload.namespace)) {
    if (found.length >= crowdSize) shared.crowds.set(each, new Set(found));
  }
  return selected;
}

// Of a workload that is changed all the time; its controller's own notes on the status count as changes.
const looksAtMost = 5;

// Judges a workload and restarts it where it is outdated; judges it again where it was changed in between, by another
// figwasp perhaps.
async function converge(shared: Run, selected: Selected, look = 1): Promise<Finding> {
  const { kind, namespace, name } = selected;
  const named = { kind, namespace, name };
  try {
    const workload = selected.workload ?? (await shared.cluster.getWorkload(kind, namespace, name));
    const found = await examine(shared, workload);
    const { verdict, containers } = found;
    const { isDryRun } = shared.config;
    try {
      if (verdict.kind === "restarted" && !isDryRun) await restart(shared, workload, verdict.outdated);
    } catch (error) {
      if (statusOf(error) !== 409 || look === looksAtMost) return { ...failure(named, "restart", error), containers };
      forgetTags(shared, workload);
      return await converge(shared, named, look + 1);
    }
    if (verdict.kind === "restarted") noteAppliers(shared, workload);
    const finding = await findReleases(shared, { of: named, ...found });
    if (!isDryRun) await announce(shared, workload, finding);
    return finding;
  } catch (error) {
    return failure(named, "read", error);
  }
}

function failure(of: Finding["of"], verb: string, cause: unknown): Finding {
  const error = new Error(`Cannot ${verb} ${subjectOf(of)}: ${messageOf(cause)}`, { cause });
  return { of, verdict: { kind: "failed", error }, containers: [] };
}

// Newer pods may run what the tag points to only now.
function forgetTags({ registry }: Run, { containers }: Workload): void {
  for (const { image } of containers) {
    try {
      registry.forgetTag(parseReference(image));
    } catch {
      // It failed before, and will again.
    }
  }
}

const pollMs = 500;
const passingStatuses = new Set([429, 500, 502, 503, 504]);

// Follows a restart as `kubectl rollout status` does, then looks at what the new pods run.
async function follow(shared: Run, restarted: Restarted, everyMs: number): Promise<Finding> {
  const { of: named, containers } = restarted;
  let progress = "";
  try {
    for (;;) {
      const workload = await shared.cluster.getWorkload(named.kind, named.namespace, named.name).catch(passOver);
      if (workload?.rollout.failure !== undefined) throw new Error(workload.rollout.failure);
      const after = workload?.rollout.isComplete ? await lookAfter(shared, workload, restarted) : undefined;
      if (after) return after;
      const now = workload?.rollout.progress ?? progress;
      const line = `${subjectOf(named)}: rolling out, ${now}`;
      if (now !== progress) for (const show of [shared.tell, shared.progress]) show(line);
      progress = now;
      await sleep(everyMs, undefined, shared).catch(() => shared.signal.throwIfAborted());
    }
  } catch (error) {
    const last = progress && ` (${progress})`;
    return { ...failure(named, "follow the rollout of", `${messageOf(error)}${last}`), containers };
  }
}

// An API server that is busy, or is itself being replaced.
function passOver(error: unknown): undefined {
  if (!passingStatuses.has(statusOf(error) ?? 0)) throw error;
}

// What the new pods run of the containers that were outdated; undefined while it cannot be told, as of pods that came
// since. The tag may have moved again, or somebody may have pinned it.
async function lookAfter(shared: Run, workload: Workload, restarted: Restarted): Promise<Finding | undefined> {
  const { of, verdict } = restarted;
  const look = async () => {
    const after = await examine(shared, workload);
    const kindsNow = after.containers.flatMap((each) => (each.name in verdict.outdated ? [each.verdict.kind] : []));
    const trouble = kindsNow.find((kind) => kind !== "current" && kind !== "skipped");
    return { after, trouble: after.verdict.kind === "waiting" ? "unknown" : trouble };
  };
  let { after, trouble } = await look();
  if (trouble === "outdated") {
    forgetTags(shared, workload);
    ({ after, trouble } = await look());
  }
  if (trouble === undefined) return { ...restarted, verdict: { ...verdict, isRolledOut: true } };
  if (trouble === "unknown") return undefined;
  if (after.verdict.kind === "restarted") throw new Error("it has rolled out, and is outdated again");
  if (after.verdict.kind === "failed") throw new Error(`it has rolled out, and has ${describeReason(after.verdict)}`);
  await announce(shared, workload, { of, ...after });
  return { of, ...after };
}

// The pods that count. Those of a crowd were read at once for all of it; a workload that was read again is none of it.
async function podsOf({ cluster, crowds, podsOfCrowds }: Run, workload: Workload): Promise<Pod[]> {
  const { namespace, uid, selector } = workload;
  const crowd = crowds.get(namespace);
  const found = crowd?.has(workload)
    ? shareCall(podsOfCrowds, namespace, () => cluster.readPods(crowd, namespace, ""))
    : cluster.readPods([workload], namespace, selector);
  const pods = (await found).get(uid) ?? [];
  if (pods instanceof Error) throw pods;
  return countingPods(pods);
}

const notAsked: WorkloadVerdict = { kind: "unknown", reason: "no registry was asked" };

async function examine(shared: Run, workload: Workload): Promise<Omit<Finding, "of">> {
  const { config, now } = shared;
  const passed = judgeWithoutPods(workload);
  if (passed && config.command === "run") return { verdict: passed, containers: [] };

  noteImageVolumes(shared, workload);
  const pods = await podsOf(shared, workload);
  const pullSecrets = pods.flatMap((pod) => pod.pullSecrets);
  if (passed || config.command === "rbac") return { verdict: passed ?? notAsked, containers: [], pullSecrets };
  const containers = await Promise.all(
    workload.containers.map(async ({ name, image }) => {
      const facts = await gatherFacts(shared, workload, { name, image, pods });
      const credential = facts.lookup?.kind === "resolved" ? facts.lookup.credential : undefined;
      return { name, image, verdict: judgeContainer(facts), podCount: facts.pods.length, credential };
    }),
  );
  const verdicts = new Map(containers.map(({ name, verdict }) => [name, verdict]));
  const { retryIntervalMs, restartAnnotation } = config;
  const verdict = judgeWorkload({ pods, containers: verdicts, now: now(), retryIntervalMs, restartAnnotation });
  return { verdict, containers: verdict.kind === "waiting" ? [] : containers, pullSecrets };
}

async function gatherFacts(
  shared: Run,
  { namespace }: Workload,
  { name, image, pods }: { name: string; image: string; pods: Pod[] },
): Promise<ContainerFacts> {
  const found = pods.flatMap((pod) => {
    const container = pod.containers.find((each) => each.name === name);
    return container ? [{ pod: pod.name, ...container, running: runningDigest(container.imageID) }] : [];
  });
  const facts: ContainerFacts = { image, pods: found };
  const running = found.map((entry) => entry.running);
  const isComparable = running.some((entry) => "digest" in entry) && reasonToSkip(facts) === undefined;
  if (!isComparable) return facts;
  try {
    const keyring = await gatherKeyring(shared, namespace, pods);
    return { ...facts, lookup: await lookUp(shared.registry, image, { running, keyring }) };
  } catch (error) {
    return { ...facts, lookup: { kind: "failed", error: error instanceof Error ? error : new Error(String(error)) } };
  }
}

// Each Secret is read once a run, and only if a pod that counts names it.
async function gatherKeyring(shared: Run, namespace: string, pods: Pod[]): Promise<Keyring> {
  const names = [...new Set(pods.flatMap(({ pullSecrets }) => pullSecrets))];
  const read = (name: string) =>
    shareCall(shared.secrets, `${namespace}/${name}`, () => readLogins(shared, namespace, name));
  const secrets = await Promise.all(names.map(read));
  const mounted = shared.mounted ? [shared.mounted] : [];
  const sources = [secrets, mounted].map((group) => group.flatMap(({ logins }) => logins));
  return { sources, whyNoneUsable: [...secrets, ...mounted].map(({ whyNoneUsable }) => whyNoneUsable) };
}

// What the kubelet passes over is noted; what would make its pulls fail is thrown.
async function readLogins({ cluster, notes, mounted }: Run, namespace: string, name: string): Promise<LoginSource> {
  const source = `Secret ${namespace}/${name}`;
  const without = (whyNoneUsable: string): LoginSource => {
    // A Role that grants nothing on Secrets is a way to use a mounted docker config.
    if (!mounted) notes.add(whyNoneUsable);
    return { logins: [], whyNoneUsable };
  };
  try {
    const secret = await cluster.getSecret(namespace, name);
    if (!secret) return without(`${source} is not there`);
    const { type, config, isOlderForm } = secret;
    if (!config) return without(`${source} of type ${quote(type)} is no docker config`);
    const logins = parseDockerConfig(config, isOlderForm);
    for (const { key } of logins.filter((login) => isForAnybody(login.key))) {
      notes.add(`key ${quoteKey(key)} of ${source} gives its credential to registries of whatever owner`);
    }
    return toSource(source, logins);
  } catch (cause) {
    if (statusOf(cause) === 403) return without(`${source} may not be read: ${messageOf(cause)}`);
    throw new Error(`Cannot use ${source}: ${messageOf(cause)}`, { cause });
  }
}

function toSource(source: string, logins: Login[]): LoginSource {
  const whyNoneUsable = `no key of ${source} that holds a credential matches`;
  return { logins: logins.map((login) => ({ ...login, source })), whyNoneUsable };
}

// What `kubectl rollout restart` writes, and beside it what the restart was for: template annotations reach
// the pods, so that each pod says itself which restart it comes from. What earlier restarts of other
// containers were for stays, or they would be restarted for the same digest again.
async function restart(
  { cluster, config, now }: Run,
  workload: Workload,
  outdated: Record<string, Digest>,
): Promise<void> {
  const earlier = Object.entries(restartedFor(workload.annotations));
  const kept = earlier.filter(([name]) => workload.containers.some((container) => container.name === name));
  await cluster.annotateTemplate(workload, {
    [config.restartAnnotation]: `${now().toISOString().slice(0, 19)}Z`,
    [restartedForKey]: JSON.stringify({ ...Object.fromEntries(kept), ...outdated }),
  });
}

function noteImageVolumes({ notes }: Run, workload: Workload): void {
  for (const { name, image } of workload.imageVolumes) {
    const subject = subjectOf(workload);
    notes.add(`${subject}: image volume ${name} (${image}) is not checked: figwasp looks at containers alone`);
  }
}

// What applies a manifest again may take the annotations of a restart out, which is another rollout.
function noteAppliers({ config, notes }: Run, { marks }: Workload): void {
  for (const line of hintsFor(marks, config.fieldManager)) notes.add(line);
}

// After the restart, which does not wait for what is only told.
async function findReleases({ registry }: Run, finding: Finding): Promise<Finding> {
  if (finding.verdict.kind !== "restarted") return finding;
  const containers = finding.containers.map(async (container) => {
    const { image, verdict } = container;
    return verdict.kind === "outdated"
      ? { ...container, release: await registry.releaseOf(parseReference(image), verdict.resolved) }
      : container;
  });
  return { ...finding, containers: await Promise.all(containers) };
}

// Who may not write Events goes without; they are no part of the work.
async function announce({ cluster, notes, now }: Run, { uid }: Workload, finding: Finding): Promise<void> {
  const event = toEvent(finding, uid, now());
  try {
    if (event) await cluster.recordEvent(event);
  } catch (error) {
    const isExpected = [403, 409].includes(statusOf(error) ?? 0);
    if (!isExpected) notes.add(`Cannot write an Event of ${subjectOf(finding.of)}: ${messageOf(error)}`);
  }
}

// A credential plugin that is still at work is not waited for.
if (import.meta.main) void main(process.argv.slice(2), process.env, realOutside(connectCluster)).then(exitWith);
