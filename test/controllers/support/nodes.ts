/**
 * What is made up for want of nodes: the scheduler and the kubelets. They do to a pod what its controller waits for, and
 * write it where the real ones do.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { V1Container, V1Pod, V1PodList } from "@kubernetes/client-node";
import type { Digest } from "../../../lib/registry/manifest.ts";
import { ApiError, call } from "./api.ts";

/** The digest of an image that a pod names, at this moment; undefined where it cannot be pulled. */
export type Pull = (image: string) => Digest | undefined;

/** By what name a node knows an image that it has pulled. */
export type Report = (image: string, digest: Digest) => { imageID: string; containerID: string };

/** What the nodes do at present; a test may change it at any time. */
interface Habits {
  /** What they pull: what the registry has, unless a test puts a mirror in its place. */
  pull: Pull;
  /** What they say of it: what containerd says, unless a test has another runtime. */
  report: Report;
  /** The images whose containers start and never become ready. */
  bad: Set<Digest>;
  /** Whether there is room for further pods. */
  hasRoom: boolean;
  /** The names of those that are broken: the pods there are not ready, and do not end. */
  broken: Set<string>;
  /** Whether they pull images, and so start containers. */
  isPulling: boolean;
  /** Whether containers that have started become ready. Those that are ready stay so. */
  isMakingReady: boolean;
  /** Whether pods that are to end do end. */
  isEndingPods: boolean;
}

/** The nodes of one namespace. */
export interface Nodes extends Habits {
  /** Ends the play; rejects with what went wrong in it. */
  end: () => Promise<void>;
}

const everyMs = 100;

/** Plays them for the pods of a namespace until it is ended: binds a pod to a node, starts its containers with what the
 *  registry has then, makes them ready, and takes away pods that are to end. */
export function playNodes(namespace: string, pull: Pull): Nodes {
  const habits: Habits = {
    pull,
    report: asContainerd,
    bad: new Set(),
    hasRoom: true,
    broken: new Set(),
    isPulling: true,
    isMakingReady: true,
    isEndingPods: true,
  };
  const over = new AbortController();
  const play = async () => {
    while (!over.signal.aborted) {
      const { items } = await call<V1PodList>("GET", `/api/v1/namespaces/${namespace}/pods`);
      await Promise.all(items.map((pod) => tend(pod, habits).catch(passOverChange)));
      await sleep(everyMs);
    }
  };
  const played = play().then(
    () => undefined,
    (error: unknown) => error,
  );
  const end = async () => {
    over.abort();
    const error = await played;
    if (error !== undefined) throw error;
  };
  return Object.assign(habits, { end });
}

// The pod was deleted or written in between: the next look will see it.
function passOverChange(error: unknown): void {
  if (!(error instanceof ApiError && [404, 409].includes(error.status))) throw error;
}

async function tend(pod: V1Pod, habits: Habits): Promise<void> {
  const { namespace, name, uid, deletionTimestamp } = pod.metadata ?? {};
  const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
  const write = (status: object) => {
    return call("PATCH", `${path}/status`, { body: { metadata: { uid }, status }, type: "strategic-merge-patch" });
  };
  if (habits.broken.has(pod.spec?.nodeName ?? "")) {
    if (isReady(pod)) await write({ conditions: conditionsOf(false) });
    return;
  }
  if (deletionTimestamp !== undefined) {
    // A kubelet's last word: the containers have ended. The pod that has its name next may be there already.
    const body = { gracePeriodSeconds: 0, preconditions: { uid } };
    if (habits.isEndingPods) await call("DELETE", path, { body });
    return;
  }
  if (pod.spec?.nodeName === undefined) {
    if (!habits.hasRoom) return;
    const target = { apiVersion: "v1", kind: "Node", name: wantedNode(pod) };
    await call("POST", `${path}/binding`, { body: { metadata: { name }, target } });
  }
  const status = nextStatus(pod, habits);
  if (status) await write(status);
}

function isReady({ status }: V1Pod): boolean {
  return status?.conditions?.some(({ type, status: is }) => type === "Ready" && is === "True") ?? false;
}

// The DaemonSet controller says by an affinity which node it means.
function wantedNode({ spec }: V1Pod): string {
  const [term] = spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [];
  return term?.matchFields?.find(({ key }) => key === "metadata.name")?.values?.[0] ?? "a-node";
}

// Undefined where nothing is to be done.
function nextStatus({ spec, status }: V1Pod, habits: Habits): object | undefined {
  const { phase = "Pending", containerStatuses: before = [] } = status ?? {};
  if (phase === "Failed" || phase === "Succeeded") return undefined;
  const isDone = before.every(({ started, ready, imageID }) => {
    return started ? ready || !canBeReady(imageID, habits) : !habits.isPulling;
  });
  if (before.length > 0 && isDone) return undefined;

  const containerStatuses = (spec?.containers ?? []).map((container) => {
    const running = before.find(({ name, started }) => name === container.name && started);
    // A container that has started keeps its image until its pod ends.
    if (running) return Object.assign({}, running, { ready: running.ready || canBeReady(running.imageID, habits) });
    return startContainer(container, habits);
  });
  const conditions = conditionsOf(containerStatuses.every(({ ready }) => ready));
  const isRunning = containerStatuses.every(({ started }) => started);
  return { phase: isRunning ? "Running" : "Pending", conditions, containerStatuses };
}

function conditionsOf(ready: boolean): object[] {
  return ["ContainersReady", "Ready"].map((type) => {
    return { type, status: ready ? "True" : "False", lastTransitionTime: thisSecond() };
  });
}

function thisSecond(): string {
  return `${new Date().toISOString().slice(0, 19)}Z`;
}

function startContainer({ name, image = "" }: V1Container, habits: Habits) {
  const digest = habits.isPulling ? habits.pull(image) : undefined;
  const known = { name, image, restartCount: 0 };
  if (!digest) {
    const state = { waiting: { reason: "ErrImagePull" } };
    return { ...known, imageID: "", started: false, ready: false, state };
  }
  const reported = habits.report(image, digest);
  const ready = canBeReady(reported.imageID, habits);
  return { ...known, ...reported, started: true, ready, state: { running: { startedAt: thisSecond() } } };
}

function canBeReady(imageID: string, { bad, isMakingReady }: Habits): boolean {
  return isMakingReady && ![...bad].some((digest) => imageID.endsWith(digest));
}

/** `registry.example:5000/app:latest` → `registry.example:5000/app@sha256:…`. */
export const asContainerd: Report = (image, digest) => {
  const repository = image.replace(/@.*$/, "").replace(/:[^:/]*$/, "");
  return { imageID: `${repository}@${digest}`, containerID: "containerd://0123456789abcdef" };
};

/** Makes a Node for a DaemonSet to choose by a label. */
export async function makeNode(name: string, labels: Record<string, string>): Promise<void> {
  await call("POST", "/api/v1/nodes", { body: { metadata: { name, labels } } });
  // The API server taints a new node as not ready, and the node lifecycle controller takes that back.
  await call("PATCH", `/api/v1/nodes/${name}`, { body: { spec: { taints: null } }, type: "merge-patch" });
}
