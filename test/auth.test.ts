import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { parseChallenges, parseReference, type Running } from "../figwasp.ts";
import { readRealm } from "../lib/registry/token.ts";
import { Hosts } from "../lib/registry/hosts.ts";
import { behind, digest, giving, holding, inTurn, queryOf, refusing, routes } from "./support/doors.ts";
import { type Internet, serveInternet } from "./support/internet.ts";
import { keyringOf, plant, plantToken } from "./support/leaks.ts";
import { type AskableRegistry, digestOf, noKeys, openRegistry, type RegistrySetUp } from "./support/registry.ts";
import type { Answer } from "./support/serve.ts";

const registry = "registry.example.org";
const image = `${registry}/app`;
const basic = 'Basic realm="r"';
const bearer = 'Bearer realm="/token",service="s"';
// A running digest other than the tag's, so that figwasp reads the manifest too.
const other: Running[] = [{ kind: "digest", digest: digestOf("another"), isImageId: false }];

type World = { internet: Internet; figwasp: AskableRegistry };
type SetUp = RegistrySetUp & { addresses?: Record<string, string> };

async function world(t: TestContext, servers: Record<string, Answer>, setUp: SetUp = {}): Promise<World> {
  const internet = await serveInternet(t, servers, { localhost: "127.0.0.1", ...setUp.addresses });
  return { internet, figwasp: await openRegistry(t, { fetch: internet.fetch, ...setUp }) };
}

describe("parseChallenges()", () => {
  const challenges: [string, ReturnType<typeof parseChallenges>][] = [
    ["", []],
    ["Negotiate", [{ scheme: "negotiate", params: {} }]],
    ['Basic realm="x"', [{ scheme: "basic", params: { realm: "x" } }]],
    ['bAsIc REALM="x"', [{ scheme: "basic", params: { realm: "x" } }]],
    ["Basic realm=x", [{ scheme: "basic", params: { realm: "x" } }]],
    [
      'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
      [{ scheme: "bearer", params: { realm: "https://a/t", service: "s", scope: "repository:a/b:pull,push" } }],
    ],
    [
      'Bearer realm="https://a/t" , error="invalid_token",x-other=1,SERVICE = "s"',
      [{ scheme: "bearer", params: { realm: "https://a/t", error: "invalid_token", "x-other": "1", service: "s" } }],
    ],
    [
      'Basic realm="a", bearer Realm = b , scope="c"',
      [
        { scheme: "basic", params: { realm: "a" } },
        { scheme: "bearer", params: { realm: "b", scope: "c" } },
      ],
    ],
    [
      'Bearer realm="b",scope="c", Basic realm="a"',
      [
        { scheme: "bearer", params: { realm: "b", scope: "c" } },
        { scheme: "basic", params: { realm: "a" } },
      ],
    ],
    [
      'Negotiate, Basic realm="a"',
      [
        { scheme: "negotiate", params: {} },
        { scheme: "basic", params: { realm: "a" } },
      ],
    ],
    [
      'Negotiate abc==, Basic realm="say \\"hi\\", \\\\o/"',
      [
        { scheme: "negotiate", params: {} },
        { scheme: "basic", params: { realm: 'say "hi", \\o/' } },
      ],
    ],
    ['Bearer realm="a, Basic realm=b"', [{ scheme: "bearer", params: { realm: "a, Basic realm=b" } }]],
    [', ,Bearer realm="",', [{ scheme: "bearer", params: { realm: "" } }]],
  ];
  for (const [header, expected] of challenges) {
    it(`reads ${JSON.stringify(header)}`, () => assert.deepEqual(parseChallenges(header), expected));
  }

  const refused = [
    'Bearer realm="x',
    'Bearer realm="x\\"',
    'Bearer realm="x" service="y"',
    'Basic realm=x Bearer realm="y"',
    "Bearer =x",
    "@",
    'realm="x"',
  ];
  for (const header of refused) {
    it(`refuses ${JSON.stringify(header)}`, () => {
      assert.throws(() => parseChallenges(header), { name: "SyntaxError", message: /^Cannot parse the challenge/ });
    });
  }
});

describe("a registry that does not ask for a credential", () => {
  // Each row: what the registry answers, and what figwasp reports.
  const unasked: [string, Answer, RegExp][] = [
    ["that lets anybody in", holding(), new RegExp(digest)],
    ["that refuses without a challenge", refusing(401), /returned 401 Unauthorized$/],
    ["that asks for what figwasp does not know", refusing(401, "", { "www-authenticate": "Negotiate" }), / 401 /],
    [
      "whose challenge cannot be parsed",
      refusing(401, "", { "www-authenticate": `${basic} Bearer realm="/token"` }),
      /: Cannot parse the challenge at character 7 of 37$/,
    ],
  ];
  for (const [what, answers, message] of unasked) {
    it(`gets none: one ${what}`, async (t) => {
      const { internet, figwasp } = await world(t, { [registry]: answers });
      assert.match(await figwasp.ask(image, keyringOf([registry, plant(t)])), message);
      assert.deepEqual(internet.authorizations, [""]);
    });
  }
});

