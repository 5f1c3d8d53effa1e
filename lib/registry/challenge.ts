/**
 * The challenges with which a registry answers 401: how it asks for a credential.
 */
import type { Response } from "../http/fetch.ts";
import { messageOf, oneLine } from "../text.ts";

/** One challenge of a `WWW-Authenticate` header. */
export interface Challenge {
  /** In lower case: `bearer`. */
  scheme: string;
  /** By name in lower case: `realm`, `service`, `scope`. */
  params: Record<string, string>;
}

// Sticky: each matches at lastIndex alone.
const httpToken = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const separators = /[ \t,]*/y;
const schemePattern = new RegExp(`(${httpToken})(?:[ \\t]+|(?=,|$))`, "y");
const paramPattern = new RegExp(
  `(${httpToken})[ \\t]*=[ \\t]*(?:(${httpToken})|"((?:[^"\\\\]|\\\\.)*)")[ \\t]*(?=,|$)`,
  "y",
);
const token68 = /[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)/y; // what Negotiate sends in place of parameters

/** `WWW-Authenticate` → its challenges, also several in one header: `Basic realm="a", Bearer realm="b",scope="c:d,e"`.
 *  Empty for an empty header. Throws SyntaxError. See RFC 9110, 11.6.1. */
export function parseChallenges(header: string): Challenge[] {
  let position = 0;
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = position;
    const match = pattern.exec(header);
    if (match) position = pattern.lastIndex;
    return match;
  };

  const challenges: Challenge[] = [];
  for (take(separators); position < header.length; take(separators)) {
    const current = challenges.at(-1);
    const param = current && take(paramPattern);
    if (param) {
      const [, name = "", plain, quoted = ""] = param;
      current.params[name.toLowerCase()] = plain ?? quoted.replace(/\\(.)/g, "$1");
      continue;
    }
    const scheme = take(schemePattern)?.[1];
    if (scheme === undefined) {
      throw new SyntaxError(`Cannot parse the challenge at character ${position + 1} of ${header.length}`);
    }
    challenges.push({ scheme: scheme.toLowerCase(), params: {} });
    take(token68);
  }
  return challenges;
}

/** The challenges of a response. Throws Error rather than SyntaxError, which callers take for an image name that cannot
 *  be parsed. */
export function readChallenges({ headers }: Response): Challenge[] {
  try {
    return parseChallenges(headers.get("www-authenticate") ?? "");
  } catch (cause) {
    throw new Error(messageOf(cause), { cause });
  }
}

/** The schemes of some challenges, for a message: `Basic or Bearer of auth.docker.io`. `tokenHost` is the host of the
 *  Bearer challenge's realm. */
export function describeChallenges(challenges: Challenge[], tokenHost: string | undefined): string {
  const names = challenges.map(({ scheme }) => {
    const name = `${scheme.charAt(0).toUpperCase()}${scheme.slice(1)}`;
    return tokenHost !== undefined && scheme === "bearer" ? `${name} of ${tokenHost}` : name;
  });
  return oneLine([...new Set(names)].join(" or "));
}
