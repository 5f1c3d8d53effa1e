import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseReference } from "../figwasp.ts";
import { fetch as realFetch, newAgents } from "../lib/http/fetch.ts";
import { parseAddress, refuseInward } from "../lib/http/addresses.ts";
import { send } from "../lib/http/redirects.ts";
import { boundFetch, describeRefusal, type Fetch, readBody } from "../lib/http/transport.ts";
import { oneLine, quote } from "../lib/text.ts";
import { answerDigest, leadTo, openRegistry } from "./support/registry.ts";
import { serve } from "./support/serve.ts";
import { newAuthority, serveTls } from "./support/tls.ts";
import { Response } from "undici";

// Numeric addresses, so that no name is looked up. RFC 5737 reserves these for documentation.
const home = "https://203.0.113.7";
const away = "https://203.0.113.8";

interface Asked {
  url: string;
  headers: Record<string, string>;
  agents: unknown;
}

/** Answers each listed address with a redirect to another one, and any other address with 200. */
function redirecting(locations: Record<string, string>, status = 307) {
  const asked: Asked[] = [];
  const fetch: Fetch = async (url, { headers = {}, agents }) => {
    asked.push({ url, headers, agents });
    const location = locations[url];
    return location === undefined ? new Response("there") : new Response(null, { status, headers: { location } });
  };
  return { asked, fetch };
}

const own = newAgents();
const forOthers = newAgents();
const question = {
  method: "HEAD",
  headers: {
    accept: "a/b",
    "user-agent": "figwasp",
    authorization: "Basic s3cret",
    "x-key": "s3cret",
    cookie: "s3cret",
  },
  agents: own,
  otherAgents: forOthers,
};
const carried = { accept: "a/b", "user-agent": "figwasp" };