describe("a registry that asks for a password", () => {
  // Each row: a user and a password. The header contains both in UTF-8.
  const users: [string, { user?: string; password?: string }][] = [
    ["of any characters", {}],
    ["of AWS", { user: "AWS", password: `eyJwYXlsb2FkIjoi${"0123456789abcdefXYZ".repeat(60)}` }],
    ["of a robot, with a $ in its name", { user: "robot$shop+puller" }],
    ["with colons", { password: "a:b::c-4f1e9a-7d02c1:" }],
    ["with other letters than ASCII", { user: "jürgen", password: "päßwört-☃-7d02c1-a" }],
    [
      "that is a JSON text with line ends",
      { user: "_json_key", password: '{\n  "private_key": "-----:a9c3\\n--"\n}\n' },
    ],
  ];
  for (const [what, given] of users) {
    it(`gets one ${what}`, async (t) => {
      const login = plant(t, given, registry);
      const { internet, figwasp } = await world(t, { [registry]: behind(basic, [login.authorization]) });
      assert.equal(await figwasp.ask(image, keyringOf([registry, login])), digest);
      const [, authorization = ""] = internet.authorizations;
      const decoded = Buffer.from(authorization.slice("Basic ".length), "base64").toString("utf8");
      assert.equal(decoded, `${login.user}:${login.password}`);
    });
  }

  it("gets it whatever else it would take, in one header or in several, in any order", async (t) => {
    for (const challenge of [`Negotiate, ${basic}`, ["Negotiate", basic], [basic, 'Digest nonce="n", realm="r"']]) {
      const login = plant(t, {}, registry);
      const { figwasp } = await world(t, { [registry]: behind(challenge, [login.authorization]) });
      assert.equal(await figwasp.ask(image, keyringOf([registry, login])), digest);
    }
  });

  it("gets every credential in its order, until one is let in", async (t) => {
    const [first, second, third] = [plant(t, {}, registry), plant(t, {}, registry), plant(t)];
    const { internet, figwasp } = await world(t, { [registry]: behind(basic, [second.authorization]) });
    const keyring = keyringOf([registry, first], [registry, second], [registry, third]);
    assert.equal(await figwasp.ask(image, keyring), digest);
    assert.deepEqual(internet.authorizations, ["", first.authorization, second.authorization]);
  });

  for (const status of [401, 403, 404]) {
    it(`gets the next one where it answers ${status}`, async (t) => {
      const [blind, seeing] = [plant(t, {}, registry), plant(t, {}, registry)];
      const answers: Answer = (request, response) => {
        const isBlind = request.headers.authorization === blind.authorization;
        return (isBlind ? refusing(status) : behind(basic, [seeing.authorization]))(request, response);
      };
      const { figwasp } = await world(t, { [registry]: answers });
      assert.equal(await figwasp.ask(image, keyringOf([registry, blind], [registry, seeing])), digest);
    });
  }

  it("does not get the next one where its trouble is its own", async (t) => {
    const [first, second] = [plant(t, {}, registry), plant(t)];
    const answers = inTurn(behind(basic, []), refusing(507));
    const { figwasp } = await world(t, { [registry]: answers });
    assert.match(
      await figwasp.ask(image, keyringOf([registry, first], [registry, second])),
      / 507 Insufficient Storage$/,
    );
  });

  it("gets a refused one once in a run, whatever the image", async (t) => {
    const login = plant(t, {}, registry);
    const { internet, figwasp } = await world(t, { [registry]: behind(basic, []) });
    const keyring = keyringOf([registry, login]);
    const source = `key "${registry}" of Secret shop/pull-1`;
    const asked = (name: string) =>
      `Cannot resolve "${registry}/${name}": HEAD https://${registry}/v2/${name}/manifests/latest`;
    assert.equal(
      await figwasp.ask(`${registry}/a`, keyring),
      `${asked("a")} returned 401 Unauthorized, refused with ${source}`,
    );
    const again = `${asked("b")} returned 401 Unauthorized, refused before with ${source}`;
    assert.equal(await figwasp.ask(`${registry}/b`, keyring), again);
    assert.deepEqual(internet.authorizations, ["", login.authorization, ""]);
  });

  it("refuses three in a run at most, also when several images are asked at the same time", async (t) => {
    const logins = Array.from({ length: 8 }, () => plant(t, {}, registry));
    const { internet, figwasp } = await world(t, { [registry]: behind(basic, []) });
    const said = await Promise.all(
      logins.map((login, at) => figwasp.ask(`${image}-${at}`, keyringOf([registry, login]))),
    );
    assert.equal(internet.authorizations.filter((authorization) => authorization !== "").length, 3);
    const unsent = `key "${registry}" of Secret shop/pull-1 not sent, since ${registry} has refused 3 in this run`;
    assert.equal(said.filter((message) => message.endsWith(unsent)).length, 5);
  });

  it("gets a wrong one once, also when several images are asked with it at the same time", async (t) => {
    const login = plant(t, {}, registry);
    const { internet, figwasp } = await world(t, { [registry]: behind(basic, []) });
    await Promise.all([1, 2, 3, 4, 5].map((at) => figwasp.ask(`${image}-${at}`, keyringOf([registry, login]))));
    assert.equal(internet.authorizations.filter((authorization) => authorization !== "").length, 1);
  });

  it("still gets the one that it lets in, after it has refused three", async (t) => {
    const [good, ...bad] = Array.from({ length: 4 }, () => plant(t, {}, registry));
    assert(good);
    const { figwasp } = await world(t, { [registry]: behind(basic, [good.authorization]) });
    assert.equal(await figwasp.ask(`${registry}/a`, keyringOf([registry, good])), digest);
    for (const login of bad) await figwasp.ask(image, keyringOf([registry, login]));
    assert.equal(await figwasp.ask(`${registry}/b`, keyringOf([registry, good])), digest);
  });

  it("gets one that it has let in for the next image too, whatever it said of another", async (t) => {
    const login = plant(t, {}, registry);
    const { internet, figwasp } = await world(t, {
      [registry]: routes({ "/v2/secret/": behind(basic, []), "/v2/": behind(basic, [login.authorization]) }),
    });
    const keyring = keyringOf([registry, login]);
    assert.equal(await figwasp.ask(`${registry}/a`, keyring), digest);
    assert.match(await figwasp.ask(`${registry}/secret`, keyring), / 401 Unauthorized, refused with key/);
    assert.equal(await figwasp.ask(`${registry}/b`, keyring), digest);
    assert.equal(internet.authorizations.filter((authorization) => authorization !== "").length, 3);
  });

  it("gets what a session began with once more, and no third time", async (t) => {
    const login = plant(t, {}, registry);
    const answers = routes({ HEAD: behind(basic, [login.authorization]), GET: behind(basic, []) });
    const { internet, figwasp } = await world(t, { [registry]: answers });
    const said = await figwasp.ask(image, keyringOf([registry, login]), other);
    assert.match(said, /GET .* returned 401 Unauthorized \(UNAUTHORIZED: authentication required\), refused with key/);
    assert.deepEqual(internet.authorizations.slice(2), [login.authorization, login.authorization]);
  });
});

describe("a host that has given a token for one repository", () => {
  /** A host that gives these logins another token for each repository, and accepts it for that repository only. */
  function doors(logins: string[], tokens: Record<string, string>, challenge = bearer): Answer {
    const tokenFor = (name: string) => tokens[name] ?? "";
    return (request, response) => {
      const { path, headers } = request;
      if (path.startsWith("/token")) {
        const name = /repository:([a-z]+):pull/.exec(queryOf(request).get("scope") ?? "")?.[1] ?? "";
        const isKnown = logins.includes(headers.authorization ?? "");
        return giving(isKnown ? { [headers.authorization ?? ""]: tokenFor(name) } : {})(request, response);
      }
      const name = /^\/v2\/([a-z]+)\//.exec(path)?.[1] ?? "";
      return behind(challenge.replace("NAME", name), [`Bearer ${tokenFor(name)}`])(request, response);
    };
  }
  const linesOf = ({ lines }: Internet) =>
    lines.map((line) => line.replace(`${registry} `, "").replace("/manifests/latest", ""));

  for (const challenge of [bearer, `${bearer},scope="repository:NAME:pull"`]) {
    it(`is asked with a token for the next one at once: ${challenge}`, async (t) => {
      const login = plant(t, {}, registry);
      const tokens = { a: plantToken(t, registry), b: plantToken(t, registry) };
      const { internet, figwasp } = await world(t, { [registry]: doors([login.authorization], tokens, challenge) });
      const keyring = keyringOf([registry, login]);
      for (const name of ["a", "b"]) assert.equal(await figwasp.ask(`${registry}/${name}`, keyring), digest);
      assert.deepEqual(linesOf(internet), ["HEAD /v2/a", "GET /token", "HEAD /v2/a", "GET /token", "HEAD /v2/b"]);
      assert.equal(
        figwasp.open(parseReference(`${registry}/b`), keyring).credential,
        `key "${registry}" of Secret shop/pull-1`,
      );
    });
  }

  it("is asked anonymously at once by who has no credential", async (t) => {
    const tokens = { a: plantToken(t, registry), b: plantToken(t, registry) };
    const { internet, figwasp } = await world(t, { [registry]: doors([""], tokens) });
    for (const name of ["a", "b"]) assert.equal(await figwasp.ask(`${registry}/${name}`), digest);
    assert.equal(linesOf(internet).filter((line) => line.startsWith("HEAD")).length, 3);
  });

  it("is asked as if for the first time with a credential that it has not taken yet", async (t) => {
    const [first, second] = [plant(t, {}, registry), plant(t, {}, registry)];
    const tokens = { a: plantToken(t, registry), b: plantToken(t, registry) };
    const logins = [first.authorization, second.authorization];
    const { internet, figwasp } = await world(t, { [registry]: doors(logins, tokens) });
    assert.equal(await figwasp.ask(`${registry}/a`, keyringOf([registry, first])), digest);
    assert.equal(await figwasp.ask(`${registry}/b`, keyringOf([registry, second])), digest);
    assert.equal(linesOf(internet).filter((line) => line === "HEAD /v2/b").length, 2);
  });

  it("is asked as if for the first time where that token does not do, with every credential", async (t) => {
    const [first, second] = [plant(t, {}, registry), plant(t, {}, registry)];
    const tokens = { a: plantToken(t, registry), b: plantToken(t, registry) };
    for (const status of [403, 404]) {
      const known = doors([first.authorization, second.authorization], tokens);
      let asked = 0;
      const { figwasp } = await world(t, {
        // The first token for b is that of a user who may not see b.
        [registry]: (request, response) => {
          const isEarly =
            request.path.startsWith("/v2/b/") && request.headers.authorization !== undefined && asked++ < 1;
          return (isEarly ? refusing(status) : known)(request, response);
        },
      });
      const keyring = keyringOf([registry, first], [registry, second]);
      for (const name of ["a", "b"]) assert.equal(await figwasp.ask(`${registry}/${name}`, keyring), digest);
    }
  });

  it("is told apart from one that wants a scope of another form", async (t) => {
    const tokens = { a: plantToken(t, registry), b: plantToken(t, registry) };
    const answers = doors([""], tokens, `${bearer},scope="repository:x/a:pull repository:a:pull"`);
    const { internet, figwasp } = await world(t, { [registry]: answers });
    await figwasp.ask(`${registry}/a`);
    await figwasp.ask(`${registry}/b`);
    assert.equal(linesOf(internet)[3], "HEAD /v2/b");
  });

  it("whose token server is not of its domain gets no credential, as the first time", async (t) => {
    const login = plant(t, {}, registry);
    const away = 'Bearer realm="https://tokens.example.net/token"';
    const { internet, figwasp } = await world(t, {
      [registry]: behind(away, ["Bearer anybody"]),
      "tokens.example.net": giving({ "": "anybody" }),
    });
    const keyring = keyringOf([registry, login]);
    for (const name of ["a", "b"]) assert.equal(await figwasp.ask(`${registry}/${name}`, keyring), digest);
    assert(internet.authorizations.every((each) => each === "" || each === "Bearer anybody"));
  });

  it("is not said to have taken a credential that it took elsewhere", async (t) => {
    const login = plant(t, {}, registry);
    const open = behind('Bearer realm="https://tokens.example.net/token"', ["Bearer anybody"]);
    const { figwasp } = await world(t, {
      [registry]: routes({ "/v2/a/": behind(basic, [login.authorization]), "/v2/": open }),
      "tokens.example.net": giving({ "": "anybody" }),
    });
    const keyring = keyringOf([registry, login]);
    for (const name of ["a", "b", "c"]) assert.equal(await figwasp.ask(`${registry}/${name}`, keyring), digest);
    assert.equal(figwasp.open(parseReference(`${registry}/c`), keyring).credential, undefined);
  });
});

