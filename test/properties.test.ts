import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import fc from "fast-check";
import { matchingKeys, parseChallenges, parseReference, runningDigest } from "../figwasp.ts";
import { parseDockerConfig } from "../lib/credentials/docker-config.ts";
import { parseAddress } from "../lib/http/addresses.ts";
import type { Challenge } from "../lib/registry/challenge.ts";
import { parseRetryAfter } from "../lib/http/retry-after.ts";
import { oneLine, parseGoDuration } from "../lib/text.ts";
import { attempt, hex, now, type Parser, parsers } from "./support/parsers.ts";

// A failing property prints its seed and path. SEED=2 RUNS=10000 tries other values, and more of them.
fc.configureGlobal({
  seed: Number(process.env["SEED"] ?? 1),
  numRuns: Number(process.env["RUNS"] ?? 500),
});

// This runs first, in a process that can be killed: a parser that hangs would otherwise hang the test run.
const trouble = await tryLongTexts();

async function tryLongTexts(): Promise<string | undefined> {
  const file = fileURLToPath(import.meta.resolve("./support/long-texts.ts"));
  const options = { env: {}, timeout: 20_000, killSignal: "SIGKILL" } as const;
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [file, ...Object.keys(parsers)], options);
    return Object.keys(parsers).find((name) => !stdout.includes(`${name} of `));
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    return `${stderr || "it was killed"} at ${stdout.trimEnd().split("\n").at(-1)}`;
  }
}

/** Checks a property for all values of some arbitraries. */
function forAll<Values extends [unknown, ...unknown[]]>(
  arbitraries: { [At in keyof Values]: fc.Arbitrary<Values[At]> },
  check: (...values: Values) => void,
): void {
  assert(trouble === undefined, "not tried, since it may not end");
  fc.assert(fc.property(...arbitraries, check));
}

/** A text that is put together from pieces of a grammar. */
function textOfPieces(pieces: string[]): fc.Arbitrary<string> {
  return fc.array(fc.constantFrom(...pieces), { maxLength: 12 }).map((parts) => parts.join(""));
}

const letters = "abcxyz019".split("");
const anyText = fc.string({ unit: "binary", maxLength: 300 });

describe("what somebody else wrote", () => {
  it("is read in linear time, however long", () => assert.equal(trouble, undefined));

  const texts = ({ pieces, starts }: Parser) => {
    const start = fc.constantFrom(...starts);
    const ofGrammar = fc.tuple(start, textOfPieces(pieces)).map((parts) => parts.join(""));
    const spoiled = fc.tuple(ofGrammar, fc.string({ unit: "binary", maxLength: 3 }), fc.nat({ max: 40 }));
    return fc.oneof(
      anyText,
      fc.string({ unit: "grapheme", minLength: 150, maxLength: 2500 }),
      ofGrammar,
      spoiled.map(([text, odd, at]) => text.slice(0, at) + odd + text.slice(at)),
    );
  };
  for (const [name, parser] of Object.entries(parsers)) {
    it(`is read by ${name}, or refused in a few words`, () => {
      forAll([texts(parser)], (text) => attempt(parser, text));
    });
  }
});

const separator = fc.constantFrom(".", "_", "__", "-", "---");
const word = fc.string({ unit: fc.constantFrom(...letters), minLength: 1, maxLength: 6 });
const component = fc
  .tuple(
    word,
    fc.array(
      fc.tuple(separator, word).map((pair) => pair.join("")),
      { maxLength: 3 },
    ),
  )
  .map(([first, rest]) => first + rest.join(""));
const path = fc.array(component, { minLength: 1, maxLength: 4 }).map((parts) => parts.join("/"));
const label = fc.stringMatching(/^[a-z0-9](?:[a-z0-9-]{0,6}[a-z0-9])?$/);
const port = fc.oneof(
  fc.constant(""),
  fc.nat({ max: 65535 }).map((number) => `:${number}`),
);
const name = fc.array(label, { minLength: 2, maxLength: 4 }).map((labels) => labels.join("."));
const host = fc
  .tuple(fc.oneof({ weight: 4, arbitrary: name }, fc.constantFrom("localhost", "[fc00::1]", "REG")), port)
  .map(([text, end]) => text + end);
