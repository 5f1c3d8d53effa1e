import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Response } from "undici";
import { lookUp, parseReference } from "../figwasp.ts";
import { fetch as realFetch } from "../lib/http/fetch.ts";
import type { Fetch } from "../lib/http/transport.ts";
import { parseRetryAfter } from "../lib/http/retry-after.ts";
import { answerDigest, digestOf, imageOf, noKeys, openRegistry, serveRegistry } from "./support/registry.ts";
import { type Answer, serve, type Stub } from "./support/serve.ts";
import { newAuthority, serveTls } from "./support/tls.ts";

const answer = answerDigest("v1");

function refuse(status: number, headers: Record<string, string> = {}): Answer {
  return (_request, response) => void response.writeHead(status, headers).end();
}

/** Gives these answers in order, and then the digest. */
function inOrder(...answers: Answer[]): Answer {
  return (request, response) => (answers.shift() ?? answer)(request, response);
}

const at = (stub: Stub, name = "app") => parseReference(`${stub.host}/${name}`);

describe("a host whose trouble may pass", () => {
  for (const status of [408, 500, 502, 503, 504, 522]) {
    it(`is asked three times in all where it answers ${status}`, async (t) => {
      const stub = await serve(t, refuse(status));
      const message = new RegExp(`^HEAD http://${stub.host}/v2/app/manifests/latest returned ${status}`);
      await assert.rejects((await openRegistry(t)).resolve(at(stub)), { message });
      assert.deepEqual(stub.lines(), Array(3).fill("HEAD /v2/app/manifests/latest"));
    });
  }

  it("is believed at its third answer", async (t) => {
    const stub = await serve(t, inOrder(refuse(500), refuse(503)));
    assert.equal(await (await openRegistry(t)).resolve(at(stub)), digestOf("v1"));
    assert.equal(stub.requests.length, 3);
  });

  for (const status of [400, 402, 406, 409, 410, 418, 431, 451, 501, 505, 507, 511]) {
    it(`is asked once where it answers ${status}`, async (t) => {
      const stub = await serve(t, refuse(status));
      await assert.rejects((await openRegistry(t)).resolve(at(stub)), new RegExp(`returned ${status}`));
      assert.equal(stub.requests.length, 1);
    });
  }

  const breaks: [string, Answer][] = [
    ["hangs up", (_request, response) => void response.destroy()],
    ["resets the connection", (_request, response) => void response.socket?.resetAndDestroy()],
  ];
  for (const [what, hangUp] of breaks) {
    it(`is asked again where it ${what}, three times in all`, async (t) => {
      const once = await serve(t, inOrder(hangUp));
      assert.equal(await (await openRegistry(t)).resolve(at(once)), digestOf("v1"));
      assert.equal(once.requests.length, 2);

      const always = await serve(t, hangUp);
      await assert.rejects((await openRegistry(t)).resolve(at(always)));
      assert.equal(always.requests.length, 3);
    });
  }

  /** Counts the attempts, also those that reach no server. */
  function counting(inner: Fetch): { fetch: Fetch; count: () => number } {
    let count = 0;
    return { fetch: (url, init) => (count++, inner(url, init)), count: () => count };
  }

  const codes: [string, number][] = [
    ["EAI_AGAIN", 3],
    ["EPIPE", 3],
    ["ECONNRESET", 3],
    ["ENOTFOUND", 1],
    ["EHOSTUNREACH", 1],
    ["CERT_HAS_EXPIRED", 1],
    ["UND_ERR_CONNECT_TIMEOUT", 1],
  ];
  for (const [code, times] of codes) {
    it(`is tried ${times === 1 ? "once" : "three times"} where the attempt ends in ${code}`, async (t) => {
      const cause = Object.assign(new Error(`no luck: ${code}`), { code });
      const { fetch, count } = counting(async () => {
        throw new TypeError("fetch failed", { cause });
      });
      const registry = await openRegistry(t, { fetch });
      await assert.rejects(registry.resolve(parseReference("registry.example/app")), /failed: no luck/);
      assert.equal(count(), times);
    });
  }

  it("is left alone for longer before the third try than before the second", async (t) => {
    const stub = await serve(t, refuse(503));
    const times: number[] = [];
    const fetch: Fetch = (url, init) => (times.push(performance.now()), realFetch(url, init));
    await assert.rejects((await openRegistry(t, { fetch, delayMs: 40 })).resolve(at(stub)), /503/);
    const [first = 0, second = 0, third = 0] = times;
    // Waits of 40 ms and 120 ms, each at least half as long: the random part keeps many clients from retrying at once.
    assert(second - first >= 19 && third - second >= 59, times.join());
  });

  it("is tried once where nothing listens", async (t) => {
    const { fetch, count } = counting(realFetch);
    const registry = await openRegistry(t, { fetch });
    await assert.rejects(registry.resolve(parseReference("127.0.0.1:4/app")), /ECONNREFUSED/);
    assert.equal(count(), 1);
  });

  it("is tried once where its certificate is nobody's", async (t) => {
    const { fetch, count } = counting(realFetch);
    const stub = await serveTls(t, await (await newAuthority("CA")).issue("localhost"), answer);
    const files = { [`${stub.host}/hosts.toml`]: `server = "https://${stub.host}"` };
    await assert.rejects((await openRegistry(t, { fetch, files })).resolve(at(stub)), /unable to verify/);
    assert.equal(count(), 1);
  });

  it("is tried once where it gives no answer in time", async (t) => {
    const stub = await serve(t, () => {});
    await assert.rejects((await openRegistry(t, { timeoutMs: 50 })).resolve(at(stub)), /gave no answer within/);
    assert.equal(stub.requests.length, 1);
  });
});