describe("a token server", () => {
  it("gets the credential, and the registry only the token", async (t) => {
    const [login, token] = [plant(t, {}, registry), plantToken(t, registry)];
    const { internet, figwasp } = await world(t, {
      [registry]: routes({
        "/token": giving({ [login.authorization]: token }),
        "/v2/": behind(bearer, [`Bearer ${token}`]),
      }),
    });
    assert.equal(await figwasp.ask(image, keyringOf([registry, login])), digest);
    assert.deepEqual(internet.authorizations, ["", login.authorization, `Bearer ${token}`]);
  });

  /** Asks a registry, which has its own token server, without a credential. */
  async function askAnonymously(t: TestContext, challenge: string, token = giving({ "": "t0ken" })) {
    const answers = routes({ "/token": token, "/v2/": behind(challenge, ["Bearer t0ken"]) });
    const { internet, figwasp } = await world(t, { [registry]: answers });
    const said = await figwasp.ask(image);
    return { said, asked: internet.at(registry).requests.map(({ path }) => path), ...internet };
  }

  const bodies: [string, object][] = [
    ["token", { token: "t0ken" }],
    ["access_token alone, without a time of expiry", { access_token: "t0ken" }],
    ["access_token beside an empty token", { token: "", access_token: "t0ken" }],
    ["both", { token: "t0ken", access_token: "other" }],
    ["times that make no sense", { token: "t0ken", expires_in: -5, issued_at: "2199-01-01T00:00:00Z" }],
  ];
  for (const [what, body] of bodies) {
    it(`may answer with ${what}`, async (t) => {
      const { said } = await askAnonymously(t, bearer, (_request, response) => response.end(JSON.stringify(body)));
      assert.equal(said, digest);
    });
  }

  const useless: [string, string][] = [
    ["neither", "{}"],
    ["both empty", '{"token":"","access_token":""}'],
    ["a number", '{"token":1}'],
    ["a page", "<html>"],
    ["nothing", ""],
    ["what no header can hold", '{"token":"a\\nb"}'],
    ["two words", '{"token":"a b"}'],
  ];
  for (const [what, body] of useless) {
    it(`may not answer with ${what}`, async (t) => {
      const { said } = await askAnonymously(t, bearer, (_request, response) => response.end(body));
      assert.equal(said, `Cannot resolve "${image}": GET https://${registry}/token returned no token`);
    });
  }

  it("is read no further than 128 KiB", async (t) => {
    const { said } = await askAnonymously(t, bearer, (_request, response) => response.end("x".repeat(129 * 1024)));
    assert.match(said, /is longer than 131072 bytes$/);
  });

  // Each row: a challenge, and the token request that it leads to.
  const scope = "scope=repository%3Aapp%3Apull";
  const questions: [string, string, string][] = [
    ["for the challenge's scope", `${bearer},scope="repository:app:pull,push"`, `/token?service=s&${scope}%2Cpush`],
    ["for the repository where there is no scope", bearer, `/token?service=s&${scope}`],
    ["for the repository where the scope is empty", `${bearer},scope=""`, `/token?service=s&${scope}`],
    ["for no service where there is none", 'Bearer realm="/token"', `/token?${scope}`],
    [
      "beside what the realm asks",
      'Bearer realm="/token?account=a%26b&scope=x"',
      `/token?account=a%26b&scope=x&${scope}`,
    ],
    ["at a realm that is relative", 'Bearer realm="../../../../token"', `/token?${scope}`],
    ["without the realm's fragment", 'Bearer realm="/token#part"', `/token?${scope}`],
    ["where a password would do too, and nobody has one", `${basic}, ${bearer}`, `/token?service=s&${scope}`],
  ];
  for (const [what, challenge, path] of questions) {
    it(`is asked ${what}`, async (t) => {
      const { said, asked, authorizations } = await askAnonymously(t, challenge);
      assert.equal(said, digest);
      assert.deepEqual(asked, ["/v2/app/manifests/latest", path, "/v2/app/manifests/latest"]);
      assert.deepEqual(authorizations, ["", "", "Bearer t0ken"]);
    });
  }

  for (const challenge of ['Bearer service="s"', 'Bearer realm=""', "Bearer"]) {
    it(`is missing in ${challenge}`, async (t) => {
      const { said, lines } = await askAnonymously(t, challenge);
      assert.equal(said, `Cannot resolve "${image}": Cannot get a token for https://${registry}: its realm is missing`);
      assert.equal(lines.length, 1);
    });
  }

  it("gets an identity token in a form, never in a URL", async (t) => {
    const [identityToken, token, login] = [plantToken(t, registry), plantToken(t, registry), plant(t)];
    const answers = routes({
      "POST /token": giving({ "": token }, "access_token"),
      "/v2/": behind('Bearer realm="/token?a=b",service="s"', [`Bearer ${token}`]),
    });
    const { internet, figwasp } = await world(t, { [registry]: answers });
    const keyring = keyringOf([registry, { credential: { ...login.credential, identityToken } }]);
    assert.equal(await figwasp.ask(image, keyring), digest);
    const [, exchange] = internet.at(registry).requests;
    assert.deepEqual([exchange?.method, exchange?.path], ["POST", "/token?a=b"]);
    assert.equal(exchange?.headers.authorization, undefined);
    assert.match(exchange?.headers["content-type"] ?? "", /^application\/x-www-form-urlencoded/);
    assert.deepEqual(Object.fromEntries(new URLSearchParams(exchange?.body)), {
      service: "s",
      scope: "repository:app:pull",
      grant_type: "refresh_token",
      client_id: "figwasp",
      refresh_token: identityToken,
    });
  });

  for (const status of [400, 401, 404, 405]) {
    it(`that answers ${status} to an identity token gets nothing else`, async (t) => {
      const [identityToken, login] = [plantToken(t, registry), plant(t)];
      const answers = routes({ "/token": refusing(status, "UNSUPPORTED: no such grant"), "/v2/": behind(bearer, []) });
      const { internet, figwasp } = await world(t, { [registry]: answers });
      const keyring = keyringOf([registry, { credential: { ...login.credential, identityToken } }]);
      const said = await figwasp.ask(image, keyring);
      assert(said.includes(`POST https://${registry}/token returned ${status} `) && said.includes("UNSUPPORTED"), said);
      assert.deepEqual(
        internet.lines.filter((line) => !line.includes("/v2/")),
        [`${registry} POST /token`],
      );
    });
  }

  it("gets a refused credential once in a run, and three of them at most", async (t) => {
    const logins = Array.from({ length: 5 }, () => plant(t, {}, registry));
    const { internet, figwasp } = await world(t, {
      [registry]: routes({ "/token": giving({}), "/v2/": behind(bearer, []) }),
    });
    const asked = [...logins, ...logins].map((login, at) =>
      figwasp.ask(`${image}-${at}`, keyringOf([registry, login])),
    );
    const said = (await Promise.all(asked)).join("\n");
    assert.equal(internet.authorizations.filter((authorization) => authorization !== "").length, 3);
    const refused =
      /GET https:\/\/[^ ]+\/token returned 401 Unauthorized \(UNAUTHORIZED: who are you\) with key "[^"]+" of Secret/g;
    assert.equal(said.match(refused)?.length, 3);
    assert.equal(said.match(/refused before with key/g)?.length, 3);
    assert.equal(said.match(/not sent, since [^ ]+ has refused 3 in this run/g)?.length, 4);
  });

  /** A token server that accepts the login for one repository only. */
  function forbidding(authorization: string, allowed: string): Answer {
    return routes({
      "/token": (request, response) => {
        const isAllowed = queryOf(request).get("scope") === `repository:${allowed}:pull`;
        const isKnown = request.headers.authorization === authorization;
        const denied = refusing(403, "DENIED: requested access to the resource is denied");
        return (isAllowed && isKnown ? giving({ [authorization]: "t0ken" }) : denied)(request, response);
      },
      "/v2/": behind(bearer, ["Bearer t0ken"]),
    });
  }

  it("that answers 403 for one repository gets the same credential for another", async (t) => {
    const login = plant(t, {}, registry);
    const { internet, figwasp } = await world(t, { [registry]: forbidding(login.authorization, "b") });
    const keyring = keyringOf([registry, login]);
    const denied = /\/token returned 403 Forbidden \(DENIED: .*\) with key "[^"]+" of Secret shop\/pull-1$/;
    assert.match(await figwasp.ask(`${registry}/a`, keyring), denied);
    const both = keyringOf([registry, login], [registry, plant(t, {}, registry)]);
    assert.match(await figwasp.ask(`${registry}/a`, both), /refused before with key .* 403 Forbidden/);
    assert.equal(await figwasp.ask(`${registry}/b`, keyring), digest);
    assert.match(await figwasp.ask(`${registry}/c`, keyring), denied);
    assert.equal(internet.authorizations.filter((authorization) => authorization === login.authorization).length, 3);
  });

  it("that answers 403 for ten repositories, and lets nobody in, gets no more", async (t) => {
    const login = plant(t, {}, registry);
    const { internet, figwasp } = await world(t, { [registry]: forbidding(login.authorization, "none") });
    const keyring = keyringOf([registry, login]);
    const names = Array.from({ length: 12 }, (_, at) => `r${at}`);
    const said = await Promise.all(names.map((name) => figwasp.ask(`${registry}/${name}`, keyring)));
    assert.equal(said.filter((message) => message.includes("403 Forbidden (DENIED:")).length, 10);
    assert.equal(said.filter((message) => message.includes(`not sent, since ${registry} has refused 10`)).length, 2);
    assert.equal(internet.authorizations.filter((authorization) => authorization === login.authorization).length, 10);
  });

  it("that answers 403 to three credentials gets no fourth, and counts none that it lets in", async (t) => {
    const [good, ...bad] = Array.from({ length: 5 }, () => plant(t, {}, registry));
    assert(good);
    const { figwasp } = await world(t, { [registry]: forbidding(good.authorization, "b") });
    assert.match(await figwasp.ask(`${registry}/a`, keyringOf([registry, good])), / 403 Forbidden /);
    assert.equal(await figwasp.ask(`${registry}/b`, keyringOf([registry, good])), digest);
    const said: string[] = [];
    for (const login of bad) said.push(await figwasp.ask(`${registry}/a`, keyringOf([registry, login])));
    assert.deepEqual(
      said.map((message) => message.includes("not sent, since")),
      [false, false, false, true],
    );
  });

  it("is asked anonymously only where no key matches", async (t) => {
    const login = plant(t, {}, registry);
    const answers = routes({ "/token": giving({ "": "t0ken" }), "/v2/": behind(bearer, ["Bearer t0ken"]) });
    const { internet, figwasp } = await world(t, { [registry]: answers });
    assert.match(await figwasp.ask(image, keyringOf([registry, login])), /who are you\) with key/);
    assert.deepEqual(internet.authorizations, ["", login.authorization]);
    assert.equal(await figwasp.ask(image, keyringOf(["registry.example.net", login])), digest);
  });

  it("gives another token where one expires between two questions", async (t) => {
    const [login, first, second] = [plant(t, {}, registry), plantToken(t, registry), plantToken(t, registry)];
    const token = inTurn(giving({ [login.authorization]: first }), giving({ [login.authorization]: second }));
    const expired = behind(`${bearer},error="invalid_token"`, [`Bearer ${second}`]);
    const answers = routes({ "/token": token, HEAD: behind(bearer, [`Bearer ${first}`]), GET: expired });
    const { figwasp } = await world(t, { [registry]: answers });
    assert.equal(await figwasp.ask(image, keyringOf([registry, login]), other), digest);
  });

  it("gives another one once, where the registry refuses that one too", async (t) => {
    const [login, token] = [plant(t, {}, registry), plantToken(t, registry)];
    const answers = routes({
      "/token": giving({ [login.authorization]: token }),
      HEAD: behind(bearer, [`Bearer ${token}`]),
      GET: behind(bearer, []),
    });
    const { internet, figwasp } = await world(t, { [registry]: answers });
    const said = await figwasp.ask(image, keyringOf([registry, login]), other);
    assert.match(said, /GET .* returned 401 Unauthorized \(UNAUTHORIZED: [^)]+\), refused with key/);
    assert.equal(internet.lines.filter((line) => line.endsWith("GET /token")).length, 2);
  });

  // The challenge of a registry to which the scope of a token is too narrow: it names the scope that it needs.
  const narrow = `${bearer},error="insufficient_scope",scope="repository:app:pull repository:base:pull"`;
  it("is asked for the wanted scope where the registry finds a token too narrow", async (t) => {
    const login = plant(t, {}, registry);
    const [first, second] = [plantToken(t, registry), plantToken(t, registry)];
    const token = inTurn(giving({ [login.authorization]: first }), giving({ [login.authorization]: second }));
    const inside = inTurn(behind(bearer, []), behind(narrow, [`Bearer ${second}`]));
    const { internet, figwasp } = await world(t, { [registry]: routes({ "/token": token, "/v2/": inside }) });
    assert.equal(await figwasp.ask(image, keyringOf([registry, login])), digest);
    const scopes = internet.at(registry).requests.flatMap((request) => queryOf(request).get("scope") ?? []);
    assert.deepEqual(scopes, ["repository:app:pull", "repository:app:pull repository:base:pull"]);
  });

  it("gets no credential where the registry names an unrelated realm for the wanted scope", async (t) => {
    const login = plant(t, {}, registry);
    const token = plantToken(t, registry);
    const elsewhere = narrow.replace('"/token"', '"https://tokens.example.net/token"');
    const inside = inTurn(behind(bearer, []), behind(elsewhere, []));
    const { internet, figwasp } = await world(t, {
      [registry]: routes({ "/token": giving({ [login.authorization]: token }), "/v2/": inside }),
      "tokens.example.net": giving({ "": "t0ken" }),
    });
    assert.match(await figwasp.ask(image, keyringOf([registry, login])), / 401 /);
    const asked = internet.at("tokens.example.net").requests;
    assert.deepEqual([asked.length, asked[0]?.headers.authorization], [1, undefined]);
  });

  it("is asked for a wanted scope once", async (t) => {
    const answers = routes({
      "/token": giving({ "": "t0ken" }),
      "/v2/": inTurn(behind(bearer, []), behind(narrow, [])),
    });
    const { internet, figwasp } = await world(t, { [registry]: answers });
    assert.match(await figwasp.ask(image), / 401 /);
    assert.equal(internet.lines.filter((line) => line.endsWith("GET /token")).length, 2);
  });

  it("gives a token for one credential and one repository, and it is used for no other", async (t) => {
    const logins = [plant(t, {}, registry), plant(t, {}, registry)] as const;
    const names = ["app", "web"];
    const tokens = new Map<string, string>();
    const token: Answer = (request, response) => {
      const given = plantToken(t, registry);
      tokens.set(given, `${queryOf(request).get("scope")} ${request.headers.authorization}`);
      response.end(JSON.stringify({ token: given }));
    };
    const { internet, figwasp } = await world(t, {
      [registry]: routes({
        "/token": token,
        "/v2/": (request, response) => {
          const known = [...tokens.keys()].map((each) => `Bearer ${each}`);
          return behind(bearer, known)(request, response);
        },
      }),
    });
    for (const login of logins)
      for (const name of names) await figwasp.ask(`${registry}/${name}`, keyringOf([registry, login]));
    const expected = logins.flatMap(({ authorization }) =>
      names.map((name) => `repository:${name}:pull ${authorization}`),
    );
    assert.deepEqual([...tokens.values()], expected);
    const used = internet.at(registry).requests.flatMap(({ path, headers: { authorization = "" } }) => {
      return authorization.startsWith("Bearer ") ? [`${path} ${tokens.get(authorization.slice(7))}`] : [];
    });
    assert.deepEqual(
      used,
      expected.map((each) => `/v2/${each.split(":")[1]}/manifests/latest ${each}`),
    );
  });

  it("is asked once for a token that many tags need at the same time", async (t) => {
    const answers = routes({ "/token": giving({ "": "t0ken" }), "/v2/": behind(bearer, ["Bearer t0ken"]) });
    const { internet, figwasp } = await world(t, { [registry]: answers });
    await Promise.all(["a", "b", "c", "d"].map((tag) => figwasp.ask(`${image}:${tag}`)));
    assert.equal(internet.lines.filter((line) => line.endsWith("GET /token")).length, 1);
  });

  it("follows no redirect", async (t) => {
    const login = plant(t, {}, registry);
    for (const [status, location] of [
      [307, "https://tokens.example.net/token"],
      [302, `https://${registry}/elsewhere`],
    ] as const) {
      const answers = routes({ "/token": refusing(status, "", { location }), "/v2/": behind(bearer, []) });
      const { internet, figwasp } = await world(t, { [registry]: answers, "tokens.example.net": giving({}) });
      const said = await figwasp.ask(image, keyringOf([registry, login]));
      assert.match(said, new RegExp(`: GET https://${registry}/token returned ${status} `));
      assert.equal(internet.lines.length, 2);
    }
  });
});