describe("send()", () => {
  const others: [string, string, string][] = [
    ["another host", `${home}/x`, `${away}/x`],
    ["another port", `${home}/x`, `${home}:8443/x`],
    ["another scheme", "http://203.0.113.7/x", `${home}/x`],
  ];
  for (const [what, from, to] of others) {
    it(`carries nothing but accept and user-agent to ${what}`, async () => {
      const { asked, fetch } = redirecting({ [from]: to });
      const { url } = await send(fetch, from, question);
      assert.equal(url, to);
      assert.deepEqual(asked, [
        { url: from, headers: question.headers, agents: own },
        { url: to, headers: carried, agents: forOthers },
      ]);
    });
  }

  it("attaches nothing again on the way back", async () => {
    const { asked, fetch } = redirecting({ [`${home}/a`]: `${away}/b`, [`${away}/b`]: `${home}/c` });
    await send(fetch, `${home}/a`, question);
    assert.deepEqual(asked.slice(1), [
      { url: `${away}/b`, headers: carried, agents: forOthers },
      { url: `${home}/c`, headers: carried, agents: forOthers },
    ]);
  });

  it("stays who it is on the same scheme, host and port, even if the port is written out", async () => {
    const { asked, fetch } = redirecting({
      [`${home}/a`]: `${home}:443/b`,
      [`${home}/b`]: "c",
      [`${home}/c`]: "/d?e=f",
    });
    await send(fetch, `${home}/a`, question);
    assert.deepEqual(
      asked.map(({ url }) => url),
      [`${home}/a`, `${home}/b`, `${home}/c`, `${home}/d?e=f`],
    );
    for (const { headers, agents } of asked) assert.deepEqual([headers, agents], [question.headers, own]);
  });

  for (const status of [301, 302, 303, 307, 308]) {
    it(`follows ${status}, and keeps the method`, async () => {
      const { asked, fetch } = redirecting({ [`${home}/a`]: `${home}/b` }, status);
      const methods: unknown[] = [];
      await send((url, init) => (methods.push(init.method), fetch(url, init)), `${home}/a`, question);
      assert.deepEqual([asked.length, methods], [2, ["HEAD", "HEAD"]]);
    });
  }

  it("takes a redirect without an address for an answer", async () => {
    const { response } = await send(async () => new Response(null, { status: 304 }), home, question);
    assert.equal(response.status, 304);
  });

  it("follows five redirects, and not six", async () => {
    const steps = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, at) => [`${home}/${at}`, `/${at + 1}`]));
    const five = redirecting(steps(5));
    assert.equal((await send(five.fetch, `${home}/0`, question)).url, `${home}/5`);
    const six = redirecting(steps(6));
    await assert.rejects(send(six.fetch, `${home}/0`, question), /\/5 was redirected more than 5 times$/);
    assert.equal(six.asked.length, 6);
  });

  it("counts the redirects between hosts as well", async () => {
    const { asked, fetch } = redirecting({ [`${home}/a`]: `${away}/a`, [`${away}/a`]: `${home}/a` });
    await assert.rejects(send(fetch, `${home}/a`, question), /more than 5 times$/);
    assert.equal(asked.length, 6);
  });

  for (const to of ["http://203.0.113.7/x", "http://203.0.113.8/x", "http://203.0.113.7:443/x"]) {
    it(`refuses to go from https to ${to}`, async () => {
      const { asked, fetch } = redirecting({ [`${home}/a`]: to });
      await assert.rejects(send(fetch, `${home}/a`, question), /^Error: HEAD .* was redirected from https to http:/);
      assert.equal(asked.length, 1);
    });
  }

  const odd: [string, RegExp][] = [
    ["https://203.0.113.8/a\u0001b?q=s3cret", /is not a URL$/],
    ["https://203.0.113.8/a\tb?q=s3cret", /is not a URL$/],
    ["https://203.0.113.8/a b?q=s3cret", /is not a URL$/],
    ["https://203.0.113.8/a\u007fb?q=s3cret", /is not a URL$/],
    ["https:\\\\203.0.113.8\\a?q=s3cret", /is not a URL$/],
    ["/\\203.0.113.8/a?q=s3cret", /is not a URL$/],
    ["https://?q=s3cret", /is not a URL$/],
    ["https://203.0.113.8:99999/?q=s3cret", /is not a URL$/],
    ["https://user:s3cret@203.0.113.8/a", /holds a user name$/],
    ["//s3cret@203.0.113.8/a", /holds a user name$/],
    ["https://203.0.113.7@203.0.113.8/a?q=s3cret", /holds a user name$/],
    ["ftp://203.0.113.8/s3cret", /is neither https nor http$/],
    ["file:///etc/s3cret", /is neither https nor http$/],
    ["data:text/plain,s3cret", /is neither https nor http$/],
    ["javascript:s3cret", /is neither https nor http$/],
  ];
  for (const [location, message] of odd) {
    it(`refuses ${JSON.stringify(location)}, and does not repeat it`, async () => {
      const { asked, fetch } = redirecting({ [`${home}/a?sig=s3cret`]: location });
      await assert.rejects(send(fetch, `${home}/a?sig=s3cret`, question), (error: Error) => {
        assert.match(error.message, message);
        assert.match(error.message, /^HEAD https:\/\/203\.0\.113\.7\/a was redirected, and the address /);
        assert.doesNotMatch(error.message, /s3cret/);
        return true;
      });
      assert.equal(asked.length, 1);
    });
  }

  const refused = [`http://203.0.113.9/?sig=s3cret`, `https://10.0.0.1/s3cret?sig=s3cret`, `/0?sig=s3cret`];
  for (const location of refused) {
    it(`shows neither path nor query of an address that it refuses: ${location}`, async () => {
      const { fetch } = redirecting({ [`${home}/0?sig=s3cret`]: location });
      await assert.rejects(send(fetch, `${home}/0?sig=s3cret`, question), (error: Error) => {
        assert.doesNotMatch(error.message, /s3cret/);
        return true;
      });
    });
  }
});

