import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { lookUp, type Lookup, type Meaning, parseReference, type Running } from "../figwasp.ts";
import type { Digest } from "../lib/registry/manifest.ts";
import type { Reference } from "../lib/registry/reference.ts";
import type { Registry } from "../lib/registry/registry.ts";
import { behind, giving, refusing, routes } from "./support/doors.ts";
import { keyringOf, plant, plantToken } from "./support/leaks.ts";
import {
  callIt,
  digestOf,
  imageOf,
  imageWith,
  indexOf,
  indexOver,
  noKeys,
  openRegistry,
  serveRegistry,
  sha256,
  type StoredManifest,
  types,
} from "./support/registry.ts";
import { type Answer, serve } from "./support/serve.ts";

const look = (registry: Registry, image: string, pods: Running[]) => {
  return lookUp(registry, image, { running: pods, keyring: noKeys });
};
const running = (word: string): Running => ({ kind: "digest", digest: digestOf(word), isImageId: false });

describe("Registry.resolve()", () => {
  it("asks with one HEAD, naming all four manifest types in one Accept", async (t) => {
    const stub = await serveRegistry(t);
    stub.manifests.set("latest", imageOf("v1"));
    const registry = await openRegistry(t);

    assert.equal(await registry.resolve(stub.reference("latest")), sha256(imageOf("v1").body));
    assert.deepEqual(stub.lines(), ["HEAD /v2/app/manifests/latest"]);
    const accept = stub.requests[0]?.headers.accept?.split(", ");
    assert.deepEqual(accept, [
      "application/vnd.oci.image.index.v1+json",
      "application/vnd.docker.distribution.manifest.list.v2+json",
      "application/vnd.oci.image.manifest.v1+json",
      "application/vnd.docker.distribution.manifest.v2+json",
    ]);
    assert.match(stub.requests[0]?.headers["user-agent"] ?? "", /^figwasp\/\d/);
  });

  it("asks once for a reference, however many ask at once", async (t) => {
    const stub = await serveRegistry(t);
    stub.manifests.set("latest", imageOf("v1"));
    const registry = await openRegistry(t);
    await Promise.all([1, 2, 3].map(() => registry.resolve(stub.reference("latest"))));
    assert.equal(stub.requests.length, 1);
  });

  it("hashes the body where the registry sends no digest header", async (t) => {
    const stub = await serveRegistry(t, { withoutDigest: ["HEAD", "GET"] });
    stub.manifests.set("latest", imageOf("v1"));
    assert.equal(await (await openRegistry(t)).resolve(stub.reference("latest")), sha256(imageOf("v1").body));
    assert.deepEqual(stub.lines(), ["HEAD /v2/app/manifests/latest", "GET /v2/app/manifests/latest"]);
    const [head, get] = stub.requests.map(({ headers }) => headers.accept);
    assert.equal(get, head);
  });

  it("hashes the bytes of a GET, whatever digest stands beside them", async (t) => {
    const { type, body } = imageOf("v1");
    const spaced = `${body}\n `;
    const stub = await serve(t, ({ method }, response) => {
      if (method === "HEAD") return void response.writeHead(200, { "content-type": type }).end();
      response.writeHead(200, { "content-type": type, "docker-content-digest": digestOf("wrong") }).end(spaced);
    });
    assert.equal(await (await openRegistry(t)).resolve(parseReference(`${stub.host}/app`)), sha256(spaced));
  });

  for (const status of [403, 404, 405]) {
    it(`asks with a GET where a HEAD is answered with ${status}`, async (t) => {
      const { type, body } = imageOf("v1");
      const stub = await serve(t, ({ method }, response) => {
        if (method === "HEAD") return void response.writeHead(status).end();
        response.writeHead(200, { "content-type": type }).end(body);
      });
      assert.equal(await (await openRegistry(t)).resolve(parseReference(`${stub.host}/app`)), sha256(body));
      assert.deepEqual(stub.lines(), ["HEAD /v2/app/manifests/latest", "GET /v2/app/manifests/latest"]);
    });
  }

  it("waits for no body after a HEAD that tells its length", async (t) => {
    const stub = await serve(t, (_request, response) => {
      response.writeHead(200, { "docker-content-digest": digestOf("v1"), "content-length": 4096 }).end();
    });
    const registry = await openRegistry(t);
    for (const tag of ["one", "two", "three"]) {
      assert.equal(await registry.resolve(parseReference(`${stub.host}/app:${tag}`)), digestOf("v1"));
    }
    assert.deepEqual(
      stub.requests.map(({ method }) => method),
      ["HEAD", "HEAD", "HEAD"],
    );
  });

  it("takes a content type with parameters", async (t) => {
    const stub = await serve(t, (_request, response) => {
      const type = `${types.index}; charset=utf-8`;
      response.writeHead(200, { "docker-content-digest": digestOf("v1"), "content-type": type }).end();
    });
    assert.equal(await (await openRegistry(t)).resolve(parseReference(`${stub.host}/app`)), digestOf("v1"));
  });

  const refusals: [string, number, Record<string, string>, RegExp][] = [
    ["a server error", 501, {}, /^HEAD http:\/\/127.0.0.1:\d+\/v2\/app\/manifests\/x returned 501 Not Implemented$/],
    ["a challenge that cannot be read", 401, { "www-authenticate": 'Bearer realm="r' }, /Cannot parse the challenge/],
    [
      "a digest of another algorithm",
      200,
      { "docker-content-digest": "sha512:abc" },
      /the digest "sha512:abc", a sha256/,
    ],
    [
      "a digest of another algorithm, in full",
      200,
      { "docker-content-digest": `sha512:${"0123456789abcdef".repeat(8)}` },
      /the digest "sha512:[0-9a-f]{128}", a sha256/,
    ],
    [
      "a digest in upper case",
      200,
      { "docker-content-digest": `sha256:${"0123456789ABCDEF".repeat(4)}` },
      /the digest "sha256:[0-9A-F]{64}", a sha256/,
    ],
    [
      "a schema-1 manifest",
      200,
      { "content-type": "application/vnd.docker.distribution.manifest.v1+prettyjws" },
      /outdated type "application\/vnd.docker.distribution.manifest.v1\+prettyjws"/,
    ],
    [
      "a schema-1 manifest, by a type with parameters",
      200,
      { "content-type": "application/vnd.docker.distribution.manifest.v1+json; charset=utf-8" },
      /outdated type "application\/vnd.docker.distribution.manifest.v1\+json; charset=utf-8"/,
    ],
  ];
  for (const [what, status, headers, message] of refusals) {
    it(`says what was asked and answered: ${what}`, async (t) => {
      const stub = await serve(t, (_request, response) => void response.writeHead(status, headers).end());
      const registry = await openRegistry(t);
      await assert.rejects(registry.resolve(parseReference(`${stub.host}/app:x`)), { message });
      assert.equal(stub.requests.length, 1);
    });
  }

  it("names the address where nothing listens", async (t) => {
    const registry = await openRegistry(t);
    // Nothing listens on port 4 of loopback, and fetch does not refuse this port.
    const message = /^HEAD http:\/\/127.0.0.1:4\/v2\/app\/manifests\/x failed: connect ECONNREFUSED 127.0.0.1:4$/;
    await assert.rejects(registry.resolve(parseReference("127.0.0.1:4/app:x")), { message });
  });

  it("gives up at the deadline of the request", async (t) => {
    const stub = await serve(t, () => {});
    const registry = await openRegistry(t, { timeoutMs: 50 });
    const message = /gave no answer within 0.05 s$/;
    await assert.rejects(registry.resolve(parseReference(`${stub.host}/app:x`)), { message });
  });

  it("gives up when the run ends, and says why", async (t) => {
    const run = new AbortController();
    const stub = await serve(t, () => run.abort(new Error("SIGTERM was received")));
    const registry = await openRegistry(t, { signal: run.signal });
    const message = /was ended: SIGTERM was received$/;
    await assert.rejects(registry.resolve(parseReference(`${stub.host}/app:x`)), { message });
  });

  it("follows a redirect", async (t) => {
    const target = await serveRegistry(t);
    target.manifests.set("latest", imageOf("v1"));
    const stub = await serve(t, ({ path }, response) => {
      response.writeHead(307, { location: `http://${target.host}${path}` }).end();
    });
    const digest = await (await openRegistry(t)).resolve(parseReference(`${stub.host}/app`));
    assert.equal(digest, sha256(imageOf("v1").body));
  });

  it("ends a chain of redirects", async (t) => {
    const stub = await serve(t, ({ path }, response) => void response.writeHead(307, { location: path }).end());
    const message = /was redirected more than 5 times$/;
    await assert.rejects((await openRegistry(t)).resolve(parseReference(`${stub.host}/app`)), { message });
    assert.equal(stub.requests.length, 6);
  });
});