describe("a host that a redirect leads to", () => {
  const target = "europe.pkg.example.net";
  const elsewhere: Answer = (request, response) => {
    refusing(307, "", { location: `https://${target}${request.path.replace("/v2/", "/v2/mirror/")}` })(
      request,
      response,
    );
  };
  const theirs = 'Bearer realm="/token",service="theirs"';

  it("gets an anonymous exchange where it asks for a token, and never the registry's credential", async (t) => {
    const token = plantToken(t, target);
    const { internet, figwasp } = await world(t, {
      [registry]: elsewhere,
      [target]: routes({ "/token": giving({ "": token }), "/v2/": behind(theirs, [`Bearer ${token}`]) }),
    });
    const keyring = keyringOf([registry, plant(t, {}, registry)], [target, plant(t)]);
    assert.equal(await figwasp.ask(image, keyring, other), digest);
    const exchange = [`${target} GET /token`, `${target} HEAD /v2/mirror/app/manifests/latest`];
    assert.deepEqual(internet.lines.slice(2, 4), exchange);
  });

  it("gets one too where the registry itself asked for a credential before", async (t) => {
    const [login, token] = [plant(t, {}, registry), plantToken(t, target)];
    for (const challenge of [basic, bearer]) {
      const mine = challenge === basic ? login.authorization : `Bearer ${plantToken(t, registry)}`;
      const { figwasp } = await world(t, {
        [registry]: routes({
          "/token": giving({ [login.authorization]: mine.slice("Bearer ".length) }),
          "/v2/": behind(challenge, [mine], elsewhere),
        }),
        [target]: routes({ "/token": giving({ "": token }), "/v2/": behind(theirs, [`Bearer ${token}`]) }),
      });
      assert.equal(await figwasp.ask(image, keyringOf([registry, login])), digest);
      assert.equal(await figwasp.ask(`${registry}/web`, keyringOf([registry, login])), digest);
    }
  });

  it("does not get the token of the registry", async (t) => {
    const [login, token] = [plant(t, {}, registry), plantToken(t, registry)];
    const { figwasp, internet } = await world(t, {
      [registry]: routes({
        "/token": giving({ [login.authorization]: token }),
        "/v2/": behind(bearer, [`Bearer ${token}`], elsewhere),
      }),
      [target]: holding(),
    });
    assert.equal(await figwasp.ask(image, keyringOf([registry, login]), other), digest);
    assert.deepEqual(
      internet.at(target).requests.map(({ headers }) => headers.authorization),
      [undefined, undefined, undefined],
    );
  });

  it("gets no password, be it with the registry's realm", async (t) => {
    for (const challenge of [basic, `Bearer realm="https://${registry}/token"`, `${bearer}, ${basic}`]) {
      const { figwasp } = await world(t, {
        [registry]: routes({ "/token": giving({}), "/v2/": elsewhere }),
        [target]: routes({ "/token": giving({}), "/v2/": behind(challenge, []) }),
      });
      const said = await figwasp.ask(image, keyringOf([registry, plant(t)], [target, plant(t)]));
      assert.match(said, /returned 401 Unauthorized/);
    }
  });

  it("is another host also where its name begins like the registry's", async (t) => {
    const evil = `${registry}.evil.test`;
    const servers = {
      [registry]: refusing(307, "", { location: `https://${evil}/app` }),
      [evil]: behind(`${basic}, ${bearer}`, []),
    };
    const files = { [`${registry}/hosts.toml`]: `server = "https://${registry}"\noverride_path = true` };
    const { internet, figwasp } = await world(t, servers, { files });
    const said = await figwasp.ask(image, keyringOf([registry, plant(t)], [evil, plant(t)]));
    assert.match(
      said,
      /, registry.example.org.evil.test, to which it was redirected, asks for a credential, and gets none$/,
    );
    assert(internet.authorizations.every((authorization) => authorization === ""));
  });
});