describe("a host that says when to ask again", () => {
  for (const text of ["0", "-1", "soon", "1.5", "Sat, 21 Nov 2020 09:00:00 GMT", "0, 60"]) {
    it(`is not waited for where it says ${JSON.stringify(text)}`, async (t) => {
      const stub = await serve(t, inOrder(refuse(503, { "retry-after": text })));
      assert.equal(await (await openRegistry(t)).resolve(at(stub)), digestOf("v1"));
      assert.equal(stub.requests.length, 2);
    });
  }

  const late = () => new Date(Date.now() + 3600_000).toUTCString();
  for (const text of ["11", "3600", "999999999", late()]) {
    it(`is given up where that is in ${text}`, { timeout: 5000 }, async (t) => {
      const stub = await serve(t, refuse(503, { "retry-after": text }));
      await assert.rejects((await openRegistry(t)).resolve(at(stub)), /returned 503 Service Unavailable$/);
      assert.equal(stub.requests.length, 1);
    });
  }

  it("is waited for where that is soon", { timeout: 10_000 }, async (t) => {
    const run = new AbortController();
    const stub = await serve(t, inOrder(refuse(503, { "retry-after": "10" })));
    const registry = await openRegistry(t, { signal: run.signal });
    const resolved = assert.rejects(registry.resolve(at(stub)), /was ended: enough$/);
    // Without the wait, the second try would follow within two milliseconds.
    await sleep(100);
    run.abort(new Error("enough"));
    await resolved;
    assert.equal(stub.requests.length, 1);
  });

  it("is left at once when the run ends", { timeout: 10_000 }, async (t) => {
    const run = new AbortController();
    const stub = await serve(t, (_request, response) => {
      response.writeHead(500).end();
      setTimeout(() => run.abort(new Error("SIGTERM was received")), 20);
    });
    const registry = await openRegistry(t, { signal: run.signal, delayMs: 20_000 });
    await assert.rejects(registry.resolve(at(stub)), /was ended: SIGTERM was received$/);
    assert.equal(stub.requests.length, 1);
  });
});

