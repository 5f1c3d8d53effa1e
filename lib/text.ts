/**
 * Text that others wrote: parsing JSON and durations, and making text safe to show in a message of one line.
 */

/** The JSON object that a text holds, as a string or in UTF-8; undefined where it holds none. A parse error is not
 *  passed on, since it would quote the text, which may be secret. */
export function parseObject(body: Buffer | string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body.toString());
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Whether a JSON value is an object, rather than an array, null or a plain value. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

// What starts a new line or makes a terminal act: control characters, C1 ones included, and the invisible characters
// that change the direction of writing.
const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu;

/** Cuts a text to 200 characters and puts it on one line: `a\nb` → `a b`. */
export function oneLine(text: string): string {
  return printable(truncate(text)).trim();
}

/** Puts a text of any length on one line: a blank replaces what would start a new line or make a terminal act. */
export function printable(line: string): string {
  return line.replace(unprintable, " ");
}

/** Cuts a text to 200 characters and puts it in quotes, with escapes for what would start a new line or make a terminal
 *  act: `"a\n"`, `"a\u{202e}"`. JSON alone would leave most of the latter as they are. */
export function quote(text: string): string {
  return JSON.stringify(truncate(text)).replace(unprintable, (characters) => {
    return Array.from(characters, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`).join("");
  });
}

function truncate(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

/** A URL for a message, without its query, which may hold a signature. */
export function withoutQuery(url: string): string {
  return url.split("?")[0] ?? "";
}

const unitMs: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, μs: 1e-3, ms: 1, s: 1e3, m: 6e4, h: 36e5 };

/** A duration of Go in milliseconds: `1h30m` → 5400000, `250ms` → 250, `0` → 0. NaN for anything else, also for a
 *  duration with a sign. See Go's time.ParseDuration. */
export function parseGoDuration(text: string): number {
  if (text === "0") return 0;
  const part = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/y;
  let sumMs = 0;
  do {
    // A part that does not match makes the sum NaN, and resets lastIndex to 0, which ends the loop.
    const [, number, unit = ""] = part.exec(text) ?? [];
    sumMs += Number(number) * (unitMs[unit] ?? NaN);
  } while (part.lastIndex > 0 && part.lastIndex < text.length);
  return sumMs;
}

/** A time as kubectl writes it: `2026-11-21T10:00:00Z`. */
export function toTime(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}

/** The text cut to a number of bytes in UTF-8, without half a character at its end. */
export function cutBytes(text: string, maxBytes: number): string {
  const start = Buffer.from(text).subarray(0, maxBytes).toString("utf8");
  return start.replace(/\ufffd$/, "");
}
