/**
 * The old place of parseChallenges, until figwasp.ts imports it from challenge.ts.
 */
export { parseChallenges } from "./challenge.ts";
