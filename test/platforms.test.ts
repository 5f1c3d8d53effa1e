import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { type Lookup, lookUp, type Running } from "../figwasp.ts";
import type { Digest } from "../lib/registry/manifest.ts";
import { imagesFor, imagesOn, isPreferred } from "../lib/registry/platforms.ts";
import { refusing } from "./support/doors.ts";
import {
  digestOf,
  imageOf,
  imageWith,
  indexOf,
  noKeys,
  openRegistry,
  serveRegistry,
  sha256,
} from "./support/registry.ts";
import type { StubRegistry } from "./support/registry.ts";
import { serve } from "./support/serve.ts";

/** `linux/arm/v7` → what an index says of it. */
function platform(name: string): object {
  const [os, architecture, variant] = name.split("/");
  if (os === "windows") return { os, architecture, "os.version": `10.0.${variant}.1234` };
  return { os, architecture, ...(variant !== undefined && { variant }) };
}

/** An index with an image for each platform: `{ "linux/amd64": "word" }`. */
function indexFor(stub: StubRegistry, words: Record<string, string>) {
  const children = Object.entries(words).map(([name, word]): [Digest, object] => {
    return [stub.put(`image ${word}`, imageOf(word)), platform(name)];
  });
  return indexOf(...children);
}

/** An image that stands alone, whose config tells its platform, as builders write it. */
function aloneFor(stub: StubRegistry, name: string, word: string) {
  const { image, blob } = imageWith({ ...platform(name), word });
  stub.blobs.set(sha256(blob), blob);
  return image;
}

async function meaningOf(t: TestContext, stub: StubRegistry, was: Digest, repository?: string): Promise<object> {
  const running: Running[] = [{ kind: "digest", digest: was, isImageId: false, ...(repository && { repository }) }];
  const options = { running, keyring: noKeys };
  const lookup: Lookup = await lookUp(await openRegistry(t), stub.image("latest"), options);
  assert(lookup.kind === "resolved", JSON.stringify(lookup));
  return lookup.meanings.get(was) ?? assert.fail();
}

describe("isPreferred()", () => {
  // containerd/platforms, platformVector and its tests.
  const rows: [string, string][] = [
    ["linux/arm64", "linux/arm/v7"],
    ["linux/arm/v8", "linux/arm/v7"],
    ["linux/arm/v7", "linux/arm/v6"],
    ["linux/arm64/v9", "linux/arm64"],
    ["linux/amd64", "linux/386"],
    ["linux/amd64/v3", "linux/amd64"],
    ["linux/amd64/v3", "linux/amd64/v2"],
  ];
  for (const [better, worse] of rows) {
    it(`prefers ${better} to ${worse}, and not the other way round`, () => {
      assert.deepEqual([isPreferred(better, worse), isPreferred(worse, better)], [true, false]);
    });
  }

  const strangers = [
    ["linux/arm64", "linux/amd64"],
    ["linux/amd64", "windows/386"],
    ["linux/s390x", "linux/ppc64le"],
    ["linux/amd64", "linux/amd64"],
  ];
  for (const [one = "", other = ""] of strangers) {
    it(`prefers neither of ${one} and ${other}`, () => {
      assert.deepEqual([isPreferred(one, other), isPreferred(other, one)], [false, false]);
    });
  }
});

const named = (name: string) => ({ platform: name });

describe("imagesFor()", () => {
  const [arm, amd] = ["linux/arm64", "linux/amd64"] as const;
  const rows: [string, string, string[], string[]][] = [
    ["its own", arm, [amd, arm], [arm]],
    ["its own, not a worse one too", arm, [arm, "linux/arm/v7"], [arm]],
    ["all variants of its own", amd, [amd, "linux/amd64/v3", arm], [amd, "linux/amd64/v3"]],
    ["one that tells its variant", arm, [amd, "linux/arm64/v9"], ["linux/arm64/v9"]],
    [
      "all variants that a node of arm may be",
      "linux/arm",
      ["linux/arm/v6", "linux/arm/v7", arm],
      ["linux/arm/v6", "linux/arm/v7"],
    ],
    ["arm/v7 on arm64, where there is nothing better", arm, [amd, "linux/arm/v7"], ["linux/arm/v7"]],
    ["the best that it can run", arm, ["linux/arm/v6", "linux/arm/v7", amd], ["linux/arm/v7"]],
    ["386 on amd64", amd, ["linux/386", arm], ["linux/386"]],
    ["none of another architecture", arm, [amd, "linux/386"], []],
    ["none that it is too old for", "linux/386", [amd], []],
    ["none of another operating system", amd, ["windows/amd64"], []],
    ["none whose name only begins like its own", "linux/arm", ["linux/arm64"], []],
    ["one that does not tell its platform", arm, [""], [""]],
  ];
  for (const [what, node, platforms, taken] of rows) {
    it(`takes on ${node} ${what}`, () => {
      const images = platforms.map(named);
      assert.deepEqual(
        imagesFor(node, images).map((image) => image.platform),
        taken,
      );
    });
  }
});

