import { setTimeout as sleep } from "node:timers/promises";
import { interruption } from "./interruption.ts";

interface Patience {
  deadlineMs?: number;
  everyMs?: number;
  /** Ends the waiting. If none is given, the interruption of the run does. */
  signal?: AbortSignal;
}

/** Repeats a check until it passes, and returns its value. At the deadline it throws the last error of the check. */
export async function eventually<T>(
  check: () => Promise<T>,
  { deadlineMs = 90_000, everyMs = 200, signal = interruption.signal }: Patience = {},
): Promise<T> {
  const deadline = Date.now() + deadlineMs;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() >= deadline || signal.aborted) throw error;
    }
    await sleep(everyMs);
  }
}
