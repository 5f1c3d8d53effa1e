/**
 * Texts of somebody else's: read, and shown in a message of one line.
 */

/** The JSON object that a body holds, in UTF-8, or undefined. The text itself is never part of a message: it may be secret. */
export function parseObject(body: Buffer | string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body.toString());
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

// What would begin a line, or act on a terminal: control characters, the C1 ones among them, and directions of writing.
const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu;

/** A text of somebody else's, cut and on one line, without what would act on a terminal. */
export function oneLine(text: string): string {
  return printable(cut(text)).trim();
}

/** A whole line, with a blank for what would begin another one or act on a terminal. */
export function printable(line: string): string {
  return line.replace(unprintable, " ");
}

/** Quoted, and cut, for a message of one line: `"a\n"`. JSON leaves most of what a terminal acts on as it is. */
export function quote(text: string): string {
  return JSON.stringify(cut(text)).replace(unprintable, (found) => {
    return Array.from(found, (odd) => `\\u{${odd.codePointAt(0)?.toString(16)}}`).join("");
  });
}

function cut(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

/** For a message: a query may hold what a registry or a token server signed. */
export function withoutQuery(url: string): string {
  return url.split("?")[0] ?? "";
}

const unitMs: Record<string, number> = { ns: 1e-6, us: 1e-3, µs: 1e-3, μs: 1e-3, ms: 1, s: 1e3, m: 6e4, h: 36e5 };

/** `1h30m` → 5400000, `250ms` → 250, `0` → 0; in milliseconds. NaN for anything else, signs among it.
 *  See Go's time.ParseDuration. */
export function parseGoDuration(text: string): number {
  if (text === "0") return 0;
  const part = /(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/y;
  let sum = 0;
  do {
    const [, number, unit = ""] = part.exec(text) ?? [];
    sum += Number(number) * (unitMs[unit] ?? NaN);
  } while (part.lastIndex > 0 && part.lastIndex < text.length);
  return sum;
}

/** The text cut to a number of bytes in UTF-8, without half a character at its end. */
export function cutBytes(text: string, maxBytes: number): string {
  const start = Buffer.from(text).subarray(0, maxBytes).toString("utf8");
  return start.replace(/\ufffd$/, "");
}
