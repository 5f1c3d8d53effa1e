/**
 * Spares a registry's host: one request at a time, a second or third try only for trouble that may pass by itself, and
 * no request at all after it answered 429 or let two deadlines pass. Also reads what a host tells about its limits.
 */
import { STATUS_CODES } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { oneAtATime } from "../calls.ts";
import type { RequestInit, Response } from "../http/fetch.ts";
import { HttpError } from "../errors.ts";
import { parseRetryAfter } from "../http/retry-after.ts";
import { codeOf, type Fetch, isTimeout } from "../http/transport.ts";
import { oneLine } from "../text.ts";

/** What a host has last told about a limit. */
export interface Quota {
  remaining: number;
  limit: number;
  /** The time within which the limit counts; undefined where the host does not tell it. */
  windowSeconds: number | undefined;
}

const shareReservedForNodes = 0.2;

/** Whether so little remains that figwasp leaves it to the nodes, which need it to start pods. */
export function isForNodes({ remaining, limit }: Quota): boolean {
  return remaining < limit * shareReservedForNodes;
}

/** `registry-1.docker.io: 76 of 100 remain of its rate limit, per 6 h`. The host has its port, unless it is the
 *  default. */
export function describeQuota(host: string, { remaining, limit, windowSeconds }: Quota): string {
  const isWholeHours = windowSeconds && windowSeconds % 3600 === 0;
  const duration = isWholeHours ? `${windowSeconds / 3600} h` : `${windowSeconds} s`;
  const window = windowSeconds === undefined ? "" : `, per ${duration}`;
  return `${host}: ${remaining} of ${limit} remain of its rate limit${window}`;
}

const maxTries = 3;
const maxTimeouts = 2; // of one host
const maxRetryAfterSeconds = 10; // for a longer time than this, a host is not waited for
const temporaryStatuses = new Set([408, 500, 502, 503, 504, 522]);
const temporaryErrorCodes = new Set(["ECONNRESET", "EPIPE", "EAI_AGAIN"]);

/** A client for all registries of a run, which counts what each of their hosts answered. */
export class LimitedClient {
  /** By host, with its port: what it told about its limits. */
  readonly quotas = new Map<string, Quota>();
  /** What servers want somebody to read (RFC 9111, `Warning: 299`), once for each host and text. */
  readonly warnings = new Set<string>();
  readonly #fetch: Fetch;
  readonly #signal: AbortSignal;
  readonly #delayMs: number;
  /** By host: why it is not asked any more, and the status for the error that says so. */
  readonly #stopped = new Map<string, { status: number | undefined; why: string }>();
  /** By host: how many of its requests reached their deadline. */
  readonly #timeoutCounts = new Map<string, number>();
  readonly #lastRequests = new Map<string, Promise<unknown>>();

  /** `fetch` comes from boundFetch, and `signal` ends the run. `delayMs` is the mean pause before a second try. */
  constructor(fetch: Fetch, { signal, delayMs = 1000 }: { signal: AbortSignal; delayMs?: number | undefined }) {
    this.#fetch = fetch;
    this.#signal = signal;
    this.#delayMs = delayMs;
  }

