/**
 * The header by which a server tells when it may be asked again.
 */

/** The seconds that a `Retry-After` asks for: `120`, or `Wed, 21 Oct 2026 07:28:00 GMT`, which is 0 where it has
 *  passed. Undefined for anything else. See RFC 9110, 10.2.3. */
export function parseRetryAfter(text: string | null, now: Date): number | undefined {
  const trimmed = text?.trim() ?? "";
  if (/^\d{1,9}$/.test(trimmed)) return Number(trimmed);
  if (!/^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/.test(trimmed)) return undefined;
  const timeMs = Date.parse(trimmed);
  return Number.isNaN(timeMs) ? undefined : Math.max(0, Math.ceil((timeMs - now.getTime()) / 1000));
}