describe("send(), where a redirect leads inward", () => {
  const inward: [string, string][] = [
    ["https://127.0.0.1/", "loopback"],
    ["https://127.9.9.9/", "loopback"],
    ["https://[::1]/", "loopback"],
    ["https://0.0.0.0/", "loopback"],
    ["https://[::]/", "loopback"],
    ["https://localhost/", "loopback"],
    ["https://localhost./", "loopback"],
    ["https://2130706433/", "loopback"],
    ["https://0x7f.1/", "loopback"],
    ["https://0177.0.0.1/", "loopback"],
    ["https://127.1/", "loopback"],
    ["https://[::ffff:127.0.0.1]/", "loopback"],
    ["https://%31%32%37.0.0.1/", "loopback"],
    ["https://10.0.0.1/", "private"],
    ["https://172.16.0.1/", "private"],
    ["https://172.31.255.255/", "private"],
    ["https://192.168.1.1/", "private"],
    ["https://100.64.0.1/", "private"],
    ["https://[fd00::1]/", "private"],
    ["https://[::ffff:10.0.0.1]/", "private"],
  ];
  const metadata: [string, string][] = [
    ["https://169.254.169.254/", "link-local"],
    ["https://169.254.0.1/", "link-local"],
    ["https://2852039166/", "link-local"],
    ["https://0xa9fea9fe/", "link-local"],
    ["https://0251.0376.0251.0376/", "link-local"],
    ["https://[fe80::1]/", "link-local"],
    ["https://[fd00:ec2::254]/", "link-local"],
    ["https://100.100.100.200/", "link-local"],
    ["https://168.63.129.16/", "link-local"],
    ["https://192.0.0.192/", "link-local"],
    ["https://[64:ff9b::a9fe:a9fe]/", "link-local"],
    ["https://[::ffff:169.254.169.254]/", "link-local"],
    ["https://[::ffff:a9fe:a9fe]/", "link-local"],
    ["https://metadata.google.internal/", "link-local"],
    ["https://METADATA.google.internal./", "link-local"],
    ["https://metadata/", "link-local"],
  ];

  async function follow(from: string, to: string): Promise<{ asked: number; message: string }> {
    const { asked, fetch } = redirecting({ [from]: to });
    const message = await send(fetch, from, question).then(
      () => "",
      (error: Error) => error.message,
    );
    return { asked: asked.length, message };
  }

  for (const [to, place] of [...inward, ...metadata]) {
    it(`refuses ${to} from a public host`, async () => {
      const { asked, message } = await follow(`${home}/a`, to);
      assert.equal(message, `HEAD ${home}/a was redirected, and ${new URL(to).origin} leads to a ${place} address`);
      assert.equal(asked, 1);
    });
  }

  for (const [to] of metadata) {
    for (const from of ["https://10.0.0.1/", "https://127.0.0.1/", "https://169.254.1.1/"]) {
      it(`refuses ${to} from ${from} as well`, async () => {
        const { asked, message } = await follow(from, to);
        assert.match(message, /leads to a link-local address$/);
        assert.equal(asked, 1);
      });
    }
  }

  const allowed: [string, string][] = [
    ["https://10.0.0.1/", "https://10.0.0.2/"],
    ["https://10.0.0.1/", "https://192.168.1.1/"],
    ["https://10.0.0.1/", "https://[fd00::1]/"],
    ["https://10.0.0.1/", `${away}/`],
    ["https://127.0.0.1/", "https://127.0.0.2/"],
    ["https://127.0.0.1/", "https://10.0.0.1/"],
    ["https://127.0.0.1/", `${away}/`],
    ["https://[::1]/", "https://127.0.0.1/"],
    [`${home}/`, `${away}/`],
    [`${home}/`, "https://172.32.0.1/"],
    [`${home}/`, "https://11.0.0.1/"],
    [`${home}/`, "https://[2001:db8::1]/"],
  ];
  for (const [from, to] of allowed) {
    it(`goes from ${from} to ${to}`, async () => {
      assert.deepEqual(await follow(from, to), { asked: 2, message: "" });
    });
  }

  it("refuses loopback from a private host", async () => {
    const { asked, message } = await follow("https://10.0.0.1/", "https://127.0.0.1/");
    assert.match(message, /leads to a loopback address$/);
    assert.equal(asked, 1);
  });

  it("measures each redirect from the host that sent it", async () => {
    const { asked, fetch } = redirecting({ "https://127.0.0.1/": `${home}/`, [`${home}/`]: "https://127.0.0.1/x" });
    await assert.rejects(send(fetch, "https://127.0.0.1/", question), /leads to a loopback address$/);
    assert.equal(asked.length, 2);
  });

  it("keeps a registry of a public name off a server on loopback, for real", async (t) => {
    const inner = await serveTls(t, await (await newAuthority("CA")).issue("localhost"), answerDigest("v1"));
    const stub = await serve(t, (_request, response) => {
      response.writeHead(307, { location: `https://${inner.host}/x` }).end();
    });
    const fetch = leadTo({ [home]: `http://${stub.host}`, [`https://${inner.host}`]: `https://${inner.host}` });
    const registry = await openRegistry(t, { fetch });
    await assert.rejects(registry.resolve(parseReference("203.0.113.7/app")), /leads to a loopback address$/);
    assert.equal(stub.requests.length, 1);
    assert.equal(inner.requests.length, 0);
  });
});

describe("refuseInward()", () => {
  it("lets a name pass that nobody can resolve, since a proxy may", async () => {
    await refuseInward("203.0.113.7", "no-such-name.invalid", "x");
  });
});

