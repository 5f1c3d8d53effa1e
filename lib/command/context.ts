/**
 * What the functions of a run share, and how it is set up from the settings: deadlines, registries, credentials,
 * cluster.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { PullSecrets, readMountedConfig } from "../credentials/pull-secrets.ts";
import { traced } from "../http/trace.ts";
import { boundFetch } from "../http/transport.ts";
import type { Cluster } from "../kubernetes/cluster.ts";
import { LimitedClient } from "../registry/limits.ts";
import { Registry } from "../registry/registry.ts";
import { messageOf, printable } from "../text.ts";
import type { Config } from "./config.ts";
import type { Outside } from "./outside.ts";

export interface RunContext {
  config: Config;
  /** The namespace to look in, if it is not all: the one that is named, or else the cluster's own. */
  namespace: string;
  cluster: Cluster;
  registry: Registry;
  pullSecrets: PullSecrets;
  /** What a person should read once a run, beside the verdicts. It is not redacted yet. */
  notes: Set<string>;
  /** Ends the run: its deadline, or a signal of the operating system. */
  signal: AbortSignal;
  /** The time by the API server's clock, as far as it has told. */
  now: () => Date;
  /** Waits for owners that put back at once what they apply. */
  settle: () => Promise<void>;
  /** Writes a line of the log while the run goes on; does nothing if the command or the output prints no log. */
  log: (line: string) => void;
  /** Shows a person how far the run is; does nothing without a terminal. */
  showProgress: (text: string) => void;
}

/** Sets a run up and connects to the cluster. Throws ConfigError without a cluster or if the mounted docker config
 *  cannot be used, and Error if a credential plugin of the kubeconfig fails or the run ends before it is connected. */
export async function prepare(config: Config, outside: Outside): Promise<RunContext> {
  const signal = startDeadline(config.runTimeoutMs, outside.stop);
  // A trace is written when a request has been answered, and by then `registry` is set.
  const trace = (line: string) => (outside.logError ?? outside.log)(registry.logins.redact(line));
  const tracedFetch = config.isVerbose ? traced(outside.fetch, trace) : outside.fetch;
  const fetch = boundFetch(tracedFetch, config.clientTimeoutMs, signal);
  const registry = new Registry(config, new LimitedClient(fetch, { signal }));
  const mounted = config.dockerConfig === undefined ? undefined : await readMountedConfig(config.dockerConfig);
  const cluster = await orEnd(outside.connect(fetch, config, { signal }), signal);

  const notes = new Set<string>();
  const readSecret = (namespace: string, name: string) => cluster.getSecret(namespace, name);
  const pullSecrets = new PullSecrets({ readSecret, mounted, note: (text) => notes.add(text) });
  const namespace = config.namespace ?? cluster.namespace;
  const hasLog = config.command === "run" && config.output === "text" && !outside.terminal;
  const log = hasLog ? outside.log : () => {};
  const { progress: showProgress = () => {}, settleMs = 0 } = outside;
  const now = () => new Date(outside.now().getTime() - (cluster.clock.aheadMs ?? 0));
  const settle = () => sleep(settleMs, undefined, { signal }).catch(() => undefined); // at its end a run does not wait
  return { config, namespace, cluster, registry, pullSecrets, notes, signal, now, settle, log, showProgress };
}

function startDeadline(timeoutMs: number, stop: AbortSignal | undefined): AbortSignal {
  const deadline = new AbortController();
  const reason = new Error(`the run has reached its deadline of ${timeoutMs / 1000} s`);
  setTimeout(() => deadline.abort(reason), timeoutMs).unref();
  return AbortSignal.any([deadline.signal, ...(stop ? [stop] : [])]);
}

// A credential plugin of the kubeconfig knows no deadline.
function orEnd(connecting: Promise<Cluster>, signal: AbortSignal): Promise<Cluster> {
  const ended = new Promise<never>((_resolve, reject) => {
    signal.addEventListener("abort", () => reject(new Error(`Cannot connect: ${messageOf(signal.reason)}`)));
  });
  return Promise.race([connecting, ended]);
}

/** The run's own notes, without any secret and each on one line. */
export function ownNotes({ notes, registry }: RunContext): string[] {
  return Array.from(notes, (note) => printable(registry.logins.redact(note)));
}