describe("a host that answers 429", () => {
  const stopped = /answered 429 Too Many Requests, to be asked again in 60 s; it is not asked again in this run$/;

  it("is not asked again in the run, for whatever image", async (t) => {
    const stub = await serve(t, refuse(429, { "retry-after": "60" }));
    const registry = await openRegistry(t);
    await assert.rejects(registry.resolve(at(stub, "a")), { message: stopped });
    await assert.rejects(registry.resolve(at(stub, "b")), { message: stopped });
    assert.deepEqual(stub.lines(), ["HEAD /v2/a/manifests/latest"]);
  });

  for (const [what, headers] of Object.entries({
    "without saying until when": {},
    "saying nonsense": { "retry-after": "331.163µs" },
  })) {
    it(`is not asked again either ${what}`, async (t) => {
      const message = /^127\.0\.0\.1:\d+ answered 429 Too Many Requests; it is not asked again in this run$/;
      const stub = await serve(t, refuse(429, headers));
      const registry = await openRegistry(t);
      await assert.rejects(registry.resolve(at(stub, "a")), { message });
      await assert.rejects(registry.resolve(at(stub, "b")), { message });
      assert.equal(stub.requests.length, 1);
    });
  }

  it("has a late answer of another kind counted, and is left all the same", async (t) => {
    const stub = await serve(t, inOrder(answer, refuse(429)));
    const registry = await openRegistry(t);
    assert.equal(await registry.resolve(at(stub, "a")), digestOf("v1"));
    await assert.rejects(registry.resolve(at(stub, "b")), /429/);
    await assert.rejects(registry.resolve(at(stub, "c")), /429/);
    assert.equal(await registry.resolve(at(stub, "a")), digestOf("v1"));
    assert.equal(stub.requests.length, 2);
  });

  it("may be a token server, and is not asked for another image", async (t) => {
    const tokens = await serve(t, refuse(429, { "retry-after": "60" }));
    const challenge = { "www-authenticate": `Bearer realm="http://${tokens.host}/token"` };
    const stub = await serve(t, refuse(401, challenge));
    const registry = await openRegistry(t);
    for (const name of ["a", "b"]) await assert.rejects(registry.resolve(at(stub, name)), { message: stopped });
    assert.deepEqual(tokens.lines(), ["GET /token"]);
    assert.equal(stub.requests.length, 2);
  });

  it("leaves other hosts alone", async (t) => {
    const [limited, other] = [await serve(t, refuse(429)), await serve(t, answer)];
    const registry = await openRegistry(t);
    await assert.rejects(registry.resolve(at(limited)), /429/);
    assert.equal(await registry.resolve(at(other)), digestOf("v1"));
  });

  it("leaves the registry alone where it is its mirror", async (t) => {
    const [mirror, stub] = [await serve(t, refuse(429)), await serve(t, answer)];
    const toml = `server = "http://${stub.host}"\n[host."http://${mirror.host}"]`;
    const registry = await openRegistry(t, { files: { "registry.example/hosts.toml": toml } });
    for (const name of ["a", "b"]) {
      assert.equal(await registry.resolve(parseReference(`registry.example/${name}`)), digestOf("v1"));
    }
    assert.equal(mirror.requests.length, 1);
    assert.equal(stub.requests.length, 2);
  });

  it("is none that has 429 in a repository, a tag or a digest", async (t) => {
    const digest = `sha256:${"429".repeat(21)}4`;
    const stub = await serve(t, (_request, response) => {
      response.writeHead(200, { "docker-content-digest": digest }).end();
    });
    const registry = await openRegistry(t);
    for (const name of ["429/toomanyrequests:1", "app:429", "app:v429"]) {
      assert.equal(await registry.resolve(parseReference(`${stub.host}/${name}`)), digest);
    }
    const gone = await serve(t, refuse(404));
    for (const name of ["429", "app:429"]) {
      const reference = parseReference(`${gone.host}/${name}`);
      await assert.rejects(registry.resolve(reference), /returned 404 Not Found$/);
    }
    assert.equal(gone.requests.length, 4);
  });

  it("hears nothing of the requests that wait for their turn", { timeout: 10_000 }, async (t) => {
    const stub = await serve(t, refuse(429));
    const registry = await openRegistry(t);
    const asked = Array.from({ length: 20 }, (_, index) => registry.resolve(at(stub, `app-${index}`)));
    const outcomes = await Promise.allSettled(asked);
    assert.deepEqual(new Set(outcomes.map(({ status }) => status)), new Set(["rejected"]));
    assert.equal(stub.requests.length, 1);
  });
});

