/**
 * The process around a run: standard output and error, the terminal, signals, the clock, and the end.
 */
import { writeFileSync } from "node:fs";
import type { WriteStream } from "node:tty";
import { fetch } from "../http/fetch.ts";
import type { Fetch } from "../http/transport.ts";
import type { Cluster } from "../kubernetes/cluster.ts";
import type { ClusterConfig } from "../kubernetes/connection.ts";
import type { Patience } from "../kubernetes/patience.ts";
import { messageOf } from "../text.ts";
import { progressLine, type Terminal } from "./terminal.ts";

/** Everything impure that `main` uses, beside the files that its settings name. */
export interface Outside {
  fetch: Fetch;
  connect: (fetch: Fetch, config: ClusterConfig, patience: Patience) => Promise<Cluster>;
  now: () => Date;
  log: (line: string) => void;
  /** Absent: `log`. */
  logError?: (line: string) => void;
  /** The terminal that `log` writes to, if it is one. */
  terminal?: Terminal;
  /** Shows a person how far the run is; absent if nobody is looking. */
  progress?: (text: string) => void;
  /** Leaves the text that `kubectl describe` shows of a pod that has ended. */
  end?: (message: string) => Promise<void>;
  /** Ends the run. Its reason says why, such as a signal of the operating system. */
  stop?: AbortSignal;
  /** How long after its last restart a run looks whether its notes are still there, in milliseconds: an owner that puts
   *  its template back needs a moment for it. Absent: at once. */
  settleMs?: number;
}

const settleMs = 1000;

/** The real process. SIGTERM and SIGINT end the run, with the report so far. */
export function realOutside(connect: Outside["connect"]): Outside {
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.once(name, () => stop.abort(new Error(`${name} was received`)));
  }
  const { stdout, stderr } = process;
  // A reader that closes the pipe, such as `head`, must not end a run between a restart and the next workload.
  for (const stream of [stdout, stderr]) stream.on("error", () => undefined);
  const progress = stderr.isTTY ? showProgress(stderr) : undefined;
  const write = (stream: NodeJS.WriteStream) => (line: string) => {
    progress?.("");
    stream.write(`${line}\n`);
  };
  return {
    fetch,
    connect,
    now: () => new Date(),
    log: write(stdout),
    logError: write(stderr),
    ...(stdout.isTTY && { terminal: { columns: widthOf(stdout), hasColors: stdout.hasColors() } }),
    ...(progress && { progress }),
    end: leaveMessage,
    stop: stop.signal,
    settleMs,
  };
}

const stalledReaderMs = 60_000;

/** Ends the process once everything that was written has been read, on a signal, or when the readers have taken nothing
 *  for a minute. Waits for nothing else that is still running, such as a credential plugin. */
export function exitWith(code: number): void {
  const { stdout, stderr } = process;
  const exit = () => process.exit(code);
  const flushed = [stdout, stderr].map((stream) => new Promise((resolve) => stream.write("", resolve)));
  void Promise.all(flushed).then(exit);
  for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, exit);
  const unreadBytes = () => stdout.writableLength + stderr.writableLength;
  let before = unreadBytes();
  setInterval(() => {
    if (unreadBytes() === before) exit();
    before = unreadBytes();
  }, stalledReaderMs);
}

const defaultColumns = 80; // some terminals do not tell their width

function widthOf({ columns }: WriteStream): number {
  return columns || defaultColumns;
}

const progressDelayMs = 1000;

// One line that is overwritten again and again, shown if a run takes longer than a moment. An empty text removes it.
function showProgress(stream: WriteStream): (text: string) => void {
  let latest = "";
  let isShown = false;
  const show = () => {
    if (isShown) stream.write(`\r\u001b[K${latest && progressLine(latest, widthOf(stream))}`);
  };
  setTimeout(() => {
    isShown = true;
    show();
  }, progressDelayMs).unref();
  return (text) => {
    latest = text;
    show();
  };
}

// The kubelet mounts this file into a pod. Elsewhere it is missing or may not be written.
async function leaveMessage(message: string): Promise<void> {
  try {
    writeFileSync("/dev/termination-log", message, { flag: "r+" });
  } catch (error) {
    const isNoPod = ["ENOENT", "EACCES", "EPERM", "EROFS"].includes((error as NodeJS.ErrnoException).code ?? "");
    if (!isNoPod) console.error(`figwasp: Cannot write /dev/termination-log: ${messageOf(error)}`);
  }
}
