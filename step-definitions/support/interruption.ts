import { setTimeout as sleep } from "node:timers/promises";
import { BroadcastChannel, threadId } from "node:worker_threads";

// Scenarios run in worker threads, and only the main thread hears a signal. The main thread tells the workers, waits until
// each of them has come to rest, and deletes what was made only then: a command that is still under way could make more.
type Word = { kind: "interrupted" } | { kind: "here" | "at rest"; worker: number };

const channelName = "figwasp acceptance";

/** Is aborted when the run is interrupted. Commands and requests that are under way end then, and so does all waiting. */
export const interruption = new AbortController();

let isBusy = false;
let toMain: BroadcastChannel | undefined;

/** Makes this thread one that runs scenarios and that stops when the run is interrupted. */
export function joinRun(): void {
  toMain = listen(({ kind }) => {
    if (kind !== "interrupted") return;
    interruption.abort();
    if (!isBusy) tellAtRest();
  });
  tell(toMain, { kind: "here", worker: threadId });
}

/** A scenario calls this before it begins. In a run that was interrupted this never returns. */
export async function beginScenario(): Promise<void> {
  if (interruption.signal.aborted) await standStill();
  isBusy = true;
}

/** A scenario calls this when its steps have ended. In a run that was interrupted this never returns. */
export async function endSteps(): Promise<void> {
  if (interruption.signal.aborted) await standStill();
}

/** A scenario calls this when it has deleted what it made. */
export function endScenario(): void {
  isBusy = false;
  if (interruption.signal.aborted) tellAtRest();
}

// The thread waits for the end of the process. Otherwise all remaining scenarios would be reported as failed.
async function standStill(): Promise<never> {
  isBusy = false;
  tellAtRest();
  return new Promise(() => {});
}

function tellAtRest(): void {
  if (toMain) tell(toMain, { kind: "at rest", worker: threadId });
}

function listen(hear: (word: Word) => void): BroadcastChannel {
  const channel = new BroadcastChannel(channelName);
  channel.addEventListener("message", (event: Event) => hear((event as unknown as { data: Word }).data));
  channel.unref(); // an open channel would keep the process from ending
  return channel;
}

function tell(channel: BroadcastChannel, word: Word): void {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- only the windows of a browser have an origin
  channel.postMessage(word);
}

/** The workers of the run, as the main thread knows them. */
export class Workers {
  readonly #atWork = new Set<number>();
  readonly #channel = listen((word) => {
    if (word.kind === "here") this.#atWork.add(word.worker);
    if (word.kind === "at rest") this.#atWork.delete(word.worker);
  });

  /** Interrupts all workers, and waits for them. Returns whether all have come to rest in the time that they are given. */
  async interrupt(patienceMs: number): Promise<boolean> {
    tell(this.#channel, { kind: "interrupted" });
    const deadline = Date.now() + patienceMs;
    while (this.#atWork.size > 0 && Date.now() < deadline) await sleep(50);
    return this.#atWork.size === 0;
  }
}