describe("a host that many ask", () => {
  it("gets one request at a time, over one connection", { timeout: 10_000 }, async (t) => {
    let underWay = 0;
    let most = 0;
    const stub = await serve(t, async (request, response) => {
      most = Math.max(most, ++underWay);
      await sleep(5);
      underWay--;
      void answer(request, response);
    });
    const registry = await openRegistry(t);
    const names = Array.from({ length: 20 }, (_, index) => `app-${index}`);
    await Promise.all(names.map((name) => registry.resolve(at(stub, name))));
    assert.equal(most, 1);
    assert.deepEqual([stub.requests.length, stub.connections()], [20, 1]);
  });

  it("keeps no other host waiting", { timeout: 10_000 }, async (t) => {
    const run = new AbortController();
    const isAsked = Promise.withResolvers<void>();
    const deaf = await serve(t, () => isAsked.resolve());
    const stub = await serve(t, answer);
    const registry = await openRegistry(t, { signal: run.signal });
    const asked = Array.from({ length: 6 }, (_, index) => registry.resolve(at(deaf, `app-${index}`)));
    await isAsked.promise;
    assert.equal(await registry.resolve(at(stub)), digestOf("v1"));
    run.abort(new Error("enough"));
    for (const { status } of await Promise.allSettled(asked)) assert.equal(status, "rejected");
    assert.equal(deaf.requests.length, 1);
  });

  it("is given up where it is silent twice, so that nobody waits for it any more", { timeout: 10_000 }, async (t) => {
    const deaf = await serve(t, () => {});
    const registry = await openRegistry(t, { timeoutMs: 50 });
    const asked = Array.from({ length: 6 }, (_, index) => registry.resolve(at(deaf, `app-${index}`)));
    const reasons = (await Promise.allSettled(asked)).map((each) =>
      each.status === "rejected" ? String(each.reason) : "",
    );
    for (const reason of reasons.slice(0, 2)) assert.match(reason, /gave no answer within 0\.05 s$/);
    for (const reason of reasons.slice(2))
      assert.match(reason, /gave no answer 2 times; it is not asked again in this run$/);
    assert.equal(deaf.requests.length, 2);
  });

  it("is not given up for the end of the run", { timeout: 10_000 }, async (t) => {
    const run = new AbortController();
    const deaf = await serve(t, () => run.abort(new Error("enough")));
    const registry = await openRegistry(t, { signal: run.signal });
    const asked = Array.from({ length: 3 }, (_, index) => registry.resolve(at(deaf, `app-${index}`)));
    for (const each of await Promise.allSettled(asked)) {
      assert.match(each.status === "rejected" ? String(each.reason) : "", /was ended: enough$/);
    }
  });

  it("gets one HEAD for a reference, however many workloads run it", async (t) => {
    const stub = await serveRegistry(t);
    const digest = stub.put("latest", imageOf("v1"));
    const registry = await openRegistry(t);
    const look = () =>
      lookUp(registry, stub.image("latest"), {
        running: [{ kind: "digest", digest, isImageId: false }],
        keyring: noKeys,
      });
    await Promise.all([look(), look(), look()]);
    await look();
    assert.deepEqual(stub.lines(), ["HEAD /v2/app/manifests/latest"]);
  });

  it("learns who asks, and so do its token server and where it leads", async (t) => {
    const other = await serve(t, answer);
    const stub = await serve(t, ({ path, headers }, response) => {
      if (path.startsWith("/token")) return void response.end(JSON.stringify({ token: "t0ken" }));
      if (headers.authorization) return void response.writeHead(307, { location: `http://${other.host}/x` }).end();
      response.writeHead(401, { "www-authenticate": 'Bearer realm="/token"' }).end();
    });
    await (await openRegistry(t)).resolve(at(stub));
    const agents = [...stub.requests, ...other.requests].map(({ headers }) => headers["user-agent"]);
    assert.equal(agents.length, 4);
    for (const agent of agents) assert.match(agent ?? "", /^figwasp\/\d+\.\d+\.\d+\S* \(\+https:\/\/\S+\)$/);
  });
});

