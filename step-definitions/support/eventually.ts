import { setTimeout as sleep } from "node:timers/promises";

/** Repeats a check until it passes, and gives what it gave. Throws the check's own last error at the deadline. */
export async function eventually<T>(
  check: () => Promise<T>,
  { deadlineMs = 90_000, everyMs = 250 }: { deadlineMs?: number; everyMs?: number } = {},
): Promise<T> {
  const deadline = Date.now() + deadlineMs;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() >= deadline) throw error;
    }
    await sleep(everyMs);
  }
}
