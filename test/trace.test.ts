import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Response } from "undici";
import { traced } from "../lib/http/trace.ts";

async function trace(url: string, headers: Record<string, string>, answer: () => Response): Promise<string> {
  const lines: string[] = [];
  const fetch = traced(
    async () => answer(),
    (line) => lines.push(line.replace(/ in \d+ ms/, " in 1 ms")),
  );
  await fetch(url, { method: "GET", headers }).catch(() => undefined);
  assert.equal(lines.length, 1);
  return lines[0] ?? "";
}

const ok = () => new Response("", { status: 200 });

describe("traced()", () => {
  it("tells what was asked and what came of it", async () => {
    const headers = { "www-authenticate": 'Bearer realm="https://r.example/token"', "x-more": "1" };
    const line = await trace("https://r.example/v2/app", {}, () => new Response("", { status: 401, headers }));
    const challenge = 'www-authenticate Bearer realm="https://r.example/token"';
    assert.equal(
      line,
      `  GET https://r.example/v2/app: 401 Unauthorized in 1 ms, ${challenge}, content-type text/plain;charset=UTF-8`,
    );
  });

  it("tells how it was asked, and never the credential", async () => {
    const line = await trace("https://r.example/token", { authorization: "Basic c2VjcmV0" }, ok);
    assert.match(line, /^ {2}GET https:\/\/r\.example\/token with Basic: 200 OK/);
    assert(!line.includes("c2VjcmV0"));
    const own = await trace("https://r.example/token", { Authorization: "c2VjcmV0 more" }, ok);
    assert.match(own, /token with a credential: 200 OK/);
  });

  it("tells of a query what may be read", async () => {
    const line = await trace("https://r.example/token?scope=repository:a:pull&sig=c2VjcmV0&continue=", {}, ok);
    assert.match(line, /token\?scope=repository:a:pull&sig=…: 200/);
  });

  it("tells where it was led, without what was signed", async () => {
    const headers = { location: "https://cdn.example/blob?sig=c2VjcmV0" };
    const line = await trace("https://r.example/blob", {}, () => new Response(null, { status: 307, headers }));
    assert.match(line, /307 Temporary Redirect in 1 ms, location https:\/\/cdn\.example\/blob\?…$/);
  });

  it("tells what went wrong", async () => {
    const line = await trace("https://r.example/", {}, () => {
      throw new TypeError("fetch failed", { cause: new Error("connect ECONNREFUSED") });
    });
    assert.equal(line, "  GET https://r.example/: connect ECONNREFUSED in 1 ms");
  });

  it("keeps to one line", async () => {
    const headers = { warning: '299 - "a\u0085b"' };
    assert(!(await trace("https://r.example/", {}, () => new Response("", { headers }))).includes("\u0085"));
  });
});