describe("the realm of a challenge", () => {
  interface Case {
    registry: string;
    realm: string;
    /** The image, such as `docker.io/app`, if its name does not begin with the registry's own host. */
    image?: string;
    tokenHosts?: [string, string[]][];
  }

  /** Asks a registry whose token server gives tokens with and without a login; only one with a login gives access. */
  async function exchange(
    t: TestContext,
    { registry: host, realm, image: name = `${host}/app`, tokenHosts }: Case,
    isTrusted: boolean,
  ) {
    const { host: realmHost } = new URL(realm, `https://${host}`);
    const login = plant(t, {}, ...(isTrusted ? [host, realmHost] : [host]));
    const [token, anonymous] = [plantToken(t, host), plantToken(t, host)];
    const tokens = giving({ "": anonymous, [login.authorization]: token });
    const door = behind(`Bearer realm="${realm}",service="s"`, [`Bearer ${token}`]);
    const servers =
      host === realmHost ? { [host]: routes({ "/v2/": door, "/": tokens }) } : { [host]: door, [realmHost]: tokens };
    const { internet, figwasp } = await world(t, servers, { tokenHosts: new Map(tokenHosts) });
    const said = await figwasp.ask(name, keyringOf([name.split("/")[0] ?? "", login]));
    return { said, internet, login, realmHost };
  }

  const trusted: [string, Case][] = [
    ["on the registry's own host", { registry, realm: "/token" }],
    ["on its host, on another port", { registry: `${registry}:5000`, realm: `https://${registry}:8443/token` }],
    ["on its host, of a private address", { registry: "10.0.0.5", realm: "https://10.0.0.5:8443/service/token" }],
    ["on its host, of a loopback address", { registry: "127.0.0.1", realm: "https://127.0.0.1:8443/token" }],
    [
      "of Docker Hub",
      { registry: "registry-1.docker.io", realm: "https://auth.docker.io/token", image: "docker.io/library/app" },
    ],
    ["of GitLab.com", { registry: "registry.gitlab.com", realm: "https://gitlab.com/jwt/auth" }],
    ["of nvcr.io", { registry: "nvcr.io", realm: "https://authn.nvidia.com/token" }],
    ["of lscr.io", { registry: "lscr.io", realm: "https://ghcr.io/token" }],
    ["of docker.elastic.co", { registry: "docker.elastic.co", realm: "https://docker-auth.elastic.co/auth" }],
    ["under the same parent domain", { registry, realm: "https://gitlab.example.org/jwt/auth" }],
    ["further below the same parent domain", { registry, realm: "https://a.b.example.org/token" }],
    ["at the parent domain", { registry, realm: "https://example.org/token" }],
    ["below a registry of two labels", { registry: "example.org", realm: "https://auth.example.org/token" }],
    [
      "below a registry of a country's domain",
      { registry: "registry.co.uk", realm: "https://auth.registry.co.uk/token" },
    ],
    [
      "that the user has paired with the registry",
      { registry, realm: "https://tokens.example.net/t", tokenHosts: [[registry, ["a.test", "tokens.example.net"]]] },
    ],
    [
      "on the port that the user has paired",
      { registry, realm: "https://tokens.example.net:8443/t", tokenHosts: [[registry, ["tokens.example.net:8443"]]] },
    ],
  ];
  for (const [what, given] of trusted) {
    it(`gets the credential ${what}`, async (t) => {
      const { said, internet, login, realmHost } = await exchange(t, given, true);
      assert.equal(said, digest);
      const [, exchanged] = internet.lines;
      assert(exchanged?.startsWith(`${realmHost} GET /`), exchanged);
      assert.equal(internet.authorizations[1], login.authorization);
    });
  }

  const untrusted: [string, Case][] = [
    ["of a name that ends like the registry's", { registry: "example.org", realm: "https://evilexample.org/token" }],
    ["of a name that begins like the registry's", { registry, realm: `https://${registry}.evil.test/token` }],
    ["of a name that ends like its parent domain's", { registry, realm: "https://evilexample.org/token" }],
    ["that holds its name as a path", { registry, realm: `https://evil.test/${registry}/token` }],
    ["of the same top-level domain", { registry: "example.org", realm: "https://another.org/token" }],
    ["of the same public suffix", { registry: "registry.co.uk", realm: "https://evil.co.uk/token" }],
    ["of another country's public suffix", { registry: "registry.com.br", realm: "https://evil.com.br/token" }],
    ["of another address with the same end", { registry: "192.0.2.7", realm: "https://198.0.2.7/token" }],
    ["of another IPv6 address", { registry: "[2001:db8::1]", realm: "https://[2001:db8::2]/token" }],
    ["of another registry's pair", { registry: "nvcr.io", realm: "https://auth.docker.io/token" }],
    ["of a pair the other way round", { registry: "ghcr.io", realm: "https://lscr.io/token" }],
    [
      "that the user has paired with another registry",
      {
        registry,
        realm: "https://tokens.example.net/t",
        tokenHosts: [["registry.example.com", ["tokens.example.net"]]],
      },
    ],
    [
      "on another port than the user has paired",
      { registry, realm: "https://tokens.example.net:8443/t", tokenHosts: [[registry, ["tokens.example.net"]]] },
    ],
    [
      "below a host that the user has paired",
      { registry, realm: "https://a.tokens.example.net/t", tokenHosts: [[registry, ["tokens.example.net"]]] },
    ],
  ];
  for (const [what, given] of untrusted) {
    it(`is asked anonymously ${what}, and the refusal names the setting`, async (t) => {
      const { said, internet, realmHost } = await exchange(t, given, false);
      const setting = `set --token-hosts (FIGWASP_TOKEN_HOSTS) ${given.registry}=${realmHost} if it may be`;
      assert(
        said.endsWith(
          `returned 401 Unauthorized, its token server ${realmHost} is not of its domain, so that no credential was sent there: ${setting}`,
        ),
        said,
      );
      assert.equal(internet.lines[1]?.split(" ")[0], realmHost);
      assert(internet.authorizations.every((authorization) => !authorization.startsWith("Basic")));
    });
  }

  it("gets nothing where a password would do, and the realm is not to be trusted", async (t) => {
    const login = plant(t, {}, registry);
    const { internet, figwasp } = await world(t, {
      [registry]: behind(`Bearer realm="https://evil.test/token", ${basic}`, [login.authorization]),
    });
    assert.equal(await figwasp.ask(image, keyringOf([registry, login])), digest);
    assert.deepEqual(internet.authorizations, ["", login.authorization]);
  });

  it("is asked anonymously where what it gives to nobody is enough", async (t) => {
    const [login, token] = [plant(t), plantToken(t, registry)];
    const { figwasp } = await world(t, {
      [registry]: behind('Bearer realm="https://tokens.example.net/token"', [`Bearer ${token}`]),
      "tokens.example.net": giving({ "": token }),
    });
    assert.equal(await figwasp.ask(image, keyringOf([registry, login])), digest);
  });

  it("of a registry on a private address may be on another one, and is asked anonymously", async (t) => {
    const { said } = await exchange(t, { registry: "10.0.0.5", realm: "https://10.0.0.6/token" }, false);
    assert.match(said, /FIGWASP_TOKEN_HOSTS\) 10.0.0.5=10.0.0.6/);
  });

  it("may be plain http on the own host of a registry that is", async (t) => {
    const plain = `http://${registry}`;
    const [login, token] = [plant(t, {}, plain), plantToken(t, plain)];
    const answers = routes({
      "/token": giving({ [login.authorization]: token }),
      "/v2/": behind(`Bearer realm="${plain}/token"`, [`Bearer ${token}`]),
    });
    const { figwasp } = await world(
      t,
      { [plain]: answers },
      { files: { [`${registry}/hosts.toml`]: `server = "${plain}"` } },
    );
    assert.equal(await figwasp.ask(image, keyringOf([registry, login])), digest);
  });

  const refused: [string, string, RegExp][] = [
    ["that is plain http", `http://${registry}/token`, /its realm http:\/\/registry.example.org is not https$/],
    ["that is plain http on another host", "http://example.org/token", /its realm http:\/\/example.org is not https$/],
    ["with a user name", "https://user@example.org/token", /its realm holds a user name$/],
    ["with a user name and a password", `https://user:w0rd@${registry}/token`, /its realm holds a user name$/],
    ["with the registry as a user name", `https://${registry}@evil.test/token`, /its realm holds a user name$/],
    ["with a backslash", `https://evil.test\\\\@${registry}/token`, /its realm is not a URL$/],
    ["with a tab", `https://${registry}/\ttoken`, /its realm is not a URL$/],
    ["with a blank", `https://${registry} /token`, /its realm is not a URL$/],
    ["that is no URL", "https://", /its realm is not a URL$/],
    ["of another scheme", "ftp://example.org/token", /its realm is neither https nor http$/],
    ["of no server", "file:///etc/passwd", /its realm is neither https nor http$/],
    ["of the metadata of a cloud", "https://169.254.169.254/token", /leads to a link-local address$/],
    ["of the metadata of a cloud, by its name", "https://metadata.google.internal/t", /leads to a link-local address$/],
    ["of the metadata of a cloud, by its short name", "https://METADATA/t", /leads to a link-local address$/],
    ["of the metadata of a cloud, with a final dot", "https://metadata.google.internal./t", /to a link-local address$/],
    ["of the metadata of a cloud, in IPv6", "https://[fd00:ec2::254]/token", /leads to a link-local address$/],
    ["that is link-local", "https://[fe80::1]/token", /leads to a link-local address$/],
    ["that is loopback", "https://127.0.0.1/token", /leads to a loopback address$/],
    ["that is loopback, as one number", "https://2130706433/token", /leads to a loopback address$/],
    ["that is loopback, in IPv6", "https://[::1]/token", /leads to a loopback address$/],
    ["that is loopback, as IPv4 in IPv6", "https://[::ffff:127.0.0.1]/token", /leads to a loopback address$/],
    ["that is loopback, by its name", "https://localhost/token", /leads to a loopback address$/],
    ["that is any address of this host", "https://0.0.0.0/token", /leads to a loopback address$/],
    ["that is private, of 10/8", "https://10.1.2.3/token", /leads to a private address$/],
    ["that is private, of 172.16/12", "https://172.31.0.1/token", /leads to a private address$/],
    ["that is private, of 192.168/16", "https://192.168.0.1/token", /leads to a private address$/],
    ["that is private, of a carrier", "https://100.64.0.1/token", /leads to a private address$/],
    ["that is private, in IPv6", "https://[fd12::1]/token", /leads to a private address$/],
  ];
  for (const [what, realm, message] of refused) {
    it(`gets no request ${what}`, async (t) => {
      const { internet, figwasp } = await world(t, { [registry]: behind(`Bearer realm="${realm}",service="s"`, []) });
      const said = await figwasp.ask(image, keyringOf([registry, plant(t)]));
      assert.match(said, /^Cannot resolve "[^"]+": Cannot get a token for https:\/\/registry.example.org: its realm /);
      assert.match(said, message);
      assert.equal(internet.lines.length, 1);
    });
  }

  // Each row: the address of the registry, that of its token server, and the kind of the second.
  const inward: [string, string, string][] = [
    ["192.0.2.1", "10.1.2.3", "private"],
    ["192.0.2.1", "127.0.0.1", "loopback"],
    ["10.1.2.4", "127.0.0.1", "loopback"],
    ["10.1.2.4", "169.254.169.254", "link-local"],
  ];
  for (const [from, to, place] of inward) {
    it(`gets no request where its name leads from ${from} to ${to}`, async (t) => {
      const addresses = { [registry]: from, "auth.example.org": to };
      const challenge = 'Bearer realm="https://auth.example.org/token"';
      const { internet, figwasp } = await world(t, { [registry]: behind(challenge, []) }, { addresses });
      const said = await figwasp.ask(image, keyringOf([registry, plant(t)]));
      assert(said.endsWith(`its realm https://auth.example.org leads to a ${place} address`), said);
      assert.equal(internet.lines.length, 1);
    });
  }

  for (const host of ["10.0.0.5", "127.0.0.1", "169.254.1.1"]) {
    it(`gets no request of the metadata of a cloud, be the registry ${host}`, async (t) => {
      const { internet, figwasp } = await world(t, { [host]: behind('Bearer realm="https://169.254.169.254/t"', []) });
      assert.match(await figwasp.ask(`${host}/app`), /leads to a link-local address$/);
      assert.equal(internet.lines.length, 1);
    });
  }

  it("is no URL with a control character, and is not shown", async () => {
    const [endpoint] = await new Hosts("/nowhere", { httpProxy: "", httpsProxy: "", noProxy: "" }).endpointsOf(
      registry,
    );
    assert(endpoint);
    for (const character of ["\u0000", "\n", "\r", "\u001f", "\u007f"]) {
      const realm = `https://${registry}/${character}token`;
      const read = readRealm({ scheme: "bearer", params: { realm } }, endpoint, { repository: "app", tokenHosts: [] });
      await assert.rejects(read, { message: `Cannot get a token for https://${registry}: its realm is not a URL` });
    }
  });
});

