import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseReference } from "../figwasp.ts";
import { parseRetryAfter } from "../lib/limits.ts";
import { digestOf, openRegistry } from "./support/registry.ts";
import { serve } from "./support/serve.ts";

describe("a host that answers 429", () => {
  it("is not asked again in the run, for whatever image", async (t) => {
    const stub = await serve(t, (_request, response) => void response.writeHead(429, { "retry-after": "60" }).end());
    const registry = await openRegistry(t);
    const message = /answered 429 Too Many Requests, to be asked again in 60 s; it is not asked again in this run$/;
    await assert.rejects(registry.resolve(parseReference(`${stub.host}/a`)), { message });
    await assert.rejects(registry.resolve(parseReference(`${stub.host}/b`)), { message });
    assert.deepEqual(stub.lines(), ["HEAD /v2/a/manifests/latest"]);
  });
});

describe("a host whose trouble may pass", () => {
  it("is asked three times at most", async (t) => {
    const answers = [500, 503, 200];
    const stub = await serve(t, (_request, response) => {
      response.writeHead(answers.shift() ?? 200, { "docker-content-digest": digestOf("v1") }).end();
    });
    assert.equal(await (await openRegistry(t)).resolve(parseReference(`${stub.host}/app`)), digestOf("v1"));
    assert.equal(stub.requests.length, 3);
  });
});

describe("parseRetryAfter()", () => {
  const now = new Date("2026-11-21T10:00:00Z");
  const rows: [string | null, number | undefined][] = [
    [null, undefined],
    ["0", 0],
    [" 120 ", 120],
    ["-1", undefined],
    ["1.5", undefined],
    ["soon", undefined],
    ["Sat, 21 Nov 2026 10:00:30 GMT", 30],
    ["Sat, 21 Nov 2026 09:00:00 GMT", 0],
    ["Sat, 99 Nov 2026 09:00:00 GMT", undefined],
    ["2026-11-21T10:00:30Z", undefined],
  ];
  for (const [text, seconds] of rows) {
    it(`reads ${JSON.stringify(text)}`, () => assert.equal(parseRetryAfter(text, now), seconds));
  }
});
