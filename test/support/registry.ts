import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { fetch } from "undici";
import { boundFetch, type Digest, parseReference, type Reference, Registry } from "../../figwasp.ts";
import { serve, type Stub } from "./serve.ts";

export const types = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
};

export function sha256(text: string): Digest {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}

/** A digest that is easy to tell from others in a test: `digestOf("a")`. */
export const digestOf = sha256;

export interface StoredManifest {
  body: string;
  type: string;
}

export interface StubRegistry extends Stub {
  /** By tag; the digest finds it as well. */
  manifests: Map<string, StoredManifest>;
  reference(tag: string): Reference;
}

interface StubOptions {
  /** Leaves out the digest header of these methods. */
  withoutDigest?: string[];
}

/** A registry on loopback that answers for one repository, `app`, as distribution does. */
export async function serveRegistry(t: TestContext, { withoutDigest = [] }: StubOptions = {}): Promise<StubRegistry> {
  const manifests = new Map<string, StoredManifest>();
  const stub = await serve(t, ({ method, path }, response) => {
    const name = /^\/v2\/app\/manifests\/([^?]+)/.exec(path)?.[1] ?? "";
    const found = manifests.get(name) ?? [...manifests.values()].find(({ body }) => sha256(body) === name);
    if (!found) {
      response.writeHead(404, { "content-type": "application/json" });
      response.end(method === "HEAD" ? undefined : JSON.stringify({ errors: [{ code: "MANIFEST_UNKNOWN" }] }));
      return;
    }
    const digest = withoutDigest.includes(method) ? {} : { "docker-content-digest": sha256(found.body) };
    response.writeHead(200, { ...digest, "content-type": found.type, "content-length": found.body.length });
    response.end(method === "HEAD" ? undefined : found.body);
  });
  return { ...stub, manifests, reference: (tag) => parseReference(`${stub.host}/app:${tag}`) };
}

/** An index over children given by digest. */
export function indexOver(...children: Digest[]): StoredManifest {
  const manifests = children.map((digest) => ({ mediaType: types.manifest, digest, size: 1 }));
  return { type: types.index, body: JSON.stringify({ schemaVersion: 2, mediaType: types.index, manifests }) };
}

/** An image manifest whose content is told apart by a word. */
export function imageOf(word: string): StoredManifest {
  return { type: types.manifest, body: JSON.stringify({ schemaVersion: 2, config: { digest: sha256(word) } }) };
}

/** figwasp's side, with the files of a hosts folder: `{ "HOST/hosts.toml": "…" }`. */
export async function openRegistry(
  t: TestContext,
  { files = {}, timeoutMs = 5000, signal = new AbortController().signal }: RegistrySetUp = {},
): Promise<Registry> {
  return new Registry(await folderOf(t, files), boundFetch(fetch, timeoutMs, signal));
}

interface RegistrySetUp {
  files?: Record<string, string>;
  timeoutMs?: number;
  signal?: AbortSignal;
}

/** A folder with these files, removed with the test. */
export async function folderOf(t: TestContext, files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "figwasp-test-"));
  t.after(() => rm(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(folder, name, ".."), { recursive: true });
    await writeFile(join(folder, name), text);
  }
  return folder;
}