describe("a host that tells its limits", () => {
  async function notesOf(t: TestContext, headers: Record<string, string>): Promise<string[]> {
    const stub = await serve(t, (_request, response) => {
      response.writeHead(200, { ...headers, "docker-content-digest": digestOf("v1") }).end();
    });
    const registry = await openRegistry(t);
    await registry.resolve(at(stub));
    return registry.notes.map((note) => note.replace(stub.host, "HOST"));
  }

  const told = (text: string) => [`HOST: ${text}`];
  const forms: [Record<string, string>, string[]][] = [
    [
      { "ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600" },
      told("76 of 100 remain of its rate limit, per 6 h"),
    ],
    [
      { "x-ratelimit-limit": "3000, 3000;w=3600", "x-ratelimit-remaining": "2999" },
      told("2999 of 3000 remain of its rate limit, per 1 h"),
    ],
    [
      { "x-ratelimit-limit": "60, 60;w=60", "x-ratelimit-remaining": "59" },
      told("59 of 60 remain of its rate limit, per 60 s"),
    ],
    [{ "ratelimit-limit": "100", "ratelimit-remaining": "0" }, told("0 of 100 remain of its rate limit")],
    [
      { "ratelimit-limit": "10", "ratelimit-remaining": "5", "x-ratelimit-limit": "1", "x-ratelimit-remaining": "1" },
      told("5 of 10 remain of its rate limit"),
    ],
    [{}, []],
    [{ "ratelimit-limit": "100;w=21600" }, []],
    [{ "ratelimit-remaining": "76;w=21600" }, []],
    [{ "ratelimit-limit": "many", "ratelimit-remaining": "few" }, []],
    [{ "ratelimit-limit": "100", "ratelimit-remaining": "-1" }, []],
    [{ "ratelimit-limit": "100", "ratelimit-remaining": "" }, []],
  ];
  for (const [headers, notes] of forms) {
    it(`is noted with ${JSON.stringify(headers)}`, async (t) => assert.deepEqual(await notesOf(t, headers), notes));
  }

  it("is noted once, as it told last", async (t) => {
    let remaining = 90;
    const stub = await serve(t, (_request, response) => {
      const headers = { "ratelimit-limit": "100", "ratelimit-remaining": String(--remaining) };
      response.writeHead(200, { ...headers, "docker-content-digest": digestOf("v1") }).end();
    });
    const registry = await openRegistry(t);
    for (const name of ["a", "b"]) await registry.resolve(at(stub, name));
    assert.deepEqual(registry.notes, [`${stub.host}: 88 of 100 remain of its rate limit`]);
  });

  for (const [remaining, isAsked] of [
    [20, true],
    [19, false],
    [0, false],
  ] as const) {
    it(`is ${isAsked ? "sent" : "spared"} a GET when ${remaining} of 100 pulls are left`, async (t) => {
      const stub = await serve(t, ({ method }, response) => {
        const headers = { "ratelimit-limit": "100;w=21600", "ratelimit-remaining": `${remaining};w=21600` };
        if (method !== "HEAD") return void response.writeHead(404, headers).end();
        response.writeHead(200, { ...headers, "docker-content-digest": digestOf("v2") }).end();
      });
      const registry = await openRegistry(t);
      const running = [{ kind: "digest" as const, digest: digestOf("v1"), isImageId: false }];
      const lookup = await lookUp(registry, `${stub.host}/app`, { running, keyring: noKeys });
      assert(lookup.kind === "failed");
      const spared = new RegExp(`has ${remaining} of 100 pulls left, which are for the nodes, and no more was asked$`);
      if (isAsked) assert.doesNotMatch(lookup.error.message, /pulls left/);
      else assert.match(lookup.error.message, spared);
      const gets = stub.requests.filter(({ method }) => method === "GET");
      assert.equal(gets.length, isAsked ? 1 : 0);

      await registry.resolve(at(stub, "another"));
      assert.equal(stub.requests.at(-1)?.path, "/v2/another/manifests/latest", "a HEAD is still sent");
    });
  }
});

