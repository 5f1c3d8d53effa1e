import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Ending, heard, leaksOf, plant, plantText, type Witness, witnessOf } from "./support/leaks.ts";
import type { Stub } from "./support/serve.ts";

/** A stand-in for a test, with a way to run its `after` hooks and await them. */
function aTest(): { t: Ending; end: () => Promise<void> } {
  const hooks: (() => unknown)[] = [];
  const t = { after: (hook: () => unknown) => void hooks.push(hook) } as unknown as Ending;
  return {
    t,
    end: async () => {
      for (const hook of hooks) await hook();
    },
  };
}

function aStub(name: string, request: Partial<Stub["requests"][number]>): Stub {
  const requests = [{ method: "GET", path: "/", headers: {}, body: "", client: undefined, ...request }];
  return { host: name, name, requests, lines: () => [], connections: () => 0 };
}

describe("the search for planted credentials", () => {
  const { t } = aTest();
  const login = plant(t, { user: "robot$x" });
  const { basic } = login.credential;
  const spellings: [string, string][] = [
    ["as it is", login.password],
    ["in base64", Buffer.from(login.password).toString("base64")],
    ["in base64 without padding", Buffer.from(login.password).toString("base64").replace(/=+$/, "")],
    ["in base64 with its user", basic],
    ["in base64 with its user, without padding", basic.replace(/=+$/, "")],
    ["in the base64 of URLs", Buffer.from(`robot$x:${login.password}`).toString("base64url")],
    ["in a URL", encodeURIComponent(login.password)],
    ["in a form", new URLSearchParams({ a: login.password }).toString()],
    ["in JSON", JSON.stringify({ a: login.password })],
    ["as bytes of a header", Buffer.from(login.password).toString("latin1")],
    ["cut at its end", `${basic.slice(0, 40)}…`],
    ["cut at its beginning", `…${encodeURIComponent(login.password).slice(20)}`],
  ];
  const search = (found: Partial<Witness>) => leaksOf({ ...witnessOf(t), ...found });

  for (const [how, spelling] of spellings) {
    it(`finds one in what figwasp said, ${how}`, () => {
      assert.equal(search({ said: [() => ["nothing", `Cannot use ${spelling}, see there`]] }).length, 1);
    });

    it(`finds one in a request, ${how}`, () => {
      for (const request of [
        { path: `/?a=${spelling}` },
        { headers: { a: `Basic ${spelling}` } },
        { body: spelling },
      ]) {
        assert.deepEqual(search({ stubs: [aStub("evil.test", request)] }).length, 1);
      }
    });
  }

  it("finds none where there is none, and in requests to who may see it", () => {
    const { t: another } = aTest();
    const seen = plantText(another, login.password, "registry.example");
    const stubs = [aStub("registry.example", { body: login.password }), aStub("evil.test", { body: "nothing" })];
    assert.deepEqual(leaksOf({ said: [() => ["a", ""]], stubs, planted: [seen], endings: [] }), []);
  });

  it("fails the test, after it has put away what the test had", async () => {
    const { t: leaking, end } = aTest();
    let isPutAway = false;
    witnessOf(leaking).endings.push(() => (isPutAway = true));
    heard(leaking, `so it is ${plant(leaking).password}`);
    await assert.rejects(end(), { name: "AssertionError" });
    assert(isPutAway);
  });

  it("does not fail a test without a leak", async () => {
    const { t: tight, end } = aTest();
    heard(tight, plant(tight).user);
    await end();
  });
});
