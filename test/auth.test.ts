import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Keyring, parseReference } from "../figwasp.ts";
import { digestOf, openRegistry } from "./support/registry.ts";
import { serve } from "./support/serve.ts";

/** Each credential under the key of all images of a host. */
export function keyring(host: string, ...passwords: string[]): Keyring {
  const logins = passwords.map((password, at) => {
    return { key: host, credential: { basic: btoa(`user:${password}`) }, source: `Secret shop/pull-${at + 1}` };
  });
  return { sources: [logins], looked: ["no key of Secret shop/pull matches"] };
}

describe("a registry that asks for a password", () => {
  it("gets nothing before it asks, then every credential in its order", async (t) => {
    const right = `Basic ${btoa("user:right")}`;
    const stub = await serve(t, ({ headers }, response) => {
      const isIn = headers.authorization === right;
      if (!isIn) return void response.writeHead(401, { "www-authenticate": 'Basic realm="r"' }).end();
      response.writeHead(200, { "docker-content-digest": digestOf("v1") }).end();
    });
    const registry = await openRegistry(t);
    const reference = parseReference(`${stub.host}/app`);
    assert.equal(await registry.resolve(reference, keyring(stub.host, "wrong", "right")), digestOf("v1"));
    const sent = stub.requests.map(({ headers }) => headers.authorization);
    assert.deepEqual(sent, [undefined, `Basic ${btoa("user:wrong")}`, right]);
  });

  it("is told which credential was refused, and gets it once in a run", async (t) => {
    const challenge = { "www-authenticate": 'Basic realm="r"' };
    const stub = await serve(t, (_request, response) => void response.writeHead(401, challenge).end());
    const registry = await openRegistry(t);
    const resolve = (name: string) =>
      registry.resolve(parseReference(`${stub.host}/${name}`), keyring(stub.host, "wrong"));
    await assert.rejects(resolve("a"), {
      message: /401 Unauthorized, refused with key "[^"]+" of Secret shop\/pull-1$/,
    });
    await assert.rejects(resolve("b"), { message: /refused before with key/ });
    assert.equal(stub.requests.filter(({ headers }) => headers.authorization).length, 1);
  });
});

describe("a token server", () => {
  it("gets the credential where it is the registry's own, and the registry only the token", async (t) => {
    const stub = await serve(t, ({ path, headers }, response) => {
      if (path.startsWith("/token")) return void response.end(JSON.stringify({ token: "t0ken" }));
      if (headers.authorization === "Bearer t0ken") {
        return void response.writeHead(200, { "docker-content-digest": digestOf("v1") }).end();
      }
      response.writeHead(401, { "www-authenticate": 'Bearer realm="/token",service="s"' }).end();
    });
    const registry = await openRegistry(t);
    await registry.resolve(parseReference(`${stub.host}/app`), keyring(stub.host, "right"));
    const sent = stub.requests.map(({ headers }) => headers.authorization);
    assert.deepEqual(sent, [undefined, `Basic ${btoa("user:right")}`, "Bearer t0ken"]);
  });
});