describe("imagesOn()", () => {
  const arm = "linux/arm64";
  const rows: [string, string[], string[], [string[], string[]]][] = [
    ["compares a lower variant than what it runs", [arm], ["linux/arm64/v9"], [[arm], [arm]]],
    ["does not take a higher variant for one that it can run", ["linux/arm64/v9"], [arm], [["linux/arm64/v9"], [arm]]],
    ["compares what it would take with what it runs", [arm, "linux/arm/v7"], ["linux/arm/v7"], [[arm], [arm]]],
    ["takes what stands alone for what it runs", [arm, "linux/amd64"], [""], [[arm], [arm]]],
    ["does not guess what the tag's lone image is for", [""], [arm], [[""], [arm]]],
    ["leaves variants as they are called", [arm, "linux/arm64/v9"], [arm], [[arm, "linux/arm64/v9"], [arm]]],
    ["has nothing where the tag has nothing for it", ["linux/amd64"], [arm, "linux/amd64"], [[], [arm]]],
  ];
  for (const [what, to, from, expected] of rows) {
    it(what, () => {
      const [of, off] = [to, from].map((side) => side.map(named));
      const pair = imagesOn(arm, { to: of ?? [], from: off ?? [] });
      assert.deepEqual(
        pair.map((side) => side.map((image) => image.platform)),
        expected,
      );
    });
  }
});

