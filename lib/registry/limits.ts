/**
 * What a registry's host is spared, and what it tells about its limits: one request at a time, another try only where
 * the trouble may pass by itself, and none at all after it answered 429 or, twice, not at all.
 */
import { STATUS_CODES } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { oneAtATime } from "../calls.ts";
import type { Response } from "../http/fetch.ts";
import { codeOf, type Fetch, HttpError, isTimeout } from "../http/transport.ts";
import { oneLine } from "../text.ts";

/** What remains of a limit, as a host told it last. */
export interface Quota {
  remaining: number;
  limit: number;
  /** How long the limit counts, where it is told. */
  windowSeconds: number | undefined;
}

const quotaLeftToNodes = 0.2;

/** Whether what remains is left to the nodes, which cannot do without. */
export function isForNodes({ remaining, limit }: Quota): boolean {
  return remaining < limit * quotaLeftToNodes;
}

/** `registry-1.docker.io: 76 of 100 remain of its rate limit, per 6 h`. */
export function describeQuota(host: string, { remaining, limit, windowSeconds }: Quota): string {
  const each = windowSeconds && windowSeconds % 3600 === 0 ? `${windowSeconds / 3600} h` : `${windowSeconds} s`;
  const window = windowSeconds === undefined ? "" : `, per ${each}`;
  return `${host}: ${remaining} of ${limit} remain of its rate limit${window}`;
}

const silencesAtMost = 2;
const triesAtMost = 3;
const longestWaitSeconds = 10;
const passingStatuses = new Set([408, 500, 502, 503, 504, 522]);
const passingCodes = new Set(["ECONNRESET", "EPIPE", "EAI_AGAIN"]);

export class LimitedClient {
  /** By host, with its port: what it told about its limits. */
  readonly quotas = new Map<string, Quota>();
  /** What servers want somebody to read (RFC 9111, `Warning: 299`), once for each host and text. */
  readonly warnings = new Set<string>();
  readonly #fetch: Fetch;
  readonly #signal: AbortSignal;
  readonly #delayMs: number;
  /** Why a host is not asked any more. */
  readonly #stopped = new Map<string, { status: number | undefined; why: string }>();
  readonly #silences = new Map<string, number>();
  readonly #turns = new Map<string, Promise<unknown>>();

  /** `fetch` comes from boundFetch, and `signal` ends the run; the delay before a second try is in milliseconds. */
  constructor(fetch: Fetch, { signal, delayMs = 1000 }: { signal: AbortSignal; delayMs?: number | undefined }) {
    this.#fetch = fetch;
    this.#signal = signal;
    this.#delayMs = delayMs;
  }

  /** As `fetch`, for requests that may be repeated, one after the other to a host. Throws HttpError, without asking, for a
   *  host that has answered 429, with that status, or that has let two deadlines pass. */
  readonly fetch: Fetch = async (url, init) => {
    const { host } = new URL(url);
    for (let tries = 1; ; tries++) {
      const isLast = tries === triesAtMost;
      let waitMs = this.#delayMs * 3 ** (tries - 1) * (0.5 + Math.random());
      try {
        // So that one connection does for a host, and nobody's deadline passes while he waits.
        const response = await oneAtATime(this.#turns, host, () => this.#ask(host, url, init));
        if (isLast || !passingStatuses.has(response.status)) return response;
        const asked = parseRetryAfter(response.headers.get("retry-after"), new Date()) ?? 0;
        if (asked > longestWaitSeconds) return response;
        waitMs = Math.max(waitMs, asked * 1000);
      } catch (error) {
        if (isLast || !passingCodes.has(codeOf(error) ?? "")) throw error;
      }
      // Ended, the next try fails with the reason.
      await sleep(waitMs, undefined, { signal: this.#signal }).catch(() => undefined);
    }
  };

  /** Throws HttpError with status 429 where what remains of a host's limit is for the nodes: Docker Hub counts a GET of a
   *  manifest as a pull. */
  sparePulls(host: string): void {
    const quota = this.quotas.get(host);
    if (!quota || !isForNodes(quota)) return;
    const { remaining, limit } = quota;
    const why = `${host} has ${remaining} of ${limit} pulls left, which are for the nodes, and no more was asked`;
    throw new HttpError(429, why);
  }

  async #ask(host: string, url: string, init: Parameters<Fetch>[1]): Promise<Response> {
    this.#refuseStopped(host);
    try {
      const response = await this.#fetch(url, init);
      this.#note(host, response);
      if (response.status === 429) this.#refuseStopped(host);
      return response;
    } catch (error) {
      if (isTimeout(error)) this.#noteSilence(host);
      throw error;
    }
  }

  #refuseStopped(host: string): void {
    const stop = this.#stopped.get(host);
    if (stop) throw new HttpError(stop.status, stop.why);
  }

  // Each further image would wait as long, and the others' turns with it.
  #noteSilence(host: string): void {
    const silences = (this.#silences.get(host) ?? 0) + 1;
    this.#silences.set(host, silences);
    const why = `${host} gave no answer ${silences} times; it is not asked again in this run`;
    if (silences === silencesAtMost) this.#stopped.set(host, { status: undefined, why });
  }

  #note(host: string, { status, headers }: Response): void {
    const quota = readQuota(headers);
    if (quota) this.quotas.set(host, quota);
    for (const [, text = ""] of (headers.get("warning") ?? "").matchAll(/\b299 [^ ]+ "((?:[^"\\]|\\.){1,500})"/g)) {
      this.warnings.add(`${host} says: ${oneLine(text.replace(/\\(.)/g, "$1"))}`);
    }
    if (status !== 429 || this.#stopped.has(host)) return;
    const seconds = parseRetryAfter(headers.get("retry-after"), new Date());
    const when = seconds === undefined ? "" : `, to be asked again in ${seconds} s`;
    const why = `${host} answered 429 ${STATUS_CODES[429]}${when}; it is not asked again in this run`;
    this.#stopped.set(host, { status, why });
  }
}

/** The seconds that a `Retry-After` asks for: `120`, or `Wed, 21 Oct 2026 07:28:00 GMT`, which is none where it has
 *  passed. Undefined for anything else. See RFC 9110, 10.2.3. */
export function parseRetryAfter(text: string | null, now: Date): number | undefined {
  const trimmed = text?.trim() ?? "";
  if (/^\d{1,9}$/.test(trimmed)) return Number(trimmed);
  if (!/^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/.test(trimmed)) return undefined;
  const at = Date.parse(trimmed);
  return Number.isNaN(at) ? undefined : Math.max(0, Math.ceil((at - now.getTime()) / 1000));
}

// Docker Hub's `ratelimit-remaining: 76;w=21600`, and `x-ratelimit-remaining` of others, with the window in the limit:
// `x-ratelimit-limit: 3000, 3000;w=60`.
function readQuota(headers: Response["headers"]): Quota | undefined {
  const read = (name: string) => headers.get(`ratelimit-${name}`) ?? headers.get(`x-ratelimit-${name}`) ?? "";
  const [remaining, limit] = [read("remaining"), read("limit")].map((text) => /^\s*(\d{1,12})\b/.exec(text)?.[1]);
  if (remaining === undefined || limit === undefined) return undefined;
  const window = /;\s*w=(\d{1,9})/.exec(`${read("limit")}, ${read("remaining")}`)?.[1];
  return { remaining: Number(remaining), limit: Number(limit), windowSeconds: window ? Number(window) : undefined };
}