describe("the host of a credential", () => {
  // Each row: a key, and an image that it does not match.
  const strangers: [string, string][] = [
    ["registry.example.com", "registry.example.com.evil.test/app"],
    ["ghcr.io", "evilghcr.io/app"],
    ["ghcr.io", "ghcr.io:8443/app"],
    ["ghcr.io", "sub.ghcr.io/app"],
    ["*.example.org", "example.org/app"],
    ["docker.io", "registry-1.docker.io/app"],
  ];
  for (const [key, name] of strangers) {
    it(`is compared as a whole: that of ${key} is not for ${name}`, async (t) => {
      const { internet, figwasp } = await world(t, { [name.split("/")[0] ?? ""]: behind(basic, []) });
      const said = await figwasp.ask(name, keyringOf([key, plant(t)]));
      assert.match(
        said,
        /, the registry asks for a credential, and no key of Secret shop\/pull-1 that holds a credential matches$/,
      );
      assert.deepEqual([...new Set(internet.authorizations)], [""]);
    });
  }
});

describe("the message of a refusal", () => {
  it("names the Secret and the key of each credential, and no value", async (t) => {
    const [one, two] = [plant(t, {}, registry), plant(t, {}, registry)];
    const { figwasp } = await world(t, { [registry]: behind(basic, []) });
    const said = await figwasp.ask(image, keyringOf([registry, one], ["*.example.org", two]));
    const tried = `refused with key "${registry}" of Secret shop/pull-1; refused with key "*.example.org" of Secret shop/pull-2`;
    assert(said.endsWith(`returned 401 Unauthorized, ${tried}`), said);
  });

  it("names a key without the user name that it may hold", async (t) => {
    const login = plant(t, {}, registry);
    const { figwasp } = await world(t, { [registry]: behind(basic, []) });
    const keyring = keyringOf([`https://user:${encodeURIComponent(login.password)}@${registry}/app?a`, login]);
    assert(keyring.sources.flat().length === 1);
    assert.match(await figwasp.ask(image, keyring), /refused with key "…@registry.example.org\/app" of Secret/);
  });

  it("says that a tag is not there, rather than that it was refused", async (t) => {
    const login = plant(t, {}, registry);
    const gone = refusing(404, "MANIFEST_UNKNOWN: manifest unknown");
    const { figwasp } = await world(t, { [registry]: behind(basic, [login.authorization], gone) });
    const said = await figwasp.ask(image, keyringOf([registry, login]));
    assert.match(
      said,
      /returned 404 Not Found \(MANIFEST_UNKNOWN: manifest unknown\), asked with key "[^"]+" of Secret/,
    );
  });

  it("says where a credential was looked for", async (t) => {
    const { figwasp } = await world(t, { [registry]: behind(basic, []) });
    const asks = "returned 401 Unauthorized, the registry asks for a credential, and ";
    assert((await figwasp.ask(image)).endsWith(`${asks}the pods name no pull Secret`));
    const login = plant(t);
    const looked = "no key of Secret shop/pull-1 that holds a credential matches";
    const said = await figwasp.ask(image, keyringOf(["a.example", login], ["b.example", login]));
    assert(said.endsWith(`${asks}${looked}, ${looked.replace("1", "2")}`), said);
  });

  for (const status of [401, 403]) {
    it(`says so too where the anonymous may not see the image: ${status} with a token, and in place of one`, async (t) => {
      const denied = refusing(status, "DENIED: requested access to the resource is denied");
      const looked =
        /, (?:the registry asks for a credential|no credential .* was sent), and the pods name no pull Secret$/;
      const inside = behind(bearer, ["Bearer t0ken"], denied);
      const { figwasp } = await world(t, { [registry]: routes({ "/token": giving({ "": "t0ken" }), "/v2/": inside }) });
      assert.match(await figwasp.ask(image), looked);
      const { figwasp: another } = await world(t, { [registry]: routes({ "/token": denied, "/v2/": inside }) });
      const said = await another.ask(image);
      assert(said.includes(`GET https://${registry}/token returned ${status} `), said);
      assert.match(said, looked);
    });
  }

  const clouds: [string, boolean][] = [
    ["123456789012.dkr.ecr.eu-west-1.amazonaws.com", true],
    ["123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", true],
    ["shop.azurecr.io", true],
    ["europe-docker.pkg.dev", true],
    ["gcr.io", true],
    ["eu.gcr.io", true],
    ["evilgcr.io", false],
    ["azurecr.io.example.org", false],
    ["ghcr.io", false],
  ];
  for (const [host, isOfNodes] of clouds) {
    it(`${isOfNodes ? "hints" : "does not hint"} at the nodes' own credentials: ${host}`, async (t) => {
      const { figwasp } = await world(t, { [host]: behind(basic, []) });
      const hint = "; where nodes pull with a credential of their own, mount a docker config and set DOCKER_CONFIG";
      assert.equal((await figwasp.ask(`${host}/app`, noKeys)).endsWith(hint), isOfNodes);
    });
  }
});

