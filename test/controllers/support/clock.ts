/**
 * A clock that a test can move on by hours. The API server and its controllers go on by the real one: figwasp is told
 * their times in terms of this one. Its own clock stays as it is, as that of a machine that nobody sets.
 */
import type { Response as Answer } from "../../../lib/http/fetch.ts";

const timeFields = /"(creationTimestamp|lastTransitionTime|lastUpdateTime|startedAt|time)":"([^"]+)"/g;

export class PlayedClock {
  /** When it was moved, in real time, and how far ahead it has been since. */
  readonly #moves: { atMs: number; aheadMs: number }[] = [];

  /** Moves it on. What was made before keeps its time only if its second is over: see `nextSecond`. */
  letPass(ms: number): void {
    const before = this.#moves.at(-1)?.aheadMs ?? 0;
    // From the second on that has begun, since the times of objects are whole seconds.
    this.#moves.push({ atMs: Math.floor(Date.now() / 1000) * 1000, aheadMs: before + ms });
  }

  /** An answer of the API server with the times that it would have by this clock. */
  async translate(response: Answer): Promise<Answer> {
    if (this.#moves.length === 0 || !response.body) return response;
    const { status, url } = response;
    const text = await new Response(response.body as ReadableStream).text();
    const translated = text.replaceAll(timeFields, (_field, name: string, time: string) => {
      const at = new Date(this.#translate(Date.parse(time))).toISOString();
      return `"${name}":"${at.replace(/\.\d+/, "")}"`;
    });
    const date = new Date(this.#translate(Date.now())).toUTCString();
    const headers = { get: (name: string) => (/^date$/i.test(name) ? date : response.headers.get(name)) };
    return { status, url, headers, body: new Response(translated).body };
  }

  #translate(realMs: number): number {
    const latest = this.#moves.findLast(({ atMs }) => atMs <= realMs);
    return realMs + (latest?.aheadMs ?? 0);
  }
}
