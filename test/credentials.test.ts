import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, it } from "node:test";
import { matchingKeys } from "../figwasp.ts";
import { parseDockerConfig } from "../lib/credentials/docker-config.ts";
import { credentialsFor } from "../lib/credentials/keyring.ts";
import { isForAnybody } from "../lib/credentials/keys.ts";

interface Row {
  keys: string[];
  image: string;
  tried: string[];
}

describe("matchingKeys()", async () => {
  // Expected results, produced by the kubelet's own keyring (k8s.io/kubernetes v1.34.3, pkg/credentialprovider).
  const rows = JSON.parse(await readFile(new URL("keyring.json", import.meta.url), "utf8")) as Row[];

  for (const { keys, image, tried } of rows) {
    it(`tries ${JSON.stringify(tried)} of ${JSON.stringify(keys)} for ${image}`, () => {
      assert.deepEqual(matchingKeys(keys, image), tried);
    });
  }

  it("has rows in both directions", () => {
    assert(rows.filter(({ tried }) => tried.length > 0).length >= 20);
    assert(rows.filter(({ tried }) => tried.length === 0).length >= 15);
  });
});

describe("credentialsFor()", () => {
  const login = (key: string, basic: string, source: string) => ({ key, credential: { basic }, source });

  it("matches the Secrets together and the mounted config by itself, and says where each comes from", () => {
    const secrets = [login("*.io", "a", "Secret shop/one"), login("reg.io/a", "b", "Secret shop/two")];
    const sources = [secrets, [login("reg.io", "c", "/docker/config.json")]];
    assert.deepEqual(credentialsFor({ sources, whyNoneUsable: [] }, "reg.io/a/b"), [
      { basic: "b", source: 'key "reg.io/a" of Secret shop/two' },
      { basic: "a", source: 'key "*.io" of Secret shop/one' },
      { basic: "c", source: 'key "reg.io" of /docker/config.json' },
    ]);
  });

  it("tells two identity tokens apart that registries give under one user name", () => {
    const basic = btoa("00000000-0000-0000-0000-000000000000:");
    const [one, other] = ["one", "other"].map((identityToken) => {
      return { key: "reg.io", credential: { basic, identityToken }, source: identityToken };
    });
    assert(one && other);
    assert.equal(credentialsFor({ sources: [[one, other, one]], whyNoneUsable: [] }, "reg.io/a").length, 2);
  });

  it("gives the same credential once, and passes over a key without one", () => {
    const empty = { key: "reg.io", credential: undefined, source: "z" };
    const sources = [[empty, login("reg.io", "a", "x"), login("reg.io/a", "a", "y")]];
    assert.deepEqual(
      credentialsFor({ sources, whyNoneUsable: [] }, "reg.io/a").map(({ source }) => source),
      ['key "reg.io/a" of y'],
    );
  });

  it("names a key without the password that is in it", () => {
    for (const key of ["https://user:s3cr3t@reg.io/a", "user:s3cr3t@reg.io/a", "https://u:s3cr/3t@x@reg.io/a?s3cr3t"]) {
      const [found] = credentialsFor(
        { sources: [[login(key, "a", "x"), login("reg.io", "b", "y")]], whyNoneUsable: [] },
        "reg.io/a",
      );
      assert(found && !/s3cr/.test(found.source));
      assert.throws(() => parseDockerConfig(Buffer.from(JSON.stringify({ auths: { [key]: { auth: "s3cr3t" } } }))), {
        message: 'its entry "…@reg.io/a" has an "auth" that is not the base64 of username:password',
      });
    }
  });

  it("does not give Docker Hub's credential to a host without a dot, as the kubelet would", () => {
    const sources = [[login("https://index.docker.io/v1/", "a", "x")]];
    assert.deepEqual(credentialsFor({ sources, whyNoneUsable: [] }, "localhost/app"), []);
    assert.equal(credentialsFor({ sources, whyNoneUsable: [] }, "docker.io/library/app").length, 1);
  });
});

describe("isForAnybody()", () => {
  const rows: [string, boolean][] = [
    ["*.io", true],
    ["https://*.io/v1/", true],
    ["*", true],
    ["*:5000", true],
    ["user@*.com", true],
    ["*.example.org", false],
    ["*.dkr.ecr.*.amazonaws.com", false],
    ["ghcr.io", false],
    ["ghcr.io/*", false],
  ];
  for (const [key, isSo] of rows)
    it(`${isSo ? "is" : "is not"} so for ${key}`, () => assert.equal(isForAnybody(key), isSo));
});