describe("parseAddress()", () => {
  it("allows an @ in the query alone", () => {
    assert.equal(parseAddress("/a?b=c@d", home, "x").href, `${home}/a?b=c@d`);
    assert.throws(() => parseAddress("/a@b", home, "x"), /^Error: x holds a user name$/);
  });
});

describe("boundFetch()", () => {
  const never = new AbortController().signal;

  it("names method and address without the query, and the reason", async () => {
    const fetch = boundFetch(realFetch, 5000, never);
    const message = "GET http://127.0.0.1:4/token failed: connect ECONNREFUSED 127.0.0.1:4";
    await assert.rejects(fetch("http://127.0.0.1:4/token?account=s3cret", { method: "GET" }), { message });
  });

  it("names no user and no password of a proxy, as older releases of Node do", async () => {
    const said = new Error(
      "Failed to establish tunnel to r.example:443 via http://me:s3cret@127.0.0.1:3128: HTTP/1.1 407",
    );
    const fetch = boundFetch(() => Promise.reject(said), 5000, never);
    const message =
      "HEAD https://r.example/ failed: Failed to establish tunnel to r.example:443 via http://127.0.0.1:3128: HTTP/1.1 407";
    await assert.rejects(fetch("https://r.example/", { method: "HEAD" }), { message });
  });

  it("gives up on a server that never answers", async (t) => {
    const stub = await serve(t, () => {});
    const message = `GET http://${stub.host}/ gave no answer within 0.05 s`;
    await assert.rejects(boundFetch(realFetch, 50, never)(`http://${stub.host}/`, { method: "GET" }), { message });
  });

  it("gives up on a body that does not end, at the same deadline", { timeout: 10_000 }, async (t) => {
    const closed = Promise.withResolvers<void>();
    const stub = await serve(t, (_request, response) => {
      response.writeHead(200).write("{");
      response.on("close", closed.resolve);
    });
    const response = await boundFetch(realFetch, 1000, never)(`http://${stub.host}/?q=s3cret`, { method: "GET" });
    assert.equal(response.status, 200);
    const message = `The answer of http://${stub.host}/ broke off: The operation was aborted due to timeout`;
    await assert.rejects(readBody(response, 1000), { message });
    await closed.promise;
  });

  it("ends with the run, in the body as well, and says why", { timeout: 10_000 }, async (t) => {
    const run = new AbortController();
    const stub = await serve(t, (_request, response) => void response.writeHead(200).write("{"));
    const response = await boundFetch(realFetch, 60_000, run.signal)(`http://${stub.host}/`, { method: "GET" });
    run.abort(new Error("SIGTERM was received"));
    await assert.rejects(readBody(response, 1000), /broke off: SIGTERM was received$/);
    await assert.rejects(boundFetch(realFetch, 60_000, run.signal)(`http://${stub.host}/`, { method: "GET" }), {
      message: `GET http://${stub.host}/ was ended: SIGTERM was received`,
    });
    assert.equal(stub.requests.length, 1);
  });
});

describe("readBody()", () => {
  const never = new AbortController().signal;

  it("reads no more of an endless body than its limit, and hangs up", { timeout: 10_000 }, async (t) => {
    const closed = Promise.withResolvers<void>();
    let sent = 0;
    const stub = await serve(t, (_request, response) => {
      const chunk = Buffer.alloc(16 * 1024);
      const write = () => {
        // A bound for this test: without it, a reader without a limit would fill the memory.
        while (!response.destroyed && sent < 256 * 1024 * 1024) {
          sent += chunk.length;
          if (!response.write(chunk)) return;
        }
        response.end();
      };
      response.on("drain", write).on("close", closed.resolve);
      write();
    });
    const response = await boundFetch(realFetch, 60_000, never)(`http://${stub.host}/x?q=s3cret`, { method: "GET" });
    const message = `The answer of http://${stub.host}/x is longer than 65536 bytes`;
    await assert.rejects(readBody(response, 65_536), { message });
    await closed.promise;
    assert(sent < 64 * 1024 * 1024, `${sent} bytes were taken`);
  });

  it("takes a body of just its limit", async () => {
    assert.equal((await readBody(new Response("x".repeat(10)), 10)).length, 10);
    await assert.rejects(readBody(new Response("x".repeat(11)), 10), /is longer than 10 bytes$/);
  });

  it("says that a body broke off", async (t) => {
    const stub = await serve(t, (_request, response) => {
      response.writeHead(200, { "content-length": 100 }).write("{", () => response.destroy());
    });
    const response = await boundFetch(realFetch, 60_000, never)(`http://${stub.host}/`, { method: "GET" });
    await assert.rejects(readBody(response, 1000), /^Error: The answer of http:\/\/127\.0\.0\.1:\d+\/ broke off: /);
  });

  it("gives an empty body where there is none", async () => {
    assert.equal((await readBody(new Response(null), 10)).length, 0);
  });
});

