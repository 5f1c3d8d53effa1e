/**
 * The real world, for the entry point of figwasp.ts.
 */
import { writeFileSync } from "node:fs";
import type { WriteStream } from "node:tty";
import type { Outside } from "../../figwasp.ts";
import { fetch } from "../http/fetch.ts";
import { messageOf } from "../text.ts";
import { progressLine } from "./terminal.ts";

/** SIGTERM and SIGINT end the run, with the report so far. */
export function realOutside(connect: Outside["connect"]): Outside {
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.once(name, () => stop.abort(new Error(`${name} was received`)));
  }
  const { stdout, stderr } = process;
  // Who reads no more, such as `head`, does not end a run between a restart and the next workload.
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
  };
}

const readerPatienceMs = 60_000;

/** Ends the process when its readers have all that was written, or on a signal, or when they take nothing for a minute.
 *  Waits for nothing else that is still at work. */
export function exitWith(code: number): void {
  const { stdout, stderr } = process;
  const exit = () => process.exit(code);
  const written = [stdout, stderr].map((stream) => new Promise((resolve) => stream.write("", resolve)));
  void Promise.all(written).then(exit);
  for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, exit);
  const left = () => stdout.writableLength + stderr.writableLength;
  let before = left();
  setInterval(() => {
    if (left() === before) exit();
    before = left();
  }, readerPatienceMs);
}

const patienceMs = 1000;

// Some terminals do not tell.
function widthOf({ columns }: WriteStream): number {
  return columns || 80;
}

// One line, written over again and again, where a run takes longer than a moment; an empty text takes it away.
function showProgress(stream: WriteStream): (text: string) => void {
  let latest = "";
  let isDue = false;
  const show = () => {
    if (isDue) stream.write(`\r\u001b[K${latest && progressLine(latest, widthOf(stream))}`);
  };
  setTimeout(() => {
    isDue = true;
    show();
  }, patienceMs).unref();
  return (text) => {
    latest = text;
    show();
  };
}

// Where the kubelet mounts a file for it; elsewhere there is none.
async function leaveMessage(message: string): Promise<void> {
  try {
    writeFileSync("/dev/termination-log", message, { flag: "r+" });
  } catch (error) {
    const isElsewhere = ["ENOENT", "EACCES", "EPERM", "EROFS"].includes((error as NodeJS.ErrnoException).code ?? "");
    if (!isElsewhere) console.error(`figwasp: Cannot write /dev/termination-log: ${messageOf(error)}`);
  }
}