describe("Registry.visits", () => {
  const tokens = "tokens.example.org";
  const elsewhere = `Bearer realm="https://${tokens}/token",service="s"`;
  const unrelated = 'Bearer realm="https://tokens.example.net/token",service="s"';

  /** Asks a host by a challenge: the pods have `has` logins, and the host takes the one at `takes`. Gives the visit. */
  async function met(t: TestContext, challenge: string, { has = 0, takes = -1, anybody = false } = {}) {
    const logins = Array.from({ length: has }, () => plant(t, {}, registry, tokens));
    const token = plantToken(t, registry, tokens, "tokens.example.net");
    const given = Object.fromEntries(
      logins.map(({ authorization }, at) => [authorization, at === takes ? token : undefined]),
    );
    const known = Object.entries({ ...given, "": anybody ? token : undefined }).filter(
      ([, each]) => each !== undefined,
    );
    const inside = [
      `Bearer ${token}`,
      ...logins.filter((_login, at) => at === takes).map(({ authorization }) => authorization),
    ];
    const giver = giving(Object.fromEntries(known) as Record<string, string>);
    const { figwasp } = await world(t, {
      [registry]: routes({ "/token": giver, "/v2/": behind(challenge, inside) }),
      [tokens]: giver,
      "tokens.example.net": giver,
    });
    await figwasp.ask(image, keyringOf(...logins.map((login): [string, typeof login] => [registry, login])));
    const [{ found, ...visit } = assert.fail("it was not met"), ...more] = figwasp.visits;
    assert.deepEqual(more, []);
    assert.deepEqual({ ...visit, status: 0 }, { registry, base: `https://${registry}/v2`, isMirror: false, status: 0 });
    return `${visit.status} ${found}`;
  }
  const key = (number: number) => `key "${registry}" of Secret shop/pull-${number}`;

  // Each row: the challenge, what the pods have and what the host takes, and what figwasp reports.
  const visits: [string, string, Parameters<typeof met>[2], string][] = [
    [
      "takes the only one",
      basic,
      { has: 1, takes: 0 },
      `200 asks for Basic, and takes ${key(1)}, the only one that matches`,
    ],
    [
      "takes the second",
      basic,
      { has: 2, takes: 1 },
      `200 asks for Basic, and takes ${key(2)}, number 2 of 2 that match; refused with ${key(1)}`,
    ],
    [
      "takes the first of two",
      elsewhere,
      { has: 2, takes: 0 },
      `200 asks for Bearer of ${tokens}, and takes ${key(1)}, number 1 of 2 that match`,
    ],
    ["takes none", basic, { has: 1 }, `401 asks for Basic; refused with ${key(1)}`],
    [
      "gives tokens to anybody",
      bearer,
      { anybody: true },
      `200 asks for Bearer of ${registry}, and gives it to anybody; the pods name no pull Secret`,
    ],
    [
      "gives tokens to anybody, by a host that is not its own",
      unrelated,
      { has: 1, anybody: true },
      "200 asks for Bearer of tokens.example.net, and gives it to anybody; none that matches may be sent there",
    ],
    ["gets none", basic, {}, "401 asks for Basic; the pods name no pull Secret"],
    [
      "would take something else as well",
      `Negotiate, Negotiate, ${bearer}`,
      { anybody: true },
      `200 asks for Negotiate or Bearer of ${registry}, and gives it to anybody; the pods name no pull Secret`,
    ],
    ["does not say how", "", {}, "401 asks for a credential, not saying how; the pods name no pull Secret"],
  ];
  for (const [what, challenge, setUp, told] of visits) {
    it(`tells of a host that ${what}`, async (t) => assert.equal(await met(t, challenge, setUp), told));
  }

  it("tells where a credential was looked for, and the setting that is missing", async (t) => {
    const { figwasp } = await world(t, { [registry]: behind(basic, []) });
    await figwasp.ask(image, { sources: [], whyNoneUsable: ["Secret shop/pull is not there"] });
    assert.equal(figwasp.visits[0]?.found, "asks for Basic; Secret shop/pull is not there");
    assert.match(
      await met(t, unrelated, { has: 1 }),
      /^401 asks for Bearer of tokens.example.net; .* set --token-hosts/,
    );
  });

  it("tells of a host that asks for nothing, once it answers well", async (t) => {
    const isHead = ({ method }: { method: string }) => method === "HEAD";
    const { figwasp } = await world(t, {
      [registry]: (request, response) => (isHead(request) ? refusing(404) : holding())(request, response),
    });
    await figwasp.ask(image);
    assert.deepEqual(
      figwasp.visits.map(({ status, found }) => [status, found]),
      [[200, "asks for no credential"]],
    );
  });

  it("tells of a token server that is broken", async (t) => {
    const { figwasp } = await world(t, { [registry]: routes({ "/token": refusing(501), "/v2/": behind(bearer, []) }) });
    await figwasp.ask(image);
    assert.deepEqual(
      figwasp.visits.map(({ status, found }) => [status, found]),
      [[undefined, `GET https://${registry}/token returned 501 Not Implemented`]],
    );
  });

  it("tells how it was let in, though the first answer was another trouble", async (t) => {
    const token = plantToken(t, registry);
    const inside = inTurn(refusing(501), holding());
    const doors = routes({ "/token": giving({ "": token }), "/v2/": behind(bearer, [`Bearer ${token}`], inside) });
    const { figwasp } = await world(t, { [registry]: doors });
    const tell = () => figwasp.visits.map(({ status, found }) => `${status} ${found.split(",")[0]}`);
    await figwasp.ask(image);
    assert.deepEqual(tell(), [`501 asks for Bearer of ${registry}`]);
    await figwasp.ask(`${image}:other`);
    assert.deepEqual(tell(), [`200 asks for Bearer of ${registry}`]);
  });

  it("tells of the answer to which it was led in the end", async (t) => {
    const login = plant(t, {}, registry);
    const token = plantToken(t, "cdn.example.net");
    const leading: Answer = (_request, response) => {
      response.writeHead(307, { location: "https://cdn.example.net/x" }).end();
    };
    const { figwasp } = await world(t, {
      [registry]: behind(basic, [login.authorization], leading),
      "cdn.example.net": routes({ "/token": giving({ "": token }), "/x": behind(bearer, [`Bearer ${token}`]) }),
    });
    assert.equal(await figwasp.ask(image, keyringOf([registry, login])), digest);
    assert.deepEqual(
      figwasp.visits.map(({ status }) => status),
      [200],
    );
  });

  it("tells of a host that cannot be asked, and of its mirrors", async (t) => {
    const toml = `server = "https://nobody.example"\n[host."https://mirror.example"]`;
    const { figwasp } = await world(
      t,
      { "mirror.example": refusing(404) },
      { files: { "registry.example.org/hosts.toml": toml } },
    );
    await figwasp.ask(image);
    assert.deepEqual(
      figwasp.visits.map(({ base, isMirror, status, found }) => [base, isMirror, status, found]),
      [
        ["https://mirror.example/v2", true, 404, "asks for no credential"],
        [
          "https://nobody.example/v2",
          false,
          undefined,
          "HEAD https://nobody.example/v2/app/manifests/latest failed: there is no nobody.example",
        ],
      ],
    );
  });

  it("repeats nothing that a token server was sent", async (t) => {
    const login = plant(t, {}, registry);
    const echo: Answer = ({ headers }, response) => {
      const basicOf = headers.authorization?.slice("Basic ".length) ?? "";
      const decoded = Buffer.from(basicOf, "base64").toString("utf8");
      refusing(401, `DENIED: ${headers.authorization} is ${decoded}`)({} as never, response);
    };
    const { figwasp } = await world(t, { [registry]: routes({ "/token": echo, "/v2/": behind(bearer, []) }) });
    await figwasp.ask(image, keyringOf([registry, login]));
    assert.match(figwasp.visits[0]?.found ?? "", /\(DENIED: Basic \[removed\] is user:\[removed\]\) with key/);
  });
});