describe("describeRefusal()", () => {
  const errors = (...list: unknown[]) => JSON.stringify({ errors: list });
  const rows: [string, string, string][] = [
    ["code and message", errors({ code: "DENIED", message: "no" }), "403 Forbidden (DENIED: no)"],
    ["a code alone", errors({ code: "DENIED" }), "403 Forbidden (DENIED)"],
    ["a message alone", errors({ message: "no" }), "403 Forbidden (no)"],
    ["the first of several", errors({ code: "A" }, { code: "B" }), "403 Forbidden (A)"],
    ["several lines", errors({ code: "A", message: "one\r\ntwo\u2028three" }), "403 Forbidden (A: one two three)"],
    [
      "escapes of a terminal",
      errors({ code: "A", message: "\u001b[31mred\u009b0m\u0007" }),
      "403 Forbidden (A: [31mred 0m)",
    ],
    ["turned letters", errors({ code: "A", message: "a\u202eb\u200bc" }), "403 Forbidden (A: a b c)"],
    ["a text without end", errors({ code: "A", message: "x".repeat(5000) }), `403 Forbidden (A: ${"x".repeat(200)}…)`],
    ["numbers", errors({ code: 1, message: { a: "b" } }), "403 Forbidden"],
    ["no object in the list", errors("DENIED"), "403 Forbidden"],
    ["an empty list", errors(), "403 Forbidden"],
    ["no list", JSON.stringify({ errors: { code: "A" } }), "403 Forbidden"],
    ["a list alone", JSON.stringify([{ code: "A" }]), "403 Forbidden"],
    ["a page", "<html>DENIED</html>", "403 Forbidden"],
    ["nothing", "", "403 Forbidden"],
    ["more than 64 KiB", errors({ code: "A", message: "x".repeat(65_536) }), "403 Forbidden"],
  ];
  for (const [what, body, expected] of rows) {
    it(`tells, of ${what}: ${expected.slice(0, 40)}`, async () => {
      assert.equal(await describeRefusal(new Response(body, { status: 403 })), expected);
    });
  }

  it("tells a status without a name as its number", async () => {
    assert.equal(await describeRefusal(new Response("", { status: 499 })), "499");
  });

  it("tells the status where the body breaks off or does not end", { timeout: 10_000 }, async (t) => {
    const stub = await serve(t, ({ path }, response) => {
      response.writeHead(403);
      response.write("{", () => path === "/broken" && response.destroy());
    });
    const fetch = boundFetch(realFetch, 200, new AbortController().signal);
    for (const path of ["/broken", "/endless"]) {
      const response = await fetch(`http://${stub.host}${path}`, { method: "GET" });
      assert.equal(await describeRefusal(response), "403 Forbidden");
    }
  });
});

const csi = "\u009B"; // starts a terminal control sequence, like ESC [
const overridden = "\u202E"; // reverses the writing direction of the text after it

describe("oneLine()", () => {
  const rows: [string, string][] = [
    ["no such image", "no such image"],
    [" a\r\nb\u2028c ", "a b c"],
    [`a${csi}2J${overridden}b`, "a 2J b"],
    ["x".repeat(201), `${"x".repeat(200)}…`],
  ];
  for (const [text, line] of rows) {
    it(`makes ${JSON.stringify(line.slice(0, 40))}`, () => assert.equal(oneLine(text), line));
  }
});

describe("quote()", () => {
  const rows: [string, string][] = [
    ["nginx:1.27", '"nginx:1.27"'],
    ['say "hi"\n', '"say \\"hi\\"\\n"'],
    [`a${csi}2J`, '"a\\u{9b}2J"'],
    [`a${overridden}\u2028\u0085\u{E0041}`, '"a\\u{202e}\\u{2028}\\u{85}\\u{e0041}"'],
    ["x".repeat(201), `"${"x".repeat(200)}…"`],
  ];
  for (const [text, quoted] of rows) {
    it(`shows ${quoted.slice(0, 40)}`, () => assert.equal(quote(text), quoted));
  }
});
