import assert from "node:assert/strict";
import { createServer } from "node:net";
import { describe, it } from "node:test";
import { gzipSync } from "node:zlib";
import { fetch, isUntrusted, newAgents, type RequestInit } from "../lib/http/fetch.ts";
import { listen, serve } from "./support/serve.ts";

async function textOf(response: Awaited<ReturnType<typeof fetch>>): Promise<string> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of response.body ?? []) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

const get: RequestInit = { method: "GET" };

describe("fetch()", () => {
  it("sends what it is given, and gives what comes", async (t) => {
    const stub = await serve(t, ({ body }, response) => {
      response.writeHead(201, { "x-a": ["1", "2"], "content-type": "a/b" }).end(`${body} was sent`);
    });
    const init = { method: "POST", headers: { "x-b": "c" }, body: "a=b" };
    const response = await fetch(`http://${stub.host}/p?q=r`, init);
    const { status, url, headers } = response;
    assert.deepEqual([status, url], [201, `http://${stub.host}/p?q=r`]);
    assert.deepEqual([headers.get("x-a"), headers.get("content-type"), headers.get("x-c")], ["1, 2", "a/b", null]);
    assert.equal(await textOf(response), "a=b was sent");
    const [{ method, path, headers: sent } = assert.fail()] = stub.requests;
    assert.deepEqual([method, path, sent["x-b"], sent["content-length"]], ["POST", "/p?q=r", "c", "3"]);
  });

  it("asks one thing after the other over one connection, whatever the answers", async (t) => {
    const stub = await serve(t, ({ path }, response) => void response.writeHead(Number(path.slice(1))).end("said"));
    const agents = newAgents();
    const ask = (method: string, status: number) => fetch(`http://${stub.host}/${status}`, { method, agents });
    await ask("HEAD", 200);
    await ask("HEAD", 401);
    // The caller need not read the body of an answer other than success for the connection to be reused.
    for (const status of [307, 401, 429, 503]) await ask("GET", status);
    assert.equal(await textOf(await ask("GET", 200)), "said");
    await ask("GET", 404);
    assert.deepEqual([stub.requests.length, stub.connections()], [8, 1]);
  });

  it("frees the connection for the next question where a body is cancelled", { timeout: 10_000 }, async (t) => {
    const stub = await serve(t, (_request, response) => void response.writeHead(200).write("{"));
    const agents = newAgents();
    const response = await fetch(`http://${stub.host}/`, { ...get, agents });
    await response.body?.cancel();
    assert.equal((await fetch(`http://${stub.host}/`, { ...get, agents })).status, 200);
  });

  it("keeps no more of a refusal than 64 KiB, and of one that breaks off nothing", { timeout: 10_000 }, async (t) => {
    const stub = await serve(t, ({ path }, response) => {
      response.writeHead(500);
      if (path === "/broken") response.write("{", () => response.destroy());
      else response.end("x".repeat(10 * 1024 * 1024));
    });
    const long = await textOf(await fetch(`http://${stub.host}/long`, get));
    assert(long.length > 64 * 1024 && long.length < 1024 * 1024, `${long.length} characters`);
    assert.equal(await textOf(await fetch(`http://${stub.host}/broken`, get)), "");
  });

  it("asks again where the server has just ended the kept connection", async (t) => {
    const stub = await serve(t, ({ path }, response) => {
      if (path === "/second" && stub.requests.length === 2) response.destroy();
      else response.end("there");
    });
    const agents = newAgents();
    await textOf(await fetch(`http://${stub.host}/first`, { ...get, agents }));
    assert.equal(await textOf(await fetch(`http://${stub.host}/second`, { ...get, agents })), "there");
    assert.deepEqual([stub.requests.length, stub.connections()], [3, 2]);
  });

  it("asks again where the server has sent too much before", async (t) => {
    let connections = 0;
    const server = createServer((socket) => {
      const isFirst = ++connections === 1;
      let asked = 0;
      const end = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
      socket.on("data", () => socket.write(isFirst && ++asked > 1 ? "more" : end));
    });
    t.after(() => server.close());
    const host = await listen(server);
    const agents = newAgents();
    t.after(() => agents["http:"].destroy());
    for (const status of [200, 200]) {
      assert.equal((await fetch(`http://${host}/`, { method: "HEAD", agents })).status, status);
    }
    assert.equal(connections, 2);
  });

  it("sends no change twice", async (t) => {
    const stub = await serve(
      t,
      ({ method }, response) => void (method === "GET" ? response.end("a") : response.destroy()),
    );
    const agents = newAgents();
    for (const method of ["PATCH", "POST", "PUT"]) {
      await textOf(await fetch(`http://${stub.host}/`, { ...get, agents }));
      await assert.rejects(fetch(`http://${stub.host}/`, { method, body: "{}", agents }), { code: "ECONNRESET" });
    }
    assert.equal(stub.requests.length, 6);
  });

  it("refuses what is compressed", async (t) => {
    const stub = await serve(t, (_request, response) => {
      response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync("{}"));
    });
    const message = "it answered in content-encoding gzip, which was not asked for";
    await assert.rejects(fetch(`http://${stub.host}/`, get), { message });
    assert.equal(stub.requests[0]?.headers["accept-encoding"], "identity");
  });

  it("says nothing of a header that cannot be sent", async () => {
    const headers = { authorization: "Basic s3cret\n" };
    await assert.rejects(fetch("http://127.0.0.1:4/", { ...get, headers }), (error: Error) => {
      return /invalid character/i.test(error.message) && !error.message.includes("s3cret");
    });
  });
});

describe("isUntrusted()", () => {
  const codes: [string | undefined, boolean][] = [
    ["SELF_SIGNED_CERT_IN_CHAIN", true],
    ["DEPTH_ZERO_SELF_SIGNED_CERT", true],
    ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", true],
    ["UNABLE_TO_GET_ISSUER_CERT_LOCALLY", true],
    ["CERT_HAS_EXPIRED", false],
    ["ERR_TLS_CERT_ALTNAME_INVALID", false],
    ["ECONNRESET", false],
    [undefined, false],
  ];
  for (const [code, expected] of codes) {
    it(`is ${expected} of ${code}`, () => assert.equal(isUntrusted(code), expected));
  }
});