describe("lookUp(), platform by platform", () => {
  const [amd, arm, v7, i386] = ["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386"] as const;
  const rows: [string, Record<string, string>, Record<string, string>, string, RegExp?][] = [
    ["a platform was lost", { [amd]: "a", [arm]: "b" }, { [amd]: "a" }, "equivalent"],
    ["one was lost, and another one changed", { [amd]: "a", [arm]: "b" }, { [amd]: "new" }, "other"],
    ["one of another architecture was gained", { [amd]: "a" }, { [amd]: "a", [arm]: "b" }, "equivalent"],
    ["one was gained, and another one changed", { [amd]: "a" }, { [amd]: "new", [arm]: "b" }, "other"],
    ["one was replaced by one that no node takes", { [amd]: "a" }, { [arm]: "b" }, "incomparable", /no image for any/],
    [
      "one was gained that a node would prefer",
      { [v7]: "a" },
      { [v7]: "a", [arm]: "b" },
      "incomparable",
      /an image for linux\/arm64/,
    ],
    ["amd64 was gained beside 386", { [i386]: "a" }, { [i386]: "a", [amd]: "b" }, "incomparable", /for linux\/amd64/],
    [
      "a higher variant was gained",
      { [amd]: "a" },
      { [amd]: "a", "linux/amd64/v3": "b" },
      "incomparable",
      /for linux\/amd64\/v3/,
    ],
    ["arm64 was lost beside arm/v7", { [arm]: "a", [amd]: "x" }, { [v7]: "c", [amd]: "x" }, "incomparable", /arm\/v7/],
    ["amd64 was lost beside 386", { [i386]: "x", [amd]: "a" }, { [i386]: "x" }, "incomparable", /for linux\/386/],
    ["one is spelled otherwise", { "linux/amd64/v1": "a", [arm]: "x" }, { [amd]: "new", [arm]: "x" }, "partial"],
    [
      "a build of Windows was lost",
      { "windows/amd64/17763": "a", "windows/amd64/20348": "b" },
      { "windows/amd64/20348": "b" },
      "equivalent",
    ],
    [
      "a later build of Windows was gained",
      { "windows/amd64/20348": "b" },
      { "windows/amd64/20348": "b", "windows/amd64/26100": "c" },
      "incomparable",
      /26100/,
    ],
    ["a lower one was gained", { [arm]: "a" }, { [arm]: "a", [v7]: "b" }, "equivalent"],
  ];
  for (const [what, old, fresh, kind, reason] of rows) {
    it(`finds ${kind}: ${what}`, async (t) => {
      const stub = await serveRegistry(t);
      const was = stub.put("was", indexFor(stub, old));
      stub.put("latest", indexFor(stub, fresh));
      const meaning = await meaningOf(t, stub, was);
      assert.equal((meaning as { kind: string }).kind, kind);
      if (reason) assert.match((meaning as { reason: string }).reason, reason);
    });
  }

  it("asks a manifest that stands alone for its platform, where the tag has become an index", async (t) => {
    const stub = await serveRegistry(t);
    const was = stub.put("was", aloneFor(stub, amd, "old"));
    stub.put("latest", indexFor(stub, { [amd]: "new", [arm]: "b" }));
    assert.deepEqual(await meaningOf(t, stub, was), { kind: "other" });
    stub.put("latest", indexFor(stub, { [arm]: "b" }));
    assert.equal(((await meaningOf(t, stub, was)) as { kind: string }).kind, "incomparable");
  });

  it("cannot compare one that does not tell it", async (t) => {
    const stub = await serveRegistry(t);
    const was = stub.put("was", imageOf("old")); // without a blob of its config
    stub.put("latest", indexFor(stub, { [amd]: "new", [arm]: "b" }));
    const meaning = (await meaningOf(t, stub, was)) as { kind: string; reason: string };
    assert.equal(meaning.kind, "incomparable");
    assert.match(meaning.reason, /between one image and an index/);
  });

  it("takes an index that became one of its images for a loss of the others", async (t) => {
    const stub = await serveRegistry(t);
    const kept = aloneFor(stub, amd, "kept");
    const child = stub.put("child", { ...kept, body: kept.body.replace("{", '{"annotations":{"a":"b"},') });
    const was = stub.put("was", indexOf([child, platform(amd)], [stub.put("b", imageOf("b")), platform(arm)]));
    stub.put("latest", kept);
    assert.deepEqual(await meaningOf(t, stub, was), { kind: "equivalent" });
    stub.put("latest", aloneFor(stub, amd, "new"));
    assert.deepEqual(await meaningOf(t, stub, was), { kind: "other" });
  });

  for (const status of [404, 410, 412, 451]) {
    it(`takes ${status} about what runs for an answer: it is gone`, async (t) => {
      const image = imageOf("new");
      const stub = await serve(t, (request, response) => {
        if (request.path.endsWith(digestOf("old"))) return void refusing(status)(request, response);
        response.writeHead(200, { "docker-content-digest": sha256(image.body), "content-type": image.type });
        response.end(request.method === "HEAD" ? undefined : image.body);
      });
      const running: Running[] = [{ kind: "digest", digest: digestOf("old"), isImageId: false }];
      const lookup = await lookUp(await openRegistry(t), `${stub.host}/app`, { running, keyring: noKeys });
      assert(lookup.kind === "resolved");
      assert.deepEqual(lookup.meanings.get(digestOf("old")), { kind: "absent" });
    });
  }

  it("fails where the tag's own manifest is refused", async (t) => {
    const image = imageOf("new");
    const stub = await serve(t, (request, response) => {
      if (request.method === "GET") return void refusing(412)(request, response);
      return void response
        .writeHead(200, { "docker-content-digest": sha256(image.body), "content-type": image.type })
        .end();
    });
    const running: Running[] = [{ kind: "digest", digest: digestOf("old"), isImageId: false }];
    const lookup = await lookUp(await openRegistry(t), `${stub.host}/app`, { running, keyring: noKeys });
    assert.equal(lookup.kind, "failed");
  });

  it("reads what runs in the repository that the node names, where the other one does not have it", async (t) => {
    const stub = await serveRegistry(t);
    const elsewhere = await serveRegistry(t);
    stub.put("latest", indexFor(stub, { [amd]: "a" }));
    const was = elsewhere.put("was", indexFor(elsewhere, { [amd]: "a", [arm]: "b" }));
    assert.deepEqual(await meaningOf(t, stub, was), { kind: "absent" });
    assert.deepEqual(await meaningOf(t, stub, was, `${elsewhere.host}/app`), { kind: "equivalent" });
    const busy = await serve(t, refusing(503));
    assert.equal(((await meaningOf(t, stub, was, `${busy.host}/app`)) as { kind: string }).kind, "failed");
    const closed = await serve(t, refusing(403));
    assert.deepEqual(await meaningOf(t, stub, was, `${closed.host}/app`), { kind: "absent" });
    elsewhere.manifests.clear();
    assert.deepEqual(await meaningOf(t, stub, was, `${elsewhere.host}/app`), { kind: "absent" });
    // A name without a host may be anybody's.
    assert.deepEqual(await meaningOf(t, stub, was, "app"), { kind: "absent" });
  });
});
