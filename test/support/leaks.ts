/**
 * Credentials that are planted in a test, and the search for them at its end: in all that figwasp printed, and in all
 * that it sent to servers which must not receive them.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { TestContext } from "node:test";
import type { Keyring } from "../../lib/credentials/keyring.ts";
import type { Stub } from "./stub.ts";

/** What is searched when a test ends. */
export interface Witness {
  /** Texts that figwasp printed, threw or wrote. */
  said: (() => string[])[];
  stubs: Stub[];
  planted: Planted[];
  /** What the test has to close at its end. */
  endings: (() => unknown)[];
}

/** The part of a test that is used here: its `after` hooks. */
export type Ending = Pick<TestContext, "after" | "signal">;
const witnesses = new WeakMap<Ending, Witness>();

/** The witness of a test. Whoever creates a server or a text adds it. The search runs after everything is closed. */
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

/** Adds a text that figwasp printed, and returns it. */
export function heard(t: Ending, text: string): string {
  witnessOf(t).said.push(() => [text]);
  return text;
}

/** A secret of a test, and the servers that may receive it. */
export interface Planted {
  /** All encodings of it that are searched for. */
  forms: string[];
  seenBy: Set<string>;
}

/** Registers a secret for the search at the end of the test; `servers` may receive it. */
export function plantText(t: Ending, text: string, ...seenBy: (string | Stub)[]): Planted {
  const planted = { forms: spellings(text), seenBy: new Set(seenBy.map(nameOf)) };
  witnessOf(t).planted.push(planted);
  return planted;
}

/** Plants a token that a token server would give. */
export function plantToken(t: Ending, ...seenBy: (string | Stub)[]): string {
  const token = `${createHash("sha256").update(oddText()).digest("base64")}~+/.`;
  plantText(t, token, ...seenBy);
  return token;
}

export type Login = ReturnType<typeof plant>;

/** Plants a login; without a given password, it makes a unique one. */
export function plant(t: Ending, login: { user?: string; password?: string } = {}, ...seenBy: (string | Stub)[]) {
  const { user = "user", password = oddText() } = login;
  const planted = plantText(t, password, ...seenBy);
  const basic = Buffer.from(`${user}:${password}`).toString("base64");
  planted.forms.push(...spellings(`${user}:${password}`));
  return { ...planted, user, password, authorization: `Basic ${basic}`, credential: { basic } };
}

/** A keyring of one Secret for each login, `shop/pull-1` and so on; the key in each is a host. */
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

/** Contains characters that base64, URLs, JSON and HTTP each encode differently, around a unique text. */
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

/** Where a planted secret is found, as a whole or as a recognisable part. */
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

// A text that was cut can contain a part of the secret.
function partsOf(form: string): string[] {
  const starts = Math.max(1, form.length - tellingLength + 1);
  return Array.from({ length: starts }, (_each, at) => form.slice(at, at + tellingLength));
}

function nameOf(server: string | Stub): string {
  return typeof server === "string" ? server : server.name;
}
