/**
 * Credentials that are planted in a test, and the search for them when it ends: in all that figwasp said, and in all
 * that servers were sent which may not see them.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { TestContext } from "node:test";
import type { Keyring } from "../../lib/credentials/keyring.ts";
import type { Stub } from "./serve.ts";

/** What there is to search when a test ends. */
export interface Witness {
  /** What figwasp printed, threw or wrote. */
  said: (() => string[])[];
  stubs: Stub[];
  planted: Planted[];
  /** What the test has to put away. */
  endings: (() => unknown)[];
}

/** A test, as far as its servers and texts end with it. */
export type Ending = Pick<TestContext, "after" | "signal">;
const witnesses = new WeakMap<Ending, Witness>();

/** The one of a test; servers and texts are added to it by who makes them. It searches when all is put away. */
export function witnessOf(t: Ending): Witness {
  const found = witnesses.get(t);
  if (found) return found;
  const witness: Witness = { said: [], stubs: [], planted: [], endings: [] };
  witnesses.set(t, witness);
  t.after(async () => {
    for (const end of witness.endings.toReversed()) await end();
    assert.deepEqual(leaksOf(witness), []);
  });
  return witness;
}

/** Adds a text that figwasp said, and gives it back. */
export function heard(t: Ending, text: string): string {
  witnessOf(t).said.push(() => [text]);
  return text;
}

/** A secret of a test, and who may see it. */
export interface Planted {
  /** All of its spellings. */
  forms: string[];
  seenBy: Set<string>;
}

/** Makes the end of the test search for a secret; the servers are those that may see it. */
export function plantText(t: Ending, text: string, ...seenBy: (string | Stub)[]): Planted {
  const planted = { forms: spellings(text), seenBy: new Set(seenBy.map(nameOf)) };
  witnessOf(t).planted.push(planted);
  return planted;
}

/** Plants a token, as a token server would give it. */
export function plantToken(t: Ending, ...seenBy: (string | Stub)[]): string {
  const token = `${createHash("sha256").update(oddText()).digest("base64")}~+/.`;
  plantText(t, token, ...seenBy);
  return token;
}

export type Login = ReturnType<typeof plant>;

/** Plants a login; its password is like no other, where none is given. */
export function plant(t: Ending, login: { user?: string; password?: string } = {}, ...seenBy: (string | Stub)[]) {
  const { user = "user", password = oddText() } = login;
  const planted = plantText(t, password, ...seenBy);
  const basic = Buffer.from(`${user}:${password}`).toString("base64");
  planted.forms.push(...spellings(`${user}:${password}`));
  return { ...planted, user, password, authorization: `Basic ${basic}`, credential: { basic } };
}

/** The keyring of a Secret each, `shop/pull-1` and on, whose key is a host and what it holds a login. */
export function keyringOf(
  ...logins: [string, { credential: Login["credential"] & { identityToken?: string } }][]
): Keyring {
  const entries = logins.map(([key, { credential }], at) => ({
    key,
    credential,
    source: `Secret shop/pull-${at + 1}`,
  }));
  const whyNoneUsable = logins.map(
    (_login, at) => `no key of Secret shop/pull-${at + 1} that holds a credential matches`,
  );
  return { sources: [entries], whyNoneUsable };
}

let count = 0;

/** Characters that base64, URLs, JSON and HTTP each write in another way, and between them what is in no other text. */
export function oddText(): string {
  const unique = createHash("sha256")
    .update(`${process.pid} ${(count += 1)}`)
    .digest("hex");
  return (
    Array.from('$:é+/%"&\\=? ß€')
      .map((odd, at) => unique.slice(3 * at, 3 * at + 3) + odd)
      .join("") + unique.slice(60)
  );
}

function spellings(text: string): string[] {
  const bytes = Buffer.from(text);
  const base64 = bytes.toString("base64");
  return [
    text,
    JSON.stringify(text).slice(1, -1),
    bytes.toString("latin1"),
    base64,
    base64.replace(/=+$/, ""),
    bytes.toString("base64url"),
    encodeURIComponent(text),
    encodeURIComponent(base64),
    new URLSearchParams({ "": text }).toString().slice(1),
  ];
}

const tellingLength = 16;

/** Where a planted secret is to be found, whole or a telling part of it. */
export function leaksOf({ said, stubs, planted }: Witness): string[] {
  const texts = said.flatMap((read) => read());
  return planted.flatMap(({ forms, seenBy }) => {
    const isIn = (text: string) => forms.some((form) => partsOf(form).some((part) => text.includes(part)));
    const told = texts.filter(isIn).map((text) => `figwasp said: ${text}`);
    const strangers = stubs.filter((stub) => !seenBy.has(nameOf(stub)));
    const sent = strangers.flatMap((stub) =>
      stub.requests
        .filter((request) => isIn(JSON.stringify(request)) || isIn(Object.values(request.headers).join("\n")))
        .map(({ method, path }) => `${nameOf(stub)} was sent it: ${method} ${path}`),
    );
    return [...told, ...sent];
  });
}

// A text that was cut holds a part.
function partsOf(form: string): string[] {
  const starts = Math.max(1, form.length - tellingLength + 1);
  return Array.from({ length: starts }, (_each, at) => form.slice(at, at + tellingLength));
}

function nameOf(server: string | Stub): string {
  return typeof server === "string" ? server : server.name;
}
