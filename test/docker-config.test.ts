import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { describe, it, type TestContext } from "node:test";
import { parseDockerConfig, readDockerConfig } from "../lib/credentials/docker-config.ts";
import { ConfigError } from "../lib/errors.ts";
import { heard, plant } from "./support/leaks.ts";
import { folderOf } from "./support/registry.ts";

const base64 = (text: string) => Buffer.from(text).toString("base64");
const parse = (entry: unknown) => parseDockerConfig(Buffer.from(JSON.stringify({ auths: { "reg.example": entry } })));

/** The login that an entry is parsed to, as `user:password`; undefined if it has none. */
function loginOf(entry: unknown): string | undefined {
  const [login] = parse(entry);
  return login?.credential && Buffer.from(login.credential.basic, "base64").toString("utf8");
}

/** The message of the error. At the end of the test it is searched for planted passwords. */
function refusalOf(t: TestContext, work: () => unknown): string {
  try {
    work();
  } catch (error) {
    assert(error instanceof Error && error.cause === undefined);
    return heard(t, error.message);
  }
  assert.fail("nothing was thrown");
}

describe("parseDockerConfig()", () => {
  // Each row: an entry, and the login that the kubelet reads from it.
  const rows: [string, unknown, string | undefined][] = [
    ["auth", { auth: base64("user:word") }, "user:word"],
    ["username and password", { username: "user", password: "word" }, "user:word"],
    ["auth before username and password", { auth: base64("a:b"), username: "c", password: "d" }, "a:b"],
    ["username and password where auth is empty", { auth: "", username: "c", password: "d" }, "c:d"],
    ["username and password where auth is null", { auth: null, username: "c", password: "d" }, "c:d"],
    ["auth with padding", { auth: base64("u:pw") }, "u:pw"],
    ["auth without padding", { auth: base64("u:pw").replace(/=+$/, "") }, "u:pw"],
    ["auth with line ends", { auth: base64("user:a long word").replace(/.{4}/g, "$&\r\n") }, "user:a long word"],
    ["an empty user", { auth: base64(":word") }, ":word"],
    ["an empty password", { auth: base64("user:") }, "user:"],
    ["a user name alone", { username: "user" }, "user:"],
    ["a password alone", { password: "word" }, ":word"],
    ["colons in the password", { auth: base64("user:w:o:rd") }, "user:w:o:rd"],
    ["NUL at the end, which stays", { auth: base64("user:word\0") }, "user:word\0"],
    ["blanks around the password, which stay", { auth: base64("user: word ") }, "user: word "],
    ["other letters than ASCII", { username: "jürgen", password: "wörd-☃" }, "jürgen:wörd-☃"],
    ["what the kubelet knows nothing of", { auth: base64("a:b"), email: "e", registrytoken: 1, x: {} }, "a:b"],
    ["no credential: an empty entry", {}, undefined],
    ["no credential: null", null, undefined],
    ["no credential: an identity token, which the kubelet passes over", { identitytoken: "t0ken" }, undefined],
  ];
  for (const [what, entry, login] of rows) {
    it(`reads ${what}`, () => assert.equal(loginOf(entry), login));
  }

  it("keeps the bytes of a password that is no UTF-8", () => {
    const auth = Buffer.from([0x75, 0x3a, 0xff, 0xfe]).toString("base64");
    assert.equal(parse({ auth })[0]?.credential?.basic, auth);
  });

  it("passes over identity tokens, as the kubelet does, and takes what stands beside", () => {
    const [login] = parse({ auth: base64("a:b"), identitytoken: "t0ken" });
    assert.deepEqual(login, { key: "reg.example", credential: { basic: base64("a:b") } });
  });

  // Each row: what is wrong with an entry that contains a password, and the message.
  const wrong: [string, (auth: string) => unknown, RegExp][] = [
    ["a blank before", (auth) => ({ auth: ` ${auth}` }), /^its entry "reg.example" has an "auth" that is not base64$/],
    ["a blank after", (auth) => ({ auth: `${auth} ` }), /has an "auth" that is not base64$/],
    ["a tab within", (auth) => ({ auth: `${auth.slice(0, 4)}\t${auth.slice(4)}` }), /that is not base64$/],
    ["half of its padding", (auth) => ({ auth: `${auth.replace(/=+$/, "")}=A` }), /that is not base64$/],
    ["the URL-safe form", (auth) => ({ auth: `${auth.slice(0, 4)}-_${auth.slice(6)}` }), /, but its URL-safe form$/],
    [
      "no colon",
      (auth) => ({ auth: base64(Buffer.from(auth, "base64").toString().replaceAll(":", "")) }),
      /has an "auth" that is not the base64 of username:password$/,
    ],
    ["no base64 at all", (auth) => ({ auth: `user:${Buffer.from(auth, "base64").toString()}` }), /that is not base64$/],
    ["a list for auth", (auth) => ({ auth: [auth] }), /^its entry "reg.example" has a value that is no text$/],
    ["a list for password", (auth) => ({ username: "a", password: [auth] }), /has a value that is no text$/],
    ["a number for username", (auth) => ({ username: 1, password: auth }), /has a value that is no text$/],
    ["false for auth", (auth) => ({ auth: false, password: auth }), /has a value that is no text$/],
    ["a text for the entry", (auth) => auth, /^its entry "reg.example" has no object$/],
    ["a list for the entry", (auth) => [auth], /^its entry "reg.example" has no object$/],
  ];
  for (const [what, change, message] of wrong) {
    it(`refuses an entry with ${what}, and shows nothing of it`, (t) => {
      const { credential } = plant(t);
      assert.match(
        refusalOf(t, () => parse(change(credential.basic))),
        message,
      );
    });
  }

  it("refuses the whole where one entry among good ones is wrong", (t) => {
    const auths = { "good.example": { auth: plant(t).credential.basic }, "bad.example": { auth: "?" } };
    const message = refusalOf(t, () => parseDockerConfig(Buffer.from(JSON.stringify({ auths }))));
    assert.equal(message, 'its entry "bad.example" has an "auth" that is not base64');
  });

  it("names a key without the user name and the password that it may hold", (t) => {
    const { password } = plant(t);
    const auths = { [`https://user:${encodeURIComponent(password)}@reg.example/a`]: { auth: "?" } };
    const message = refusalOf(t, () => parseDockerConfig(Buffer.from(JSON.stringify({ auths }))));
    assert.equal(message, 'its entry "…@reg.example/a" has an "auth" that is not base64');
  });

  const wholes: [string, (auth: string) => string, RegExp][] = [
    ["no JSON", (auth) => `{"auths": {"a": {"auth": "${auth}"}}`, /^it is not a JSON object$/],
    [
      "the base64 of it once more",
      (auth) => base64(`{"auths": {"a": {"auth": "${auth}"}}}`),
      /^it is not a JSON object$/,
    ],
    ["a list", (auth) => `["${auth}"]`, /^it is not a JSON object$/],
    ["a text", (auth) => `"${auth}"`, /^it is not a JSON object$/],
    ["nothing", () => "", /^it is not a JSON object$/],
    ["auths that are a list", (auth) => `{"auths": ["${auth}"]}`, /^its "auths" is not an object$/],
    ["auths that are a text", (auth) => `{"auths": "${auth}"}`, /^its "auths" is not an object$/],
  ];
  for (const [what, text, message] of wholes) {
    it(`refuses ${what}, and shows nothing of it`, (t) => {
      const config = Buffer.from(text(plant(t).credential.basic));
      assert.match(
        refusalOf(t, () => parseDockerConfig(config)),
        message,
      );
    });
  }

  it("holds nothing where there are no auths, whatever else Docker writes", () => {
    const config = { credsStore: "desktop", credHelpers: { "gcr.io": "gcr" }, HttpHeaders: { a: "b" }, proxies: {} };
    assert.deepEqual(parseDockerConfig(Buffer.from(JSON.stringify(config))), []);
    assert.deepEqual(parseDockerConfig(Buffer.from('{"auths":null}')), []);
    assert.deepEqual(parseDockerConfig(Buffer.from('{"auths":{}}')), []);
  });

  it("reads the older form, which has no auths around its entries", () => {
    const entries = { "reg.example": { username: "a", password: "b", email: "e" } };
    const login = { key: "reg.example", credential: { basic: base64("a:b") } };
    assert.deepEqual(parseDockerConfig(Buffer.from(JSON.stringify(entries)), true), [login]);
    assert.deepEqual(parseDockerConfig(Buffer.from(JSON.stringify(entries))), []);
  });

  it("keeps the order and the spelling of the keys", () => {
    const keys = ["https://index.docker.io/v1/", "reg.io", "*.io", "REG.io"];
    const auths = Object.fromEntries(keys.map((key) => [key, { auth: base64("a:b") }]));
    const logins = parseDockerConfig(Buffer.from(JSON.stringify({ auths })));
    assert.deepEqual(
      logins.map(({ key }) => key),
      keys,
    );
  });
});