describe("a host that warns", () => {
  const warn = (warning: string): Answer => {
    return (_request, response) => {
      response.writeHead(200, { warning, "docker-content-digest": digestOf("v1") }).end();
    };
  };

  it("is noted once for each text", async (t) => {
    const stub = await serve(
      t,
      inOrder(warn('299 - "old"'), warn('299 - "old", 299 reg "the \\"end\\""'), warn('299 - "old"')),
    );
    const registry = await openRegistry(t);
    for (const name of ["a", "b", "c"]) await registry.resolve(at(stub, name));
    assert.deepEqual(registry.notes, [`${stub.host} says: old`, `${stub.host} says: the "end"`]);
  });

  it("is told from another that says the same", async (t) => {
    const [one, two] = [await serve(t, warn('299 - "old"')), await serve(t, warn('299 - "old"'))];
    const registry = await openRegistry(t);
    for (const stub of [one, two]) await registry.resolve(at(stub));
    assert.deepEqual(registry.notes, [`${one.host} says: old`, `${two.host} says: old`]);
  });

  for (const warning of ['199 - "x"', '110 - "299 - x"', "299 - old", "nonsense", '1299 - "x"']) {
    it(`is not noted for ${warning}`, async (t) => {
      const stub = await serve(t, warn(warning));
      const registry = await openRegistry(t);
      await registry.resolve(at(stub));
      assert.deepEqual(registry.notes, []);
    });
  }

  it("moves no cursor and fills no screen", async (t) => {
    const warning = `299 - "\u001b[2J${"x".repeat(400)}"`;
    const fetch: Fetch = async () => {
      return new Response(null, { headers: { warning, "docker-content-digest": digestOf("v1") } });
    };
    const registry = await openRegistry(t, { fetch });
    await registry.resolve(parseReference("registry.example/app"));
    assert.deepEqual(registry.notes, [`registry.example says: [2J${"x".repeat(196)}…`]);
  });
});

describe("parseRetryAfter()", () => {
  const now = new Date("2026-11-21T10:00:00Z");
  const rows: [string | null, number | undefined][] = [
    [null, undefined],
    ["", undefined],
    [" ", undefined],
    ["0", 0],
    [" 120 ", 120],
    ["-1", undefined],
    ["1.5", undefined],
    ["331.163µs", undefined],
    ["1e3", undefined],
    ["9999999999", undefined],
    ["soon", undefined],
    ["Sat, 21 Nov 2026 10:00:30 GMT", 30],
    ["Sat, 21 Nov 2026 10:00:00 GMT", 0],
    ["Sat, 21 Nov 2026 09:00:00 GMT", 0],
    ["Sat, 99 Nov 2026 09:00:00 GMT", undefined],
    ["Sat, 21 Nov 2026 10:00:30 CET", undefined],
    ["2026-11-21T10:00:30Z", undefined],
  ];
  for (const [text, seconds] of rows) {
    it(`reads ${JSON.stringify(text)}`, () => assert.equal(parseRetryAfter(text, now), seconds));
  }
});
