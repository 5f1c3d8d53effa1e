/**
 * Which figwasp this is.
 */

/** The version; package.json says the same, and a test compares them. */
export const RELEASE = "3.0.0-alpha.0";

/** The User-Agent of every request: it tells the owners of a server who asks. */
export const userAgent = `figwasp/${RELEASE} (+https://github.com/figwasp/figwasp)`;