describe("readDockerConfig()", () => {
  const config = (login: string) => JSON.stringify({ auths: { "reg.example": { auth: base64(login) } } });

  for (const [what, files, read] of [
    ["config.json", { "config.json": config("a:b") }, "a:b"],
    [".dockerconfigjson", { ".dockerconfigjson": config("c:d"), "..data": "" }, "c:d"],
    ["config.json of both", { ".dockerconfigjson": config("c:d"), "config.json": config("a:b") }, "a:b"],
  ] as const) {
    it(`reads ${what}`, async (t) => {
      const folder = await folderOf(t, files);
      const { file, logins } = await readDockerConfig(folder);
      assert.equal(file, `${folder}/${what.split(" ")[0]}`);
      assert.deepEqual(logins, [{ key: "reg.example", credential: { basic: base64(read) } }]);
    });
  }

  it("keeps what docker login was given in place of a password", async (t) => {
    const entries = {
      "a.example": { auth: base64("0:"), identitytoken: "t0ken" },
      "b.example": { identitytoken: "t0ken" },
    };
    const folder = await folderOf(t, { "config.json": JSON.stringify({ auths: entries }) });
    assert.deepEqual((await readDockerConfig(folder)).logins, [
      { key: "a.example", credential: { basic: base64("0:"), identityToken: "t0ken" } },
      { key: "b.example", credential: { basic: base64(":"), identityToken: "t0ken" } },
    ]);
  });

  const broken: [string, (auth: string) => Record<string, string>, RegExp][] = [
    ["neither file", () => ({ "other.json": "{}" }), /: it holds neither config.json nor .dockerconfigjson$/],
    ["no JSON", (auth) => ({ "config.json": `{"auth": "${auth}"` }), /: it is not a JSON object$/],
    [
      "a wrong entry",
      (auth) => ({ "config.json": `{"auths":{"a":{"auth":"${auth} "}}}` }),
      /: its entry "a" has an "auth"/,
    ],
  ];
  for (const [what, files, message] of broken) {
    it(`throws a ConfigError that names the folder, and nothing in it: ${what}`, async (t) => {
      const folder = await folderOf(t, files(plant(t).credential.basic));
      const error: unknown = await readDockerConfig(folder).catch((cause: unknown) => cause);
      assert(error instanceof ConfigError);
      assert.match(heard(t, error.message), message);
      assert(error.message.startsWith(`Cannot use DOCKER_CONFIG "${folder}": `), error.message);
    });
  }

  it("throws a ConfigError where the folder is not there, or the file cannot be read", async (t) => {
    await assert.rejects(readDockerConfig("/nowhere/at/all"), ConfigError);
    const folder = await folderOf(t, {});
    await mkdir(`${folder}/config.json`);
    await assert.rejects(readDockerConfig(folder), ConfigError);
  });
});
