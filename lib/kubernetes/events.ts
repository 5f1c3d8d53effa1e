/**
 * Events of the core API, which `kubectl describe` shows under the workload that they are about.
 */
import { createHash } from "node:crypto";
import { cutBytes, toTime } from "../text.ts";
import type { Kind, WorkloadName } from "./objects.ts";

/** An Event as the API takes it. */
export interface WorkloadEvent {
  metadata: { name: string; namespace: string };
  involvedObject: { apiVersion: string; kind: string; namespace: string; name: string; uid: string };
  reason: string;
  type: "Normal" | "Warning";
  message: string;
  count: number;
  firstTimestamp: string;
  lastTimestamp: string;
  source: { component: string };
  reportingComponent: string;
}

const maxMessageBytes = 1024; // NoteLengthLimit of the API server

const kindNames: Record<Kind, string> = {
  deployment: "Deployment",
  statefulset: "StatefulSet",
  daemonset: "DaemonSet",
};

/** An Event about a workload. Its name is made from `identity`: two Events of one workload and identity have the same
 *  name, so that the API server keeps the first and refuses the second with 409. */
export function newEvent(
  { kind, namespace, name, uid }: WorkloadName & { uid: string },
  {
    identity,
    at,
    message,
    ...words
  }: Pick<WorkloadEvent, "reason" | "type" | "message"> & { identity: string; at: Date },
): WorkloadEvent {
  const suffix = createHash("sha256").update(`${uid} ${identity}`).digest("hex").slice(0, 16);
  const timestamp = toTime(at);
  return {
    metadata: { name: `${name.slice(0, 200)}.figwasp-${suffix}`, namespace },
    involvedObject: { apiVersion: "apps/v1", kind: kindNames[kind], namespace, name, uid },
    ...words,
    message: cutBytes(message, maxMessageBytes),
    count: 1,
    firstTimestamp: timestamp,
    lastTimestamp: timestamp,
    source: { component: "figwasp" },
    reportingComponent: "figwasp",
  };
}
