/**
 * The parsers of text that others write, each as a function of one text, with pieces of its grammar. properties.test.ts
 * gives a parser texts made of these pieces, and long-texts.ts gives it very long ones.
 */
import assert from "node:assert/strict";
import { matchingKeys, parseChallenges, parseReference, runningDigest } from "../../figwasp.ts";
import { parseDockerConfig } from "../../lib/credentials/docker-config.ts";
import { parseAddress } from "../../lib/http/addresses.ts";
import { parseRetryAfter } from "../../lib/http/retry-after.ts";
import { oneLine, parseGoDuration } from "../../lib/text.ts";

export interface Parser {
  parse: (text: string) => unknown;
  /** The name of the error that it may throw; absent if it must not throw. */
  refusesWith?: "SyntaxError" | "Error";
  /** The only messages that its error may have, if the text may contain a secret. */
  says?: RegExp;
  pieces: string[];
  /** Beginnings of texts that reach the innermost part of the grammar. */
  starts: string[];
}

export const hex = "0123456789abcdef".repeat(4);
export const now = new Date("2026-11-21T10:00:00Z");

const imagePieces = ["a", "a/", "a-", "a.", "a_", "_._", "-", ".", "/", ":", "1", "@", "A", "[", "]", "sha256:", hex];
const keyPieces = ["a", "a.", "*", "a*", "a@", "a:", "%", ":", "@", "/", "?", "[", "]", "https://", "/v1/", "$&", "é"];
// The second one has the greatest length that parseReference() accepts.
const images = ["docker.io/library/a", `${"a".repeat(125)}b${"a".repeat(125)}:5000/${"a/".repeat(127)}a`];

export const parsers: Record<string, Parser> = {
  parseReference: {
    parse: parseReference,
    refusesWith: "SyntaxError",
    pieces: imagePieces,
    starts: ["", "ghcr.io/", "ghcr.io/a:", "[", "a.io/a@", "a/b@sha256:"],
  },
  runningDigest: {
    parse: (text) => {
      const running = runningDigest(text);
      if (running.kind === "unreadable") assertBrief(running.reason);
      else assert.equal(running.digest, `sha256:${text.slice(-64)}`);
    },
    pieces: [...imagePieces, "docker://", "import-2026-11-21", "/import-"],
    starts: ["", "docker-pullable://", "a@", "sha256:"],
  },
  parseChallenges: {
    parse: parseChallenges,
    refusesWith: "SyntaxError",
    says: /^Cannot parse the challenge at character \d+ of \d+$/,
    pieces: [
      "a",
      " ",
      "\t",
      ",",
      "=",
      '"',
      "\\",
      "\\\\",
      '\\"',
      "a=",
      "a,",
      "a ",
      "a=a,",
      'a="",',
      'a="\\',
      "/",
      "a/=",
    ],
    starts: ["", "a ", "a a=", 'a a="', 'a a="a" '],
  },
  "parseDockerConfig, a file": {
    parse: (text) => parseDockerConfig(Buffer.from(text)),
    refusesWith: "Error",
    pieces: ["{", "}", "[", "]", '"', ":", ",", "\\", '"a"', '{"auths":', '"auth":', '{"a":', "1", "null", " "],
    starts: ["", '{"auths":', '{"auths":{"a":'],
  },
  "parseDockerConfig, an auth": {
    parse: (auth) => parseDockerConfig(Buffer.from(JSON.stringify({ auths: { "reg.io": { auth } } }))),
    refusesWith: "Error",
    says: /^its entry "reg\.io" has an "auth" that is not (?:base64(?:, but its URL-safe form)?|the base64 of username:password)$/,
    pieces: ["A", "YTpi", "YQ==", "=", "+", "/", "-", "_", "\n", "\r\n", " ", ":"],
    starts: ["", "YTpi", "YTpi\n"],
  },
  "parseDockerConfig, a key": {
    parse: (key) => parseDockerConfig(Buffer.from(JSON.stringify({ auths: { [key]: { auth: "*" } } }))),
    refusesWith: "Error",
    says: /^its entry .* has an "auth" that is not base64$/s,
    pieces: keyPieces,
    starts: ["", "https://"],
  },
  matchingKeys: {
    parse: (key) => images.forEach((image) => assertTried(matchingKeys([key], image), key)),
    pieces: keyPieces,
    starts: ["", "https://", "a@", "*", "*a.", "*b", "a:", "a/"],
  },
  parseRetryAfter: {
    parse: (text) => {
      const seconds = parseRetryAfter(text, now);
      assert(seconds === undefined || (Number.isInteger(seconds) && seconds >= 0), `${seconds}`);
    },
    pieces: ["1", "0", "-", " ", "\t", ".", ":", ",", "Sat", "Sat, 21 Nov 2026 ", "10:00:30", " GMT", "99"],
    starts: ["", "Sat, ", "Sat, 21 Nov 2026 "],
  },
  parseGoDuration: {
    parse: (text) => assert(Number.isNaN(parseGoDuration(text)) || parseGoDuration(text) >= 0),
    pieces: ["1", "0", "1.", ".1", ".", "1h", "1.5m", "s", "ms", "µs", "ns", "-", "+", " ", "e"],
    starts: ["", "1h", "1."],
  },
  parseAddress: {
    parse: (text) => {
      const url = parseAddress(text, "https://reg.io/v2/", "The realm");
      assert.match(url.href, /^https?:\/\/[^/@\s\\]+\/[^\s\\]*$/);
      assert.deepEqual([url.username, url.password], ["", ""]);
    },
    refusesWith: "Error",
    says: /^The realm (?:is not a URL|holds a user name|is neither https nor http)$/,
    pieces: [
      "a",
      "a.",
      "é",
      "/",
      "//",
      "../",
      ":",
      "@",
      "?",
      "#",
      "%",
      "%2e",
      "[",
      "]",
      "\\",
      "1",
      "https:",
      "data:",
      " ",
    ],
    starts: ["", "https://", "https://a/", "//", "https://a?"],
  },
  oneLine: {
    parse: (text) => {
      const line = oneLine(text);
      assert(line.length <= 201);
      assert.doesNotMatch(line, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
    },
    pieces: ["a", " ", "\n", "\u001B[31m", "\u009B", "\u202E", "\u2028", "\u200D", "\u{E0041}", "💥", "\uD83D"],
    starts: ["", "a"],
  },
};

/** Parses a text. Throws AssertionError for an undocumented error, or if its message shows too much. */
export function attempt({ parse, refusesWith, says = /(?:)/ }: Parser, text: string): void {
  try {
    parse(text);
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    assert(error instanceof Error && error.name === refusesWith, String(error).slice(0, 500));
    assertBrief(error.message);
    assert.match(error.message, says);
  }
}

function assertTried(tried: string[], key: string): void {
  assert(tried.length === 0 || (tried.length === 1 && tried[0] === key));
}

/** A message is one line without control characters. It is short: it quotes some texts, each cut to 200 characters. */
function assertBrief(message: string): void {
  assert(message.length < 3000, `${message.length} characters: ${message.slice(0, 500)}`);
  assert.doesNotMatch(message, /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
}