describe("a registry that repeats what it was sent", () => {
  const echo: Answer = (request, response) => {
    const { authorization = "" } = request.headers;
    const value = authorization.replace(/^\w+ /, "");
    const decoded = Buffer.from(value, "base64").toString("utf8");
    const words = JSON.stringify(
      `No, ${authorization}, "${decoded}" (${JSON.stringify(decoded)}) ${encodeURIComponent(decoded)}`,
    );
    refusing(authorization ? 403 : 401, "", {
      "www-authenticate": basic,
      ...(authorization && {
        warning: `299 - "${`${authorization} ${encodeURIComponent(decoded)}`.slice(0, 400)}"`,
        "docker-content-digest": value,
      }),
    })(request, {
      writeHead: response.writeHead.bind(response),
      end: () => response.end(`{"errors":[{"code":"DENIED","message":${words}}]}`),
    } as typeof response);
  };

  const passwords: [string, string | undefined][] = [
    ["of odd characters", undefined],
    ["longer than a message", Array.from({ length: 60 }, (_each, at) => `${at * 7919}-`).join("")],
    ["of several lines", `{\n  "private_key": "-----BEGIN\\n4711-0815\\n--"\n}\n`],
  ];
  for (const [what, password] of passwords) {
    it(`does not make figwasp say a password ${what}`, async (t) => {
      const login = plant(t, password === undefined ? {} : { password }, registry);
      const { internet, figwasp } = await world(t, { [registry]: echo });
      const said = await figwasp.ask(image, keyringOf([registry, login]));
      assert.match(said, /403 Forbidden \(DENIED: No, Basic \[removed\]/);
      assert(
        figwasp.notes.some((note) => note.startsWith(`${registry} says: Basic [removed]`)),
        figwasp.notes.join(),
      );
      assert(internet.authorizations.includes(login.authorization));
    });
  }

  it("does not make figwasp say a part of one password that another one begins with", async (t) => {
    const short = plant(t, {}, registry);
    const long = plant(t, { password: `${short.password}${plantToken(t, registry)}` }, registry);
    const { figwasp } = await world(t, { [registry]: echo });
    await figwasp.ask(image, keyringOf([registry, short], [registry, long]));
  });

  it("does not make figwasp say a token", async (t) => {
    const token = `${plantToken(t, registry)}${"ey0".repeat(200)}${plantToken(t, registry)}`;
    const answers = routes({
      "/token": giving({ "": token }),
      "/v2/": behind(bearer, [`Bearer ${token}`], (request, response) => {
        refusing(403, `DENIED: ${request.headers.authorization}`, {
          warning: `299 - "${request.headers.authorization?.slice(0, 300)}"`,
        })(request, response);
      }),
    });
    const { figwasp } = await world(t, { [registry]: answers });
    assert.match(await figwasp.ask(image), /DENIED: Bearer \[removed\]/);
  });

  it("does not make figwasp say a header of hosts.toml", async (t) => {
    const [token, key] = [plantToken(t, registry), plantToken(t, registry)];
    const files = {
      [`${registry}/hosts.toml`]: `server = "https://${registry}"\n[header]\nauthorization = "Bearer ${token}"\nx-key = "${key}"`,
    };
    const words: Answer = (request, response) => {
      refusing(
        403,
        `DENIED: ${request.headers.authorization?.slice("Bearer ".length)} ${String(request.headers["x-key"])}`,
      )(request, response);
    };
    const { figwasp } = await world(t, { [registry]: words }, { files });
    assert.match(await figwasp.ask(image), /DENIED: \[removed\] \[removed\]\)/);
  });
});