describe("Registry and its hosts folder", () => {
  const image = parseReference("registry.example:5000/app:latest");

  async function askedAt(t: it.TestContext, files: (host: string) => Record<string, string>, reference: Reference) {
    const stub = await serveRegistry(t);
    stub.manifests.set("latest", imageOf("v1"));
    const registry = await openRegistry(t, { files: files(stub.host) });
    assert.equal(await registry.resolve(reference), sha256(imageOf("v1").body));
    return stub.requests.map(({ path }) => path);
  }

  it("asks the server of hosts.toml, and says which registry is meant", async (t) => {
    const files = (host: string) => ({ "registry.example:5000/hosts.toml": `server = "http://${host}"` });
    assert.deepEqual(await askedAt(t, files, image), ["/v2/app/manifests/latest?ns=registry.example%3A5000"]);
  });

  it("finds the folder with the port written as containerd does where a colon cannot stand", async (t) => {
    const files = (host: string) => ({ "registry.example_5000_/hosts.toml": `[host."http://${host}/v2/"]` });
    assert.deepEqual(await askedAt(t, files, image), ["/v2/app/manifests/latest?ns=registry.example%3A5000"]);
  });

  it("takes _default for every registry without a folder", async (t) => {
    const files = (host: string) => ({ "_default/hosts.toml": `[host."http://${host}"]` });
    assert.equal((await askedAt(t, files, image)).length, 1);
  });

  it("asks the hosts in their order, and the server last", async (t) => {
    const empty = await serveRegistry(t);
    const files = (host: string) => ({
      "registry.example:5000/hosts.toml": `server = "http://${host}"\n[host."http://${empty.host}"]`,
    });
    assert.equal((await askedAt(t, files, image)).length, 1);
    assert.equal(empty.requests.length, 1);
  });

  it("leaves out a host that may not resolve tags", async (t) => {
    const files = (host: string) => ({
      "registry.example:5000/hosts.toml": `server = "http://${host}"\n[host."http://127.0.0.1:4"]\ncapabilities = ["pull"]`,
    });
    assert.equal((await askedAt(t, files, image)).length, 1);
  });

  it("takes the whole path with override_path", async (t) => {
    const stub = await serve(t, (_request, response) => {
      response.writeHead(200, { "docker-content-digest": digestOf("v1") }).end();
    });
    const files = { "registry.example:5000/hosts.toml": `[host."http://${stub.host}/proxy/x"]\noverride_path = true` };
    await (await openRegistry(t, { files })).resolve(image);
    assert.deepEqual(stub.lines(), ["HEAD /proxy/x/app/manifests/latest"]);
  });

  it("reports every host that was asked in vain", async (t) => {
    const hosts = `server = "http://127.0.0.1:4"\n[host."http://127.0.0.1:5"]`;
    const registry = await openRegistry(t, { files: { "registry.example:5000/hosts.toml": hosts } });
    const message = /^HEAD http:\/\/127.0.0.1:5\/.*ECONNREFUSED.*; HEAD http:\/\/127.0.0.1:4\/.*ECONNREFUSED/;
    await assert.rejects(registry.resolve(image), { message });
  });

  const unusable: [string, string, RegExp][] = [
    ["is no TOML", "server =", /Cannot use .*hosts.toml: /],
    [
      "has a key that figwasp does not know",
      `[host."http://h"]\nrewrite = "a"`,
      /hosts.toml: "rewrite" is not a key of/,
    ],
    ["has such a key for the registry itself", `rewrite = "a"`, /hosts.toml: "rewrite" is not a key of/],
    ["names a CA that is not there", `ca = "ca.crt"`, /hosts.toml: ENOENT: .*ca.crt/],
    [
      "lets no host resolve tags",
      `server = "http://h"\ncapabilities = ["pull"]`,
      /no host in its hosts.toml may resolve/,
    ],
    ["has an address that is none", `server = "http://"`, /hosts.toml: "http:\/\/" is not an address/],
    ["has no table of hosts", `host = 1`, /hosts.toml: "host" is not a table/],
  ];
  for (const [what, toml, message] of unusable) {
    it(`names the file that ${what}`, async (t) => {
      const registry = await openRegistry(t, { files: { "registry.example:5000/hosts.toml": toml } });
      await assert.rejects(registry.resolve(image), { message });
    });
  }

  // The error shows which URL was requested: nothing answers at these names or at port 4.
  const schemes: [string, string][] = [
    ["127.0.0.1:4/app", "http://127.0.0.1:4/v2/app"],
    ["127.8.8.8:4/app", "http://127.8.8.8:4/v2/app"],
    ["localhost:4/app", "http://localhost:4/v2/app"],
    ["a.localhost:4/app", "http://a.localhost:4/v2/app"],
    ["[::1]:4/app", "http://[::1]:4/v2/app"],
    ["localhost/app", "https://localhost/v2/app"],
    ["localhost:443/app", "https://localhost:443/v2/app"],
    ["127.0.0.1/app", "https://127.0.0.1/v2/app"],
    ["[2001:db8::1]:4/app", "https://[2001:db8::1]:4/v2/app"],
    ["my127.0.0.1registry.test:4/app", "https://my127.0.0.1registry.test:4/v2/app"],
    ["127.0.0.1.evil.test:4/app", "https://127.0.0.1.evil.test:4/v2/app"],
    ["localhost.evil.test:4/app", "https://localhost.evil.test:4/v2/app"],
    ["evil-localhost:4/app", "https://evil-localhost:4/v2/app"],
    ["registry.local:4/app", "https://registry.local:4/v2/app"],
    ["10.0.0.1:4/app", "https://10.0.0.1:4/v2/app"],
    ["nginx", "https://registry-1.docker.io/v2/library/nginx"],
    ["index.docker.io/a/b", "https://registry-1.docker.io/v2/a/b"],
  ];
  for (const [name, base] of schemes) {
    it(`asks for ${name} at ${base}`, async (t) => {
      const asked: string[] = [];
      const registry = await openRegistry(t, {
        fetch: async (url) => {
          asked.push(url);
          throw new Error("not asked for real");
        },
      });
      await assert.rejects(registry.resolve(parseReference(name)));
      assert.deepEqual(asked, [`${base}/manifests/latest`]);
    });
  }
});