const tag = fc.oneof(fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/), fc.constant("A".repeat(128)));
const sha256 = fc.string({ unit: fc.constantFrom(...hex.slice(0, 16).split("")), minLength: 64, maxLength: 64 });
const pin = fc.oneof(
  fc.constant(""),
  sha256.map((digits) => `@sha256:${digits}`),
);

describe("parseReference(), of any parts", () => {
  it("gives back the parts, with a tag where none is", () => {
    forAll([host, path, fc.option(tag), pin], (registry, repository, named, digest) => {
      const image = `${registry}/${repository}${named === null ? "" : `:${named}`}${digest}`;
      const expected = { registry, repository, tag: named ?? "latest", ...(digest && { digest: digest.slice(1) }) };
      assert.deepEqual(parseReference(image), expected);
    });
  });

  it("takes what names no host from Docker Hub, whose library needs no name", () => {
    const hubPath = path.filter((text) => !/^[^/]*\.[^/]*\/|^localhost\//.test(text) && !/^[a-f0-9]{64}$/.test(text));
    forAll([hubPath, tag], (repository, named) => {
      const expected = parseReference(`docker.io/${repository}:${named}`);
      assert.equal(expected.repository, repository.includes("/") ? repository : `library/${repository}`);
      for (const start of ["", "index.docker.io/"]) {
        assert.deepEqual(parseReference(`${start}${repository}:${named}`), expected);
      }
    });
  });

  it("reads its own full name as the same", () => {
    const text = textOfPieces([...letters, "a/", "/", "reg.io", ":", ":1", ".", "-", "__", "A", `@sha256:${hex}`]);
    forAll([text], (image) => {
      let found;
      try {
        found = parseReference(image);
      } catch {
        return;
      }
      const { registry, repository, tag: named, digest } = found;
      const full = `${registry}/${repository}:${named}${digest === undefined ? "" : `@${digest}`}`;
      assert.deepEqual(parseReference(full), found);
    });
  });

  it("refuses any other digest than algorithm and hex", () => {
    const wrong = fc.tuple(sha256, fc.nat({ max: 63 }), fc.constantFrom("g", "-", ":", " ", "", "@"));
    forAll([wrong], ([digits, at, odd]) => {
      const digest = odd === "" ? digits.slice(0, Math.min(at, 31)) : digits.slice(0, at) + odd + digits.slice(at + 1);
      assert.throws(() => parseReference(`reg.io/a@sha256:${digest}`), SyntaxError);
    });
  });
});

describe("runningDigest(), of any parts", () => {
  it("gives the digest, whatever repository is named", () => {
    const scheme = fc.constantFrom("", "docker://", "docker-pullable://", "cri-o://");
    forAll([scheme, host, path, sha256], (start, registry, repository, digits) => {
      const digest = `sha256:${digits}`;
      const named = `${start}${registry}/${repository}@${digest}`;
      assert.deepEqual(runningDigest(named), { kind: "digest", digest, isImageId: false });
      for (const bare of [digits, digest]) {
        assert.deepEqual(runningDigest(start + bare), { kind: "digest", digest, isImageId: true });
      }
    });
  });

  it("gives none for another number of digits", () => {
    forAll([sha256, fc.nat({ max: 63 })], (digits, length) => {
      for (const wrong of [digits.slice(0, length), digits + digits.slice(0, length + 1)]) {
        assert("reason" in runningDigest(`a@sha256:${wrong}`));
        assert("reason" in runningDigest(wrong));
      }
      assert("reason" in runningDigest(`a@${digits}`), "of no algorithm");
    });
  });
});

describe("parseChallenges(), of any list", () => {
  const token = fc.string({ unit: fc.constantFrom(..."aZ09!#$%&'*+.^_`|~-".split("")), minLength: 1, maxLength: 5 });
  const value = fc.oneof(token, textOfPieces(["a", " ", ",", "=", '"', "\\", "\t", "é", ":", "/", "Basic ", 'b="c"']));
  const lower = token.map((text) => text.toLowerCase());
  const params = fc.uniqueArray(fc.tuple(lower, value), { selector: ([key]) => key, maxLength: 4 });
  const challenge = fc.tuple(lower, params).map(([scheme, pairs]): Challenge => {
    return { scheme, params: Object.fromEntries(pairs) };
  });
  const list = fc.array(challenge, { maxLength: 4 });
  // Writes a list in each of the ways that RFC 9110 allows.
  const isToken = (text: string) => /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(text);
  const write = (challenges: Challenge[], choose: (max: number) => number) => {
    const pick = (...texts: string[]) => texts[choose(texts.length - 1)] ?? "";
    const cased = (text: string) => pick(text, text.toUpperCase());
    const comma = () => pick(",", ", ", " ,\t", ",,", ", , ");
    const blank = () => pick("", "", " ", "\t ");
    const quoted = (text: string) => `"${text.replace(/["\\]/g, "\\$&").replace(/a/g, () => pick("a", "\\a"))}"`;
    const join = (texts: string[]) => texts.reduce((all, one) => (all === "" ? one : all + comma() + one), "");
    const written = challenges.map(({ scheme, params: held }) => {
      const pairs = Object.entries(held).map(([key, text]) => {
        return `${cased(key)}${blank()}=${blank()}${isToken(text) ? pick(text, quoted(text)) : quoted(text)}`;
      });
      return cased(scheme) + (pairs.length > 0 ? pick(" ", "  ") : "") + join(pairs);
    });
    return join(written);
  };

  it("gives back the list, however it is written", () => {
    forAll([list, fc.infiniteStream(fc.nat({ max: 19 }))], (challenges, numbers) => {
      const choose = (max: number) => Number(numbers.next().value) % (max + 1);
      assert.deepEqual(parseChallenges(write(challenges, choose)), challenges);
    });
  });

  it("reads several headers that were joined as one after the other", () => {
    forAll([list, list], (some, others) => {
      const headers = [some, others].map((challenges) => write(challenges, () => 0));
      assert.deepEqual(parseChallenges(headers.join(", ")), [...some, ...others]);
    });
  });

  it("passes over what comes with a scheme in one piece", () => {
    const piece = fc.stringMatching(/^[A-Za-z0-9._~+/-]{1,8}={0,2}$/);
    forAll([lower, piece, list], (scheme, token68, challenges) => {
      const header = `${scheme} ${token68}, ${write(challenges, () => 0)}`;
      assert.deepEqual(parseChallenges(header), [{ scheme, params: {} }, ...challenges]);
    });
  });
});

describe("parseDockerConfig(), of any logins", () => {
  const user = anyText.filter((text) => !text.includes(":"));
  const broken = (base64: string, at: number) => `${base64.slice(0, at)}\n${base64.slice(at)}`;
  const read = (entry: unknown) => parseDockerConfig(Buffer.from(JSON.stringify({ auths: { "reg.io": entry } })));

  it("gives back the bytes of user and password, in whichever form they stand", () => {
    forAll([user, anyText, fc.nat()], (username, password, at) => {
      const basic = Buffer.from(`${username}:${password}`).toString("base64");
      const forms = [basic, basic.replace(/=+$/, ""), broken(basic, at % basic.length)];
      for (const auth of forms) {
        assert.deepEqual(read({ auth, username: "other" }), [{ key: "reg.io", credential: { basic } }]);
      }
      const isEmpty = username === "" && password === "";
      const credential = isEmpty ? undefined : { basic };
      assert.deepEqual(read({ username, password }), [{ key: "reg.io", credential }]);
    });
  });

  it("gives each key once, in both forms of the file", () => {
    forAll([fc.uniqueArray(anyText, { maxLength: 8 })], (keys) => {
      const auths = Object.fromEntries(keys.map((key) => [key, { auth: "YTpi" }]));
      for (const [config, isOlderForm] of [[{ auths }, false] as const, [auths, true] as const]) {
        const logins = parseDockerConfig(Buffer.from(JSON.stringify(config)), isOlderForm);
        assert.deepEqual(logins.map(({ key }) => key).toSorted(), keys.toSorted());
        for (const { credential } of logins) assert.deepEqual(credential, { basic: "YTpi" });
      }
    });
  });

  it("says nothing of what it holds where it is wrong", () => {
    const secret = "s3cr3t";
    const text = fc.constantFrom(secret, `${secret}:${secret}`, btoa(`user:${secret}`), `${btoa(`u:${secret}`)}*`);
    const value = fc.oneof(text, fc.array(text, { maxLength: 2 }), fc.record({ auth: text }));
    const field = fc.constantFrom("auth", "username", "password", "identitytoken");
    const entry = fc.oneof(value, fc.dictionary(field, value, { maxKeys: 3 }));
    const starts = ["", `user:${secret}@`, `https://${secret}@`, `https://a:${secret}/${secret}@`];
    const key = fc.tuple(fc.constantFrom(...starts), fc.constantFrom("reg.io", "reg.io/a/", `reg.io?t=${secret}`));
    const auths = fc.tuple(key, entry).map(([parts, held]) => ({ [parts.join("")]: held }));
    const config = fc.oneof(value, auths, fc.record({ auths: fc.oneof(auths, value) }));
    const shown = new RegExp(`${secret}|${btoa(secret).slice(0, 7)}|${btoa(`user:${secret}`).slice(0, 12)}`);
    forAll([config, fc.boolean(), fc.nat({ max: 60 })], (held, isOlderForm, cut) => {
      const whole = JSON.stringify(held);
      for (const file of [whole, whole.slice(0, cut), secret + whole]) {
        try {
          parseDockerConfig(Buffer.from(file), isOlderForm);
        } catch (error) {
          assert.doesNotMatch(String(error), shown);
        }
      }
    });
  });
});

describe("matchingKeys(), of any keys", () => {
  const short = fc.constantFrom("a", "b", "ab", "ba", "aab", "abab");
  const shortHost = fc.array(short, { minLength: 1, maxLength: 3 }).map((labels) => labels.join("."));
  const shortPath = fc.array(fc.constantFrom("a", "b", "ab"), { minLength: 1, maxLength: 3 });
  const globLabel = fc.string({ unit: fc.constantFrom("a", "b", "*"), minLength: 1, maxLength: 5 });
  const globHost = fc.array(fc.oneof(short, globLabel), { minLength: 1, maxLength: 3 }).map((all) => all.join("."));
  const start = fc.constantFrom("", "https://", "http://", "user:word@");
  const end = fc.oneof(
    fc.constantFrom("", "/", "/v1/", "/v2/", "?q", "#f"),
    shortPath.map((parts) => `/${parts.join("/")}`),
  );
  const key = fc.tuple(start, fc.oneof(shortHost, globHost), end).map((parts) => parts.join(""));
  const hub = fc.constantFrom("docker.io", "index.docker.io", "https://index.docker.io/v1/", "*.io", "[");
  const keys = fc.uniqueArray(fc.oneof({ weight: 5, arbitrary: key }, { weight: 2, arbitrary: hub }), { maxLength: 8 });
  const image = fc
    .tuple(fc.oneof(shortHost, fc.constantFrom("docker.io", "a.b:5000")), shortPath)
    .map(([registry, parts]) => `${registry}/${parts.join("/")}`);

  it("gives keys that are there, each once, and in the same order however they stand", () => {
    // Equivalent keys, such as `a` and `https://a/`, are tried in the order in which they are listed.
    const bare = (text: string) => {
      const [named = ""] = text.replace(/^https?:\/\/|^user:word@/, "").split(/[?#]/);
      return named.replace(/\/v[12](?=\/)/, "").replace(/^([^/]*)\/$/, "$1");
    };
    forAll([keys, image], (all, named) => {
      const tried = matchingKeys(all, named);
      assert.equal(new Set(tried).size, tried.length);
      assert(tried.every((each) => all.includes(each)));
      const distinct = all.filter((each, at) => all.findIndex((other) => bare(other) === bare(each)) === at);
      assert.deepEqual(matchingKeys(distinct.toReversed(), named), matchingKeys(distinct, named));
    });
  });

  it("tries the key of the very host, with and without the path", () => {
    const fixed = host.filter((text) => text !== "index.docker.io");
    forAll([fixed, path, keys], (registry, repository, others) => {
      const own = [
        registry,
        `https://${registry}`,
        `${registry}/`,
        `https://${registry}/v1/`,
        `http://${registry}/v2/`,
        `${registry}/${repository}`,
      ];
      const tried = matchingKeys([...others, ...own], `${registry}/${repository}`);
      for (const each of own) assert(tried.includes(each), each);
      assert(tried.indexOf(`${registry}/${repository}`) < tried.indexOf(registry));
    });
  });

  it("keeps the order of the others where a key comes in, and all of them where that one does not match", () => {
    forAll([keys, fc.oneof(key, hub), fc.nat({ max: 8 }), image], (all, added, at, named) => {
      fc.pre(!all.includes(added));
      const before = matchingKeys(all, named);
      const after = matchingKeys(all.toSpliced(at, 0, added), named);
      const others = after.filter((each) => each !== added);
      assert.deepEqual(
        others,
        before.filter((each) => after.includes(each)),
      );
      if (matchingKeys([added], named).length === 0) assert.deepEqual(after, before);
    });
  });

  it("never takes the key of one host for another, be it longer or shorter by a part of its text", () => {
    const text = fc.constantFrom("a", "evil", ".", ".evil.io", "a.", "-", ":5000", "io");
    forAll(
      [name, text, fc.constantFrom("start", "end", "cut start", "cut end"), path],
      (own, part, where, repository) => {
        const others = { start: part + own, end: own + part, "cut start": own.slice(1), "cut end": own.slice(0, -1) };
        const other = others[where];
        for (const [one, two] of [[own, other] as const, [other, own] as const]) {
          assert.deepEqual(
            matchingKeys([one, `https://${one}/v1/`, `${one}/${repository}`], `${two}/${repository}`),
            [],
          );
        }
      },
    );
  });

  it("takes the path of a key for the start of the image's, and no other", () => {
    forAll([host, shortPath, shortPath], (registry, some, others) => {
      const [one, two] = [`${registry}/${some.join("/")}`, `${registry}/${others.join("/")}`];
      assert.deepEqual(matchingKeys([one, `https://${one}`], two).length, two.startsWith(one) ? 2 : 0);
    });
  });

  it("takes Docker Hub's key for Docker Hub alone", () => {
    const hubKeys = ["index.docker.io", "https://index.docker.io/", "https://index.docker.io/v1/"];
    const others = fc.oneof(
      host,
      fc.constantFrom("docker.iox", "docker.io:443", "docker.io.evil.io", "index-docker.io"),
    );
    forAll([others, path], (registry, repository) => {
      assert.deepEqual(matchingKeys(hubKeys, `${registry}/${repository}`), []);
      assert.deepEqual(matchingKeys(hubKeys, `docker.io/${repository}`), hubKeys);
    });
  });

  it("matches a glob label by label, as a slow comparison does", () => {
    // Compares one character at a time, and at each `*` tries both to end it and to extend it.
    const matches = (glob: string, text: string): boolean => {
      if (glob === "") return text === "";
      if (glob[0] !== "*") return glob[0] === text[0] && matches(glob.slice(1), text.slice(1));
      return matches(glob.slice(1), text) || (text !== "" && matches(glob, text.slice(1)));
    };
    const text = (...unit: string[]) => fc.string({ unit: fc.constantFrom(...unit), minLength: 1, maxLength: 7 });
    const pairs = fc.array(fc.tuple(text("a", "b", "*", "*"), text("a", "b")), { minLength: 1, maxLength: 3 });
    forAll([pairs, fc.boolean()], (all, isLonger) => {
      const glob = all.map((pair) => pair[0]).join(".") + (isLonger ? ".*" : "");
      const registry = all.map((pair) => pair[1]).join(".");
      const isMatch = !isLonger && all.every((pair) => matches(...pair));
      assert.deepEqual(matchingKeys([glob], `${registry}/a`), isMatch ? [glob] : []);
    });
  });
});

describe("parseRetryAfter(), of any time", () => {
  it("gives seconds as they are", () => {
    forAll([fc.nat({ max: 999_999_999 }), fc.constantFrom("", " ", "\t")], (seconds, blank) => {
      assert.equal(parseRetryAfter(blank + String(seconds) + blank, now), seconds);
    });
  });

  it("gives the seconds up to a date, rounded up, and none where it has passed", () => {
    const date = fc.date({ min: new Date("1970-01-01Z"), max: new Date("9999-12-31Z"), noInvalidDate: true });
    forAll([date, date], (at, from) => {
      const whole = Math.floor(at.getTime() / 1000) * 1000;
      const expected = Math.max(0, Math.ceil((whole - from.getTime()) / 1000));
      assert.equal(parseRetryAfter(at.toUTCString(), from), expected);
    });
  });
});

describe("parseGoDuration(), of any parts", () => {
  const units: Record<string, bigint> = { ns: 1n, us: 1000n, µs: 1000n, μs: 1000n, ms: 1_000_000n, s: 1_000_000_000n };
  Object.assign(units, { m: 60_000_000_000n, h: 3_600_000_000_000n });
  const unit = fc.constantFrom(...Object.keys(units));

  it("gives their sum", () => {
    const part = fc.tuple(fc.nat({ max: 100_000 }), fc.option(fc.stringMatching(/^[0-9]{0,9}$/)), unit);
    forAll([fc.array(part, { minLength: 1, maxLength: 6 })], (parts) => {
      const text = parts.map(([whole, rest, of]) => `${whole}${rest === null ? "" : `.${rest}`}${of}`).join("");
      // In units of 1e-9 ns, so that the sum is exact.
      const sum = parts.reduce((all, [whole, rest, of]) => {
        return all + BigInt(`${whole}${(rest ?? "").padEnd(9, "0")}`) * (units[of] ?? 0n);
      }, 0n);
      const expected = Number(sum) / 1e15;
      const found = parseGoDuration(text);
      assert(Math.abs(found - expected) <= expected * 1e-12, `${found} is not ${expected}`);
    });
  });

  it("gives whole milliseconds exactly, as Go prints them", () => {
    forAll([fc.nat({ max: 100_000_000_000 })], (ms) => {
      const text = `${Math.floor(ms / 36e5)}h${Math.floor(ms / 6e4) % 60}m${Math.floor(ms / 1000) % 60}s${ms % 1000}ms`;
      assert.equal(parseGoDuration(text), ms);
    });
  });

  it("gives a number for durations alone", () => {
    const grammar = /^(?:0|(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)$/;
    forAll([textOfPieces(["1", "0", "12.", ".5", ".", "h", "m", "s", "ms", "µs", "1s", "-", " ", "d"])], (text) => {
      assert.equal(!Number.isNaN(parseGoDuration(text)), grammar.test(text));
    });
  });
});

describe("parseAddress(), of any parts", () => {
  const base = "https://reg.io/v2/";
  // parseAddress() also refuses an "@" in the path, since parsers differ on where the host then ends.
  const webPath = fc.webPath().filter((text) => !text.includes("@"));
  const target = fc.tuple(fc.constantFrom("https", "http"), name, port, webPath, fc.webQueryParameters());

  it("gives the URL, as it was written in full or from the base", () => {
    forAll([target], ([scheme, registry, end, at, query]) => {
      const url = `${scheme}://${registry}${end}${at}?${query}`;
      fc.pre(URL.canParse(url));
      assert.equal(parseAddress(url, base, "It").href, new URL(url).href);
      assert.equal(parseAddress(`/a${at}?${query}`, base, "It").origin, "https://reg.io");
    });
  });

  it("refuses a user name and what parsers read differently", () => {
    forAll(
      [target, fc.constantFrom("u@", "u:p@", "@", "\\", " ", "\t", "\n", "\0", "\u007F")],
      ([scheme, registry], odd) => {
        for (const url of [`${scheme}://${odd}${registry}/a`, `${odd}${scheme}://${registry}`, `//${odd}${registry}`]) {
          assert.throws(() => parseAddress(url, base, "It"), /^Error: It (?:is not a URL|holds a user name)$/);
        }
      },
    );
  });
});

describe("oneLine(), of any text", () => {
  it("keeps what is short and plain, and says the same when asked again", () => {
    forAll([fc.string({ unit: "grapheme-ascii", maxLength: 200 }), anyText], (plain, odd) => {
      assert.equal(oneLine(plain), plain.trim());
      assert.equal(oneLine(oneLine(odd)), oneLine(odd));
    });
  });

  it("shows the start of what is long, and that it was cut", () => {
    forAll([fc.string({ unit: fc.constantFrom(...letters), minLength: 201, maxLength: 400 })], (text) => {
      assert.equal(oneLine(text), `${text.slice(0, 200)}…`);
    });
  });
});