  /** `fetch` for requests that may be sent again. Temporary trouble leads to another try, up to three in all, after a
   *  pause that grows and is never shorter than the `Retry-After` that the host asked for. Throws HttpError, without a
   *  request, for a host that is not asked any more: with status 429 where it answered that, without a status after
   *  timeouts. */
  readonly fetch: Fetch = async (url, init) => {
    const { host } = new URL(url);
    for (let tries = 1; ; tries++) {
      const isLastTry = tries === maxTries;
      const randomFactor = 0.5 + Math.random();
      let pauseMs = this.#delayMs * 3 ** (tries - 1) * randomFactor;
      try {
        // One connection to a host is enough then, and a request does not spend its deadline waiting for another one.
        const response = await oneAtATime(this.#lastRequests, host, () => this.#fetchOnce(host, url, init));
        if (isLastTry || !temporaryStatuses.has(response.status)) return response;
        const retryAfterSeconds = parseRetryAfter(response.headers.get("retry-after"), new Date()) ?? 0;
        if (retryAfterSeconds > maxRetryAfterSeconds) return response;
        pauseMs = Math.max(pauseMs, retryAfterSeconds * 1000);
      } catch (error) {
        if (isLastTry || !temporaryErrorCodes.has(codeOf(error) ?? "")) throw error;
      }
      // If the run ends during the pause, the next try fails at once and says why.
      await sleep(pauseMs, undefined, { signal: this.#signal }).catch(() => undefined);
    }
  };

  /** To be called before a GET of a manifest, which Docker Hub counts as a pull. Throws HttpError with status 429,
   *  where what remains of the host's limit is left to the nodes. */
  ensurePullsRemain(host: string): void {
    const quota = this.quotas.get(host);
    if (!quota || !isForNodes(quota)) return;
    const { remaining, limit } = quota;
    const why = `${host} has ${remaining} of ${limit} pulls left, which are for the nodes, and no more was asked`;
    throw new HttpError(429, why);
  }

  async #fetchOnce(host: string, url: string, init: RequestInit): Promise<Response> {
    this.#refuseIfStopped(host);
    try {
      const response = await this.#fetch(url, init);
      this.#readLimits(host, response);
      if (response.status === 429) this.#refuseIfStopped(host);
      return response;
    } catch (error) {
      if (isTimeout(error)) this.#countTimeout(host);
      throw error;
    }
  }

  #refuseIfStopped(host: string): void {
    const stop = this.#stopped.get(host);
    if (stop) throw new HttpError(stop.status, stop.why);
  }

  // Each further image would wait for its whole deadline, and so would all requests queued behind it.
  #countTimeout(host: string): void {
    const count = (this.#timeoutCounts.get(host) ?? 0) + 1;
    this.#timeoutCounts.set(host, count);
    const why = `${host} gave no answer ${count} times; it is not asked again in this run`;
    if (count === maxTimeouts) this.#stopped.set(host, { status: undefined, why });
  }

  #readLimits(host: string, { status, headers }: Response): void {
    const quota = readQuota(headers);
    if (quota) this.quotas.set(host, quota);
    for (const [, text = ""] of (headers.get("warning") ?? "").matchAll(/\b299 [^ ]+ "((?:[^"\\]|\\.){1,500})"/g)) {
      this.warnings.add(`${host} says: ${oneLine(text.replace(/\\(.)/g, "$1"))}`);
    }
    if (status !== 429 || this.#stopped.has(host)) return;
    const seconds = parseRetryAfter(headers.get("retry-after"), new Date());
    const retryHint = seconds === undefined ? "" : `, to be asked again in ${seconds} s`;
    const why = `${host} answered 429 ${STATUS_CODES[429]}${retryHint}; it is not asked again in this run`;
    this.#stopped.set(host, { status, why });
  }
}

// Docker Hub sends `ratelimit-remaining: 76;w=21600`; others send `x-ratelimit-remaining`, with the window in the
// limit: `x-ratelimit-limit: 3000, 3000;w=60`.
function readQuota(headers: Response["headers"]): Quota | undefined {
  const read = (name: string) => headers.get(`ratelimit-${name}`) ?? headers.get(`x-ratelimit-${name}`) ?? "";
  const [remaining, limit] = [read("remaining"), read("limit")].map((text) => /^\s*(\d{1,12})\b/.exec(text)?.[1]);
  if (remaining === undefined || limit === undefined) return undefined;
  const window = /;\s*w=(\d{1,9})/.exec(`${read("limit")}, ${read("remaining")}`)?.[1];
  return { remaining: Number(remaining), limit: Number(limit), windowSeconds: window ? Number(window) : undefined };
}