describe("lookUp()", () => {
  /** A lookup of a tag that resolves to this digest, and what the others are. */
  const resolved = (digest: Digest, others: [Digest, Meaning["kind"]][] = []) => {
    const meanings = new Map([
      [digest, { kind: "same" }],
      ...others.map(([other, kind]) => [other, { kind }] as const),
    ]);
    return { kind: "resolved", digest, meanings, credential: undefined };
  };
  const meaningsOf = (lookup: Lookup) => {
    assert(lookup.kind === "resolved");
    return new Map([...lookup.meanings].map(([digest, { kind }]) => [digest, kind]));
  };

  it("does not look into the index when every pod runs the tag's digest", async (t) => {
    const stub = await serveRegistry(t);
    const index = stub.put("latest", indexOver(digestOf("amd64")));
    const pods: Running[] = [
      { kind: "digest", digest: index, isImageId: false },
      { kind: "unreadable", reason: "has not started" },
    ];
    const lookup = await look(await openRegistry(t), stub.image("latest"), pods);
    assert.deepEqual(lookup, resolved(index));
    assert.deepEqual(stub.lines(), ["HEAD /v2/app/manifests/latest"]);
  });

  it("gets the index, by its digest, when a pod runs one of its children", async (t) => {
    const stub = await serveRegistry(t);
    const index = stub.put("latest", indexOver(digestOf("amd64"), digestOf("arm64")));
    const lookup = await look(await openRegistry(t), stub.image("latest"), [running("amd64")]);
    assert.deepEqual(
      lookup,
      resolved(index, [
        [digestOf("amd64"), "same"],
        [digestOf("arm64"), "same"],
      ]),
    );
    assert.deepEqual(stub.lines(), ["HEAD /v2/app/manifests/latest", `GET /v2/app/manifests/${index}`]);
  });

  it("finds a running digest absent that the repository does not have", async (t) => {
    const stub = await serveRegistry(t);
    const digest = stub.put("latest", imageOf("v2"));
    const lookup = await look(await openRegistry(t), stub.image("latest"), [running("gone"), running("gone")]);
    assert.deepEqual(lookup, resolved(digest, [[digestOf("gone"), "absent"]]));
    assert.equal(stub.requests.length, 3);
  });

  // Each row: what the pods run, what the tag points to now, and whether it is the same image.
  const amd = { os: "linux", architecture: "amd64" };
  const arm = { os: "linux", architecture: "arm64" };
  const attestation = { os: "unknown", architecture: "unknown" };
  type Put = (stored: StoredManifest) => Digest;
  const pairs: [string, (put: Put) => StoredManifest, (put: Put) => StoredManifest, boolean][] = [
    [
      "another spelling of its platform",
      (put) => indexOf([put(imageOf("a")), arm]),
      (put) => indexOf([put(imageOf("a")), { ...arm, variant: "v8" }], [put(imageOf("b")), amd]),
      true,
    ],
    [
      "the images of two platforms exchanged",
      (put) => indexOf([put(imageOf("a")), amd], [put(imageOf("b")), arm]),
      (put) => indexOf([put(imageOf("b")), amd], [put(imageOf("a")), arm]),
      false,
    ],
    [
      "another attestation",
      (put) => indexOf([put(imageOf("a")), amd], [put(imageOf("x")), attestation]),
      (put) => indexOf([put(imageOf("a")), amd], [put(imageOf("y")), attestation]),
      true,
    ],
    [
      "another platform added",
      (put) => indexOf([put(imageOf("a")), amd]),
      (put) => indexOf([put(imageOf("a")), amd], [put(imageOf("b")), arm]),
      true,
    ],
    [
      "another image of one platform",
      (put) => indexOf([put(imageOf("a")), amd], [put(imageOf("b")), arm]),
      (put) => indexOf([put(imageOf("a")), amd], [put(imageOf("c")), arm]),
      false,
    ],
    [
      "a platform removed",
      (put) => indexOf([put(imageOf("a")), amd], [put(imageOf("b")), arm]),
      (put) => indexOf([put(imageOf("a")), amd]),
      true, // no node can get anything else
    ],
    ["another manifest of the same config", () => imageOf("a", "note 1"), () => imageOf("a", "note 2"), true],
    ["another config", () => imageOf("a"), () => imageOf("b"), false],
    [
      "an index over what was a single image",
      () => imageOf("a", "note 1"),
      (put) => indexOf([put(imageOf("b")), arm], [put(imageOf("a")), amd]),
      true,
    ],
    [
      "a single image of what was an index",
      (put) => indexOf([put(imageOf("a")), amd]),
      () => imageOf("a", "note 1"),
      true,
    ],
    ["an index of nothing", () => indexOf([digestOf("x"), attestation]), () => imageOf("a"), false],
  ];
  for (const [what, old, fresh, isSame] of pairs) {
    it(`finds ${isSame ? "the same" : "other"} content: ${what}`, async (t) => {
      const stub = await serveRegistry(t);
      const was = stub.put(
        "was",
        old((stored) => stub.put(sha256(stored.body), stored)),
      );
      stub.put(
        "latest",
        fresh((stored) => stub.put(sha256(stored.body), stored)),
      );
      const lookup = await look(await openRegistry(t), stub.image("latest"), [
        { kind: "digest", digest: was, isImageId: false },
      ]);
      assert.equal(meaningsOf(lookup).get(was) === "equivalent", isSame);
      assert.equal(stub.lines().filter((line) => line.startsWith("HEAD")).length, 1);
      assert.equal(new Set(stub.lines()).size, stub.requests.length, "no manifest is read twice");
    });
  }

  it("finds other content, not a failure, where an image of an index is not there to compare", async (t) => {
    const stub = await serveRegistry(t);
    const was = stub.put("was", indexOf([digestOf("gone"), amd]));
    stub.put("latest", indexOf([stub.put("new", imageOf("b")), amd], [digestOf("lost"), arm]));
    const lookup = await look(await openRegistry(t), stub.image("latest"), [
      { kind: "digest", digest: was, isImageId: false },
      { kind: "digest", digest: digestOf("id"), isImageId: true },
    ]);
    const meanings = meaningsOf(lookup);
    assert.deepEqual([meanings.get(was), meanings.get(digestOf("id"))], ["other", "incomparable"]);
  });

  it("believes the registry, not its mirror, that a digest is not there", async (t) => {
    const stub = await serveRegistry(t);
    const digest = stub.put("latest", imageOf("v2"));
    const mirror = await serve(t, (_request, response) => void response.writeHead(500).end());
    const toml = `server = "http://${stub.host}"\n[host."http://${mirror.host}"]`;
    const registry = await openRegistry(t, { files: { "registry.example:5000/hosts.toml": toml } });
    const lookup = await look(registry, "registry.example:5000/app", [running("old")]);
    assert.deepEqual(lookup, resolved(digest, [[digestOf("old"), "absent"]]));
  });

  it("fails where the tag's manifest vanishes between the two questions", async (t) => {
    const stub = await serve(t, ({ method }, response) => {
      const headers = { "docker-content-digest": digestOf("v2") };
      response.writeHead(method === "HEAD" ? 200 : 404, headers).end();
    });
    const lookup = await look(await openRegistry(t), `${stub.host}/app`, [running("old")]);
    assert(lookup.kind === "failed");
    assert.match(lookup.error.message, /the repository no longer has sha256:\w+$/);
  });

  it("reads a manifest once, whichever tag of the repository it explains", async (t) => {
    const stub = await serveRegistry(t);
    const was = stub.put("was", imageOf("a"));
    for (const tag of ["one", "two"]) stub.put(tag, imageOf("b"));
    const registry = await openRegistry(t);
    for (const tag of ["one", "two"])
      await look(registry, stub.image(tag), [{ kind: "digest", digest: was, isImageId: false }]);
    assert.equal(stub.lines().filter((line) => line === `GET /v2/app/manifests/${was}`).length, 1);
    assert.equal(new Set(stub.lines()).size, stub.requests.length);
  });

  it("reads the configs of the tag's images for a running image ID", async (t) => {
    const stub = await serveRegistry(t);
    const child = stub.put("amd", imageOf("a"));
    stub.put("latest", indexOf([child, amd], [digestOf("x"), attestation]));
    const pods: Running[] = ["a", "b"].map((id) => ({ kind: "digest", digest: digestOf(id), isImageId: true }));
    const lookup = await look(await openRegistry(t), stub.image("latest"), pods);
    const meanings = meaningsOf(lookup);
    assert.deepEqual([meanings.get(digestOf("a")), meanings.get(digestOf("b"))], ["same", "other"]);
  });

  it("does not know the configs of a manifest without one", async (t) => {
    const stub = await serveRegistry(t);
    stub.put("latest", { body: "{}", type: types.manifest });
    const lookup = await look(await openRegistry(t), stub.image("latest"), [
      { kind: "digest", digest: digestOf("a"), isImageId: true },
    ]);
    assert.equal(meaningsOf(lookup).get(digestOf("a")), "incomparable");
  });

  it("fails, rather than guess, where a manifest cannot be had for another reason than absence", async (t) => {
    const stub = await serve(t, ({ method, path }, response) => {
      if (method === "HEAD") return void response.writeHead(200, { "docker-content-digest": sha256("{}") }).end();
      if (path.endsWith(sha256("{}"))) return void response.end("{}");
      response.writeHead(500).end();
    });
    const lookup = await look(await openRegistry(t), `${stub.host}/app`, [running("old"), running("older")]);
    assert(lookup.kind === "resolved");
    const [old, older] = ["old", "older"].map((word) => lookup.meanings.get(digestOf(word)));
    assert(old?.kind === "failed" && older?.kind === "failed");
    assert.match(old.error.message, /^Cannot resolve "[^"]+": .*returned 500 Internal Server Error$/);
  });

  const unreadable: [string, (text: string) => string, RegExp][] = [
    ["other bytes than the digest's", (text) => `${text} `, /the registry gave other bytes for sha256:/],
    ["no end of bytes", () => "x".repeat(5 * 1024 * 1024), /is longer than 4194304 bytes/],
  ];
  for (const [what, change, message] of unreadable) {
    it(`fails where the registry answers ${what}`, async (t) => {
      const { body } = indexOver(digestOf("amd64"));
      const stub = await serve(t, ({ method }, response) => {
        response.writeHead(200, { "docker-content-digest": sha256(body), "content-type": types.index });
        response.end(method === "HEAD" ? undefined : change(body));
      });
      const lookup = await look(await openRegistry(t), `${stub.host}/app`, [running("old")]);
      assert(lookup.kind === "failed");
      assert.match(lookup.error.message, /^Cannot resolve "127.0.0.1:\d+\/app": /);
      assert.match(lookup.error.message, message);
    });
  }

  for (const body of [`{"manifests":[{"digest":"x"}]}`, `{"manifests":1}`]) {
    it(`does not know an index that is ${body}`, async (t) => {
      const stub = await serveRegistry(t);
      stub.manifests.set("latest", { body, type: types.index });
      const lookup = await look(await openRegistry(t), stub.image("latest"), [running("old")]);
      assert(lookup.kind === "unknown");
      assert.match(lookup.reason, /^Cannot resolve .*: the index sha256:\w+ has children without digests$/);
    });
  }

  it("finds partial an older index of which one platform's image has changed", async (t) => {
    const stub = await serveRegistry(t);
    const same = stub.put("same", imageOf("a"));
    const was = stub.put("was", indexOf([same, amd], [stub.put("old", imageOf("b")), arm]));
    stub.put("latest", indexOf([same, amd], [stub.put("new", imageOf("c")), arm]));
    const other = stub.put("other", indexOf([stub.put("x", imageOf("x")), amd]));
    const pods = [was, other].map((digest): Running => ({ kind: "digest", digest, isImageId: false }));
    const lookup = await look(await openRegistry(t), stub.image("latest"), pods);
    const meanings = meaningsOf(lookup);
    assert.deepEqual([meanings.get(was), meanings.get(other)], ["partial", "other"]);
  });

  for (const isFirst of [true, false]) {
    it(`finds partial, after a restart, what shares the config of its ${isFirst ? "first" : "last"} image alone`, async (t) => {
      const stub = await serveRegistry(t);
      const shared = stub.put("shared", imageOf("a", "note 1"));
      const old = [[shared, amd] as const, [stub.put("old", imageOf("b")), arm] as const];
      const was = stub.put("was", indexOf(...((isFirst ? old : old.toReversed()) as [Digest, object][])));
      const fresh = stub.put("fresh", imageOf("a", "note 2"));
      const digest = stub.put("latest", indexOf([fresh, amd], [stub.put("new", imageOf("c")), arm]));
      const pods: Running[] = [{ kind: "digest", digest: was, isImageId: false }];
      const registry = await openRegistry(t);
      const meaningAfter = async (...digests: Digest[]) => {
        const options = { running: pods, restartedFor: digests[0], keyring: noKeys };
        return meaningsOf(await lookUp(registry, stub.image("latest"), options)).get(was);
      };
      assert.equal(await meaningAfter(digest), "partial");
      // Before a restart the two mean the same, and no further configs are read to tell them apart.
      assert.equal(await meaningAfter(digestOf("another")), "other");
    });
  }

  it("reads two images of each index at most where no restart was made and the first platform differs", async (t) => {
    const stub = await serveRegistry(t);
    const indexOf4 = (word: string) => {
      const platforms = ["amd64", "arm64", "ppc64le", "s390x"];
      return indexOf(
        ...platforms.map((architecture): [Digest, object] => {
          return [
            stub.put(`${word}-${architecture}`, imageOf(`${word}-${architecture}`)),
            { os: "linux", architecture },
          ];
        }),
      );
    };
    const was = stub.put("was", indexOf4("old"));
    stub.put("latest", indexOf4("new"));
    const pods: Running[] = [{ kind: "digest", digest: was, isImageId: false }];
    assert.equal(meaningsOf(await look(await openRegistry(t), stub.image("latest"), pods)).get(was), "other");
    assert.equal(stub.requests.length, 5, "HEAD, the two indexes, and the first image of each");
  });

  it("tells that it cannot be read where what runs is of a type that cannot be read any more", async (t) => {
    const stub = await serveRegistry(t);
    const old = stub.put("old", { body: "{}", type: "application/vnd.docker.distribution.manifest.v1+prettyjws" });
    stub.put("latest", imageOf("b"));
    const lookup = await look(await openRegistry(t), stub.image("latest"), [
      { kind: "digest", digest: old, isImageId: false },
    ]);
    assert.equal(meaningsOf(lookup).get(old), "unreadable");
  });

  it("fails for a running image ID that neither configs nor the registry explain", async (t) => {
    const index = indexOf([digestOf("gone"), amd]);
    const gone = refusing(404);
    const stub = await serve(t, (request, response) => {
      const { method, path } = request;
      if (path.endsWith(digestOf("gone"))) return void gone(request, response);
      if (path.endsWith(digestOf("id"))) return void refusing(400)(request, response);
      response.writeHead(200, { "docker-content-digest": sha256(index.body), "content-type": index.type });
      response.end(method === "HEAD" ? undefined : index.body);
    });
    const lookup = await look(await openRegistry(t), `${stub.host}/app`, [
      { kind: "digest", digest: digestOf("id"), isImageId: true },
    ]);
    assert.equal(meaningsOf(lookup).get(digestOf("id")), "failed");
  });

  it("fails for a running image ID that is no config, and of which the registry says nothing", async (t) => {
    const image = imageOf("new");
    const stub = await serve(t, ({ method, path }, response) => {
      if (!path.endsWith("latest") && !path.endsWith(sha256(image.body))) return void response.writeHead(500).end();
      response.writeHead(200, { "docker-content-digest": sha256(image.body), "content-type": image.type });
      response.end(method === "HEAD" ? undefined : image.body);
    });
    const pods: Running[] = [{ kind: "digest", digest: digestOf("id"), isImageId: true }];
    const lookup = await look(await openRegistry(t), `${stub.host}/app`, pods);
    assert.equal(meaningsOf(lookup).get(digestOf("id")), "failed");
  });

  it("takes a digest that one pod reports with its repository for a manifest's, whatever another pod reports", async (t) => {
    const stub = await serveRegistry(t);
    stub.put("latest", { body: "{}", type: types.manifest }); // without a config to compare with
    const reported = [true, false].map((isImageId): Running => ({
      kind: "digest",
      digest: digestOf("old"),
      isImageId,
    }));
    for (const pods of [reported, reported.toReversed()]) {
      const lookup = await look(await openRegistry(t), stub.image("latest"), pods);
      assert.equal(meaningsOf(lookup).get(digestOf("old")), "absent");
    }
  });

  it("does not know an index of which an image is of such a type", async (t) => {
    const stub = await serveRegistry(t);
    const old = stub.put("old", { body: "{}", type: "application/vnd.docker.distribution.manifest.v1+prettyjws" });
    stub.put("latest", indexOf([old, amd]));
    const was = stub.put("was", indexOf([stub.put("a", imageOf("a")), amd]));
    const lookup = await look(await openRegistry(t), stub.image("latest"), [
      { kind: "digest", digest: was, isImageId: false },
    ]);
    assert.equal(lookup.kind, "unknown");
  });

  it("does not know a tag of such a type, and asks no further host about it", async (t) => {
    const type = "application/vnd.docker.distribution.manifest.v1+json";
    const [mirror, registry] = await Promise.all([serveRegistry(t), serveRegistry(t)]);
    for (const stub of [mirror, registry]) stub.put("latest", { body: "{}", type });
    const toml = `server = "http://${registry.host}"\n[host."http://${mirror.host}"]`;
    const opened = await openRegistry(t, { files: { "registry.example/hosts.toml": toml } });
    const lookup = await look(opened, "registry.example/app", [running("old")]);
    assert(lookup.kind === "unknown");
    assert.match(lookup.reason, /is of the outdated type "application\/vnd.docker/);
    assert.deepEqual(registry.lines(), []);
  });

  it("takes a running image ID for a manifest's digest too, as Docker has it on containerd", async (t) => {
    const stub = await serveRegistry(t);
    const was = stub.put("was", indexOf([stub.put("a", imageOf("a")), amd], [digestOf("x"), attestation]));
    stub.put("latest", indexOf([stub.put("a", imageOf("a")), amd], [digestOf("y"), attestation]));
    const lookup = await look(await openRegistry(t), stub.image("latest"), [
      { kind: "digest", digest: was, isImageId: true },
    ]);
    assert.equal(meaningsOf(lookup).get(was), "equivalent");
  });

  it("gives the registry's own word for a refusal of a GET", async (t) => {
    const stub = await serve(t, ({ method }, response) => {
      if (method === "HEAD") return void response.writeHead(200, { "docker-content-digest": digestOf("v2") }).end();
      response.writeHead(403).end(JSON.stringify({ errors: [{ code: "DENIED", message: "no" }] }));
    });
    const lookup = await look(await openRegistry(t), `${stub.host}/app`, [running("old")]);
    assert(lookup.kind === "failed");
    assert.match(lookup.error.message, /returned 403 Forbidden \(DENIED: no\), /);
  });

  it("says where an answer broke off", async (t) => {
    const stub = await serve(t, ({ method }, response) => {
      response.writeHead(200, { "docker-content-digest": digestOf("v2"), "content-length": 100 });
      if (method === "HEAD") return void response.end();
      response.write("{");
      setTimeout(() => response.destroy(), 20);
    });
    const lookup = await look(await openRegistry(t), `${stub.host}/app`, [running("old")]);
    assert(lookup.kind === "failed");
    assert.match(
      lookup.error.message,
      /The answer of http:\/\/127.0.0.1:\d+\/v2\/app\/manifests\/sha256:\w+ broke off: /,
    );
  });
});

describe("Registry.releaseOf()", () => {
  const labelled = (...names: Parameters<typeof callIt>) => imageWith({ config: { Labels: callIt(...names) } });
  const ours = { version: "1.4.2", revision: "3f2c1ab" };

  /** Resolves the tag of an image while a pod runs another digest, then reads the version and the revision. */
  async function releaseOf(registry: Registry, image: string, keyring = noKeys) {
    const lookup = await lookUp(registry, image, { running: [running("old")], keyring });
    assert(lookup.kind === "resolved", lookup.kind === "failed" ? lookup.error.message : "");
    return registry.releaseOf(parseReference(image), lookup.digest);
  }

  /** A registry with this image as `app:latest`. */
  async function holding(t: TestContext, { image, blob }: ReturnType<typeof imageWith>) {
    const stub = await serveRegistry(t);
    const digest = stub.put("latest", image);
    stub.blobs.set(sha256(blob), blob);
    return { stub, digest, config: `GET /v2/app/blobs/${sha256(blob)}` };
  }

  it("reads the labels of the image's config, once, however many ask", async (t) => {
    const { stub, digest, config } = await holding(t, labelled("1.4.2", "3f2c1ab"));
    const registry = await openRegistry(t);
    const asked = await Promise.all([1, 2, 3].map(() => releaseOf(registry, stub.image("latest"))));
    assert.deepEqual(asked, [ours, ours, ours]);
    assert.deepEqual(stub.lines().slice(0, 2), ["HEAD /v2/app/manifests/latest", `GET /v2/app/manifests/${digest}`]);
    assert.deepEqual(stub.lines().slice(3), [config]);
    assert.equal(stub.requests.at(-1)?.headers.accept, "*/*");
  });

  it("asks no further where annotations of the index tell", async (t) => {
    const stub = await serveRegistry(t);
    const child = stub.put("amd", labelled("of the platform").image);
    const index = JSON.parse(indexOver(child).body) as object;
    const body = JSON.stringify({ ...index, annotations: callIt("1.4.2", "3f2c1ab") });
    stub.put("latest", { type: types.index, body });
    const registry = await openRegistry(t);
    assert.deepEqual(await releaseOf(registry, stub.image("latest")), ours);
    assert.equal(stub.lines().length, 3, "HEAD, and two GETs that explain the difference");
  });

  it("believes annotations before labels, which may be the base image's, and mixes neither", async (t) => {
    const base = { config: { Labels: callIt("24.04", "of the base") } };
    const { stub, digest } = await holding(t, imageWith(base, callIt("1.4.2")));
    assert.deepEqual(await releaseOf(await openRegistry(t), stub.image("latest")), { version: "1.4.2" });
    assert.equal(stub.lines().at(-1), `GET /v2/app/manifests/${digestOf("old")}`);
    assert.equal(stub.lines().filter((line) => line.endsWith(digest)).length, 1);
  });

  it("takes the word of an index's first image for all, and no attestation's", async (t) => {
    const image = labelled("1.4.2", "3f2c1ab");
    const { stub, config } = await holding(t, image);
    const child = stub.put("amd", image.image);
    const about = [digestOf("about"), { os: "unknown", architecture: "unknown" }] as [Digest, object];
    stub.put("latest", indexOf(about, [child], [digestOf("another")]));
    assert.deepEqual(await releaseOf(await openRegistry(t), stub.image("latest")), ours);
    assert.deepEqual(stub.lines().slice(-2), [`GET /v2/app/manifests/${child}`, config]);
  });

  it("asks for no config where annotations of that image tell", async (t) => {
    const stub = await serveRegistry(t);
    const child = stub.put("amd", imageWith({}, callIt("1.4.2", "3f2c1ab")).image);
    stub.put("latest", indexOver(child));
    assert.deepEqual(await releaseOf(await openRegistry(t), stub.image("latest")), ours);
    assert.equal(stub.lines().at(-1), `GET /v2/app/manifests/${child}`);
  });

  // Each row: what the owner did not set or the registry does not return. figwasp asks for it once.
  const without: [string, (blob: string) => string | undefined, ReturnType<typeof imageWith>?][] = [
    ["the image has no labels", (blob) => blob, imageWith({ config: {} })],
    ["its config is no JSON", (blob) => blob, imageWith("<html>")],
    ["its config is not there", () => undefined],
    ["its config has other bytes", (blob) => `${blob} `],
    ["its config is too large", (blob) => blob, imageWith({ config: { Labels: callIt("1") }, x: "x".repeat(2 ** 20) })],
  ];
  for (const [what, change, image = labelled("1.4.2")] of without) {
    it(`gives none where ${what}`, async (t) => {
      const { stub, config } = await holding(t, image);
      const changed = change(image.blob);
      if (changed === undefined) stub.blobs.clear();
      else stub.blobs.set(sha256(image.blob), changed);
      assert.equal(await releaseOf(await openRegistry(t), stub.image("latest")), undefined);
      assert.equal(stub.lines().filter((line) => line === config).length, 1);
    });
  }

  it("gives none of an index over attestations alone", async (t) => {
    const stub = await serveRegistry(t);
    stub.put("latest", indexOf([digestOf("about"), { os: "unknown", architecture: "unknown" }]));
    assert.equal(await releaseOf(await openRegistry(t), stub.image("latest")), undefined);
    assert.equal(stub.lines().length, 3);
  });

  it("waits once for a registry that does not tell, and asks it no more", async (t) => {
    const { stub } = await holding(t, labelled("1.4.2"));
    stub.put("other", labelled("2").image);
    stub.blobs.clear();
    const registry = await openRegistry(t);
    for (const tag of ["latest", "other"]) assert.equal(await releaseOf(registry, stub.image(tag)), undefined);
    assert.equal(stub.lines().filter((line) => line.includes("/blobs/")).length, 1);
  });

  it("leaves what remains of a quota to the nodes", async (t) => {
    const { image, blob } = labelled("1.4.2");
    let remaining = 21;
    const stub = await serve(t, ({ method, path }, response) => {
      const quota = { "ratelimit-limit": "100", "ratelimit-remaining": String(remaining) };
      if (method === "HEAD") return void response.writeHead(200, { "docker-content-digest": sha256(image.body) }).end();
      remaining--;
      if (path.includes("/blobs/")) return void response.end(blob);
      response.writeHead(path.endsWith(sha256(image.body)) ? 200 : 404, quota).end(image.body);
      remaining = 19;
    });
    assert.equal(await releaseOf(await openRegistry(t), `${stub.host}/app`), undefined);
    assert.equal(stub.lines().filter((line) => line.includes("/blobs/")).length, 0);
  });

  it("sends the registry's credential and token with the question, and neither to where its blobs are", async (t) => {
    const { image, blob } = labelled("1.4.2", "3f2c1ab");
    const elsewhere = await serve(t, (_request, response) => void response.end(blob));
    const manifests: Answer = ({ method, path }, response) => {
      const isIt = !path.includes(digestOf("old"));
      response.writeHead(isIt ? 200 : 404, { "docker-content-digest": sha256(image.body), "content-type": image.type });
      response.end(method === "HEAD" ? undefined : image.body);
    };
    const blobs: Answer = (_request, response) => {
      response.writeHead(307, { location: `http://${elsewhere.host}/signed?by=them` }).end();
    };
    const token = plantToken(t, "the registry");
    const inside = routes({ "/v2/app/manifests/": manifests, "/v2/app/blobs/": blobs });
    const login = plant(t, {}, "the registry");
    const doors: [string, string][] = [
      ['Basic realm="r"', login.authorization],
      ['Bearer realm="/token",service="s"', `Bearer ${token}`],
    ];
    for (const [challenge, authorization] of doors) {
      const answers = {
        "/token": giving({ [login.authorization]: token }),
        "/v2/": behind(challenge, [authorization], inside),
      };
      const stub = await serve(t, routes(answers));
      stub.name = "the registry";
      const keyring = keyringOf([stub.host, login]);
      assert.deepEqual(await releaseOf(await openRegistry(t), `${stub.host}/app`, keyring), ours);
      assert.equal(stub.requests.at(-1)?.headers.authorization, authorization);
    }
    assert.deepEqual(
      elsewhere.requests.map(({ path, headers }) => [path, headers.authorization]),
      doors.map(() => ["/signed?by=them", undefined]),
    );
  });

  it("removes what a registry was sent, should a label repeat it", async (t) => {
    const login = plant(t, { password: "pass-w0rd-of-the-planted" }, "the registry");
    const { image, blob } = labelled("1.4.2", login.password);
    const inside: Answer = ({ method, path }, response) => {
      if (path.includes("/blobs/")) return void response.end(blob);
      if (path.includes(digestOf("old"))) return void response.writeHead(404).end();
      response.writeHead(200, { "docker-content-digest": sha256(image.body), "content-type": image.type });
      response.end(method === "HEAD" ? undefined : image.body);
    };
    const stub = await serve(t, behind('Basic realm="r"', [login.authorization], inside));
    stub.name = "the registry";
    const release = await releaseOf(await openRegistry(t), `${stub.host}/app`, keyringOf([stub.host, login]));
    assert.deepEqual(release, { version: "1.4.2", revision: "[removed]" });
  });

  it("asks nobody about a digest that was not resolved in this run", async (t) => {
    const { stub, digest } = await holding(t, labelled("1.4.2"));
    assert.equal(await (await openRegistry(t)).releaseOf(parseReference(stub.image("latest")), digest), undefined);
    assert.deepEqual(stub.requests, []);
  });
});
