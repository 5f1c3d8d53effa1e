/**
 * Runs programs in an environment like a pod's, with servers that serve a cluster of a given size.
 */
import { type ChildProcess, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { Size } from "../test/support/crowd.ts";

/** The first message to the stubs. They answer each later message with Counts. */
export interface Order {
  size: Size;
  latencyMs: number;
  /** The token of the pod's ServiceAccount. */
  token: string;
}

/** The stubs' first answer. */
export interface Servers {
  /** The CA of all servers, in PEM. */
  ca: string;
  /** The API server's address, `127.0.0.1:PORT`. */
  api: string;
}

/** Names of the registries. They are not loopback names, since figwasp asks those over plain http. */
export function registryNames({ registries }: Size): string[] {
  return Array.from({ length: registries }, (_each, at) => `registry-${at + 1}.example`);
}

export const counted = ["reads", "writes", "heads", "tokens", "handshakes"] as const;

/** How many requests came so far. */
export type Counts = Record<(typeof counted)[number], number>;

/** The cost of a run: the CPU of all its processes, and the memory of the largest one. */
export type Cost = Record<"cpuMs" | "wallMs" | "peakMiB", number>;

export interface Stage {
  /** Runs a command to its end. Throws Error if it fails or writes anything. */
  run: (command: string[]) => Promise<Cost & Counts>;
  close: () => Promise<void>;
}

export async function setStage(size: Size, latencyMs: number): Promise<Stage> {
  const folder = await mkdtemp(join(tmpdir(), "figwasp-bench-"));
  const servers = fork(fileOf("stub.ts"));
  const order: Order = { size, latencyMs, token: "token-of-the-pod" };
  const { ca, api } = await ask<Servers>(servers, order);
  const account = join(folder, "serviceaccount");
  await mkdir(account);
  await writeFile(join(account, "token"), order.token);
  await writeFile(join(account, "namespace"), "shop-0");
  await writeFile(join(account, "ca.crt"), ca);
  await writeFile(join(folder, "hosts"), `127.0.0.1 localhost ${registryNames(size).join(" ")}\n`);

  const [host = "", port = ""] = api.split(":");
  const { PATH = "" } = process.env;
  const inCluster = { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port };
  // Adds the registries' CA to Node's own, so that it is trusted like the CA of a public registry.
  const trust = { NODE_EXTRA_CA_CERTS: join(account, "ca.crt") };
  const env = { PATH, HOME: folder, ...inCluster, ...trust };
  const run = async (command: string[]) => {
    const before = await ask<Counts>(servers, "count");
    // In a pod, kubectl's cache would be lost after each run.
    await rm(join(folder, ".kube"), { recursive: true, force: true });
    const cost = await measure(folder, command, env);
    const counts = difference(await ask<Counts>(servers, "count"), before);
    if (counts.writes > 0) throw new Error(`${command.join(" ")} wrote, and there is nothing to do`);
    return { ...cost, ...counts };
  };
  const close = async () => {
    servers.kill();
    await rm(folder, { recursive: true });
  };
  return { run, close };
}

async function ask<Answer>(servers: ChildProcess, question: Order | "count"): Promise<Answer> {
  servers.send(question);
  const [answer] = (await once(servers, "message")) as [Answer];
  return answer;
}

function difference(after: Counts, before: Counts): Counts {
  return Object.fromEntries(counted.map((kind) => [kind, after[kind] - before[kind]])) as Counts;
}

async function measure(folder: string, command: string[], env: object): Promise<Cost> {
  const result = join(folder, "cost.json");
  const pod = ["--map-root-user", "--mount", fileOf("pod.sh"), folder];
  const args = [...pod, "python3", fileOf("measure.py"), result, JSON.stringify(env), ...command];
  const child = spawn("unshare", args, { stdio: ["ignore", "pipe", "pipe"] });
  const [output, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const { exitCode, ...cost } = JSON.parse(await readFile(result, "utf8").catch(() => "{}")) as Cost & {
    exitCode?: number;
  };
  if (exitCode !== 0) throw new Error(`${command.join(" ")} ended with ${exitCode}:\n${output.slice(-2000)}${errors}`);
  return cost;
}

function fileOf(name: string): string {
  return join(import.meta.dirname, name);
}
