/**
 * Asks the API server again where it is busy, or is being replaced, much as client-go does (rest/with_retry.go).
 */
import { setTimeout as sleep } from "node:timers/promises";
import { HttpError, isHttpError, statusOf } from "../errors.ts";
import { codeOf } from "../http/transport.ts";
import { messageOf } from "../text.ts";

export interface Patience {
  /** Ends the waits. */
  signal?: AbortSignal;
  /** The mean pause before a second try, if the API server does not say how long. */
  pauseMs?: number;
}

const maxTriesWhenTold = 11; // client-go tries ten times again
const maxTries = 3;
const maxWaitMs = 60_000; // of one request, in all
const statusesThatMayPass = new Set([429, 500, 502, 503, 504]);
const codesThatMayPass = new Set(["ECONNREFUSED", "ECONNRESET", "EPIPE", "EAI_AGAIN"]);

/** Whether the next try may succeed: the API server is busy, it is being replaced, or a connection broke. */
export function mayPass(error: unknown): boolean {
  const status = statusOf(error);
  return status === undefined ? codesThatMayPass.has(codeOf(error) ?? "") : statusesThatMayPass.has(status);
}

/** Asks, and asks again:
 *  1. after 429 or 5xx with a `Retry-After`, when that time has passed: up to ten times, and for a minute in all;
 *  2. after 429, 500, 502, 503 or 504 without one, and after a connection that was refused or broke: twice, after a pause
 *     that grows.
 *  client-go does the first, and the second for a GET whose connection broke. figwasp may repeat each of its requests: a
 *  PATCH and a PUT have the resourceVersion, an Event has a name of its own, and an access review is not stored.
 *  Throws what the last try threw, also if the run ends meanwhile: `… returned 503: …, asked 3 times`. */
export async function askPatiently<T>(ask: () => Promise<T>, patience: Patience): Promise<T> {
  let waitedMs = 0;
  for (let tries = 1; ; tries++) {
    try {
      return await ask();
    } catch (error) {
      const waitMs = pauseAfter(error, tries, patience);
      waitedMs += waitMs ?? 0;
      if (waitMs === undefined || waitedMs > maxWaitMs) throw withTries(error, tries);
      await sleep(waitMs, undefined, { signal: patience.signal }).catch(() => {
        throw withTries(error, tries, patience.signal?.reason);
      });
    }
  }
}

// Undefined if it is not tried again.
function pauseAfter(error: unknown, tries: number, { pauseMs = 500 }: Patience): number | undefined {
  const { status = 0, retryAfterSeconds } = isHttpError(error) ? error : {};
  if (retryAfterSeconds !== undefined && (status === 429 || status >= 500)) {
    return tries < maxTriesWhenTold ? retryAfterSeconds * 1000 : undefined;
  }
  const randomFactor = 0.5 + Math.random();
  return tries < maxTries && mayPass(error) ? pauseMs * 3 ** (tries - 1) * randomFactor : undefined;
}

function withTries(error: unknown, tries: number, endedBy?: unknown): unknown {
  if (tries === 1 && endedBy === undefined) return error;
  const isTold = endedBy !== undefined || mayPass(error);
  const count = tries === 1 ? "once" : `${tries} times`;
  const until = endedBy === undefined ? "" : ` until ${messageOf(endedBy)}`;
  const message = `${messageOf(error)}${isTold ? `, asked ${count}${until}` : ""}`;
  return isHttpError(error)
    ? new HttpError(error.status, message, { retryAfterSeconds: error.retryAfterSeconds, tries })
    : new Error(message, { cause: error });
}
