import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseReference, runningDigest } from "../figwasp.ts";

const hex = "0123456789abcdef".repeat(4);
const digest = `sha256:${hex}`;

describe("parseReference()", () => {
  const references: [string, string, string, string][] = [
    // image, registry, repository, tag
    ["nginx", "docker.io", "library/nginx", "latest"],
    ["nginx:1.27", "docker.io", "library/nginx", "1.27"],
    ["foo/bar", "docker.io", "foo/bar", "latest"],
    ["docker.io/x", "docker.io", "library/x", "latest"],
    ["index.docker.io/x", "docker.io", "library/x", "latest"],
    ["ghcr.io/acme/api:1.2", "ghcr.io", "acme/api", "1.2"],
    ["localhost/foo", "localhost", "foo", "latest"],
    ["host:5000/app", "host:5000", "app", "latest"],
    ["host:5001/a/b:1", "host:5001", "a/b", "1"],
    ["[fc00::1]:5000/x", "[fc00::1]:5000", "x", "latest"],
    ["FOO/bar", "FOO", "bar", "latest"],
    [`${"a".repeat(253)}:65535/x`, `${"a".repeat(253)}:65535`, "x", "latest"],
    ["a.b/c__d/e-f/g--h:T_a.g-1", "a.b", "c__d/e-f/g--h", "T_a.g-1"],
  ];
  for (const [image, registry, repository, tag] of references) {
    it(`reads ${image.slice(0, 40)}`, () => assert.deepEqual(parseReference(image), { registry, repository, tag }));
  }

  it("keeps a registry port out of the tag", () => assert.equal(parseReference("host:5000/app").tag, "latest"));

  it("keeps the digest of a pinned image, with and without a tag", () => {
    const expected = { registry: "ghcr.io", repository: "a/b", digest };
    assert.deepEqual(parseReference(`ghcr.io/a/b:1@${digest}`), { ...expected, tag: "1" });
    assert.deepEqual(parseReference(`ghcr.io/a/b@${digest}`), { ...expected, tag: "latest" });
  });

  const malformed = [
    "",
    ":tag",
    "/x",
    "ghcr.io/",
    "ghcr.io/Acme/api",
    "nginx:",
    "nginx:-1",
    `nginx:${"a".repeat(129)}`,
    "a//b",
    "a/b/",
    "a b",
    "x@sha256:short",
    `x@${digest}@${digest}`,
    "http://ghcr.io/a/b",
    "host:port/x",
    "-host.io/x",
    `ghcr.io/${"a".repeat(256)}`,
    `${"host.".repeat(51)}io:5000/x`,
    hex,
  ];
  for (const image of malformed) {
    it(`refuses ${JSON.stringify(image.slice(0, 40))}`, () => {
      assert.throws(() => parseReference(image), { name: "SyntaxError", message: /^Cannot parse image "/ });
    });
  }
});

describe("runningDigest()", () => {
  const readable: [string, string, boolean][] = [
    ["containerd, CRI-O", `docker.io/library/nginx@${digest}`, false],
    ["a registry with a port", `localhost:5001/a/b@${digest}`, false],
    ["cri-dockerd", `docker-pullable://nginx@${digest}`, false],
    ["cri-dockerd, an engine image ID", `docker://${digest}`, true],
    ["containerd, a bare image ID", digest, true],
    ["CRI-O 1.28.0, an image ID without algorithm", hex, true],
  ];
  for (const [runtime, imageID, isImageId] of readable) {
    it(`reads ${runtime}`, () => assert.deepEqual(runningDigest(imageID), { kind: "digest", digest, isImageId }));
  }

  const unreadable: [string, string, RegExp][] = [
    ["an empty imageID", "", /has not started/],
    ["an imported image", `docker.io/library/import-2026-11-21@${digest}`, /was imported/],
    ["another algorithm", `x@sha512:${hex}${hex}`, /no sha256 digest/],
    ["a short digest", "x@sha256:abc", /no sha256 digest/],
    ["upper-case hex", `x@sha256:${hex.toUpperCase()}`, /no sha256 digest/],
    ["a name with bare hex", `x@${hex}`, /no sha256 digest/],
    ["a tag", "nginx:latest", /no sha256 digest/],
  ];
  for (const [what, imageID, reason] of unreadable) {
    it(`gives the reason for ${what}`, () => {
      const running = runningDigest(imageID);
      assert(running.kind === "unreadable");
      assert.match(running.reason, reason);
    });
  }
});
