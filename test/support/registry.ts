import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lookUp, parseReference, type Running } from "../../figwasp.ts";
import type { Digest } from "../../lib/registry/manifest.ts";
import type { Reference } from "../../lib/registry/reference.ts";
import type { Config } from "../../lib/command/config.ts";
import type { Keyring } from "../../lib/credentials/keyring.ts";
import { fetch } from "../../lib/http/fetch.ts";
import { boundFetch, type Fetch } from "../../lib/http/transport.ts";
import { LimitedClient } from "../../lib/registry/limits.ts";
import { Registry } from "../../lib/registry/registry.ts";
import { type Ending, heard, witnessOf } from "./leaks.ts";
import { type Answer, serve, type Stub } from "./serve.ts";

export const types = {
  index: "application/vnd.oci.image.index.v1+json",
  manifest: "application/vnd.oci.image.manifest.v1+json",
};

export function sha256(text: string): Digest {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}

/** A digest that a word identifies in a test: `digestOf("a")`. */
export const digestOf = sha256;

export interface StoredManifest {
  body: string;
  type: string;
}

export interface StubRegistry extends Stub {
  /** By tag; each can be requested by its digest too. */
  manifests: Map<string, StoredManifest>;
  /** By digest. */
  blobs: Map<string, string>;
  /** Stores a manifest under a tag, and returns its digest. */
  put(tag: string, stored: StoredManifest): Digest;
  /** The image reference for a pod template. */
  image(tag: string): string;
  reference(tag: string): Reference;
}

interface StubOptions {
  /** Omits the digest header for these methods. */
  withoutDigest?: string[];
}

/** A registry on loopback with one repository, `app`, that answers as distribution does. */
export async function serveRegistry(t: Ending, { withoutDigest = [] }: StubOptions = {}): Promise<StubRegistry> {
  const manifests = new Map<string, StoredManifest>();
  const blobs = new Map<string, string>();
  const stub = await serve(t, ({ method, path }, response) => {
    const blob = blobs.get(/^\/v2\/app\/blobs\/([^?]+)/.exec(path)?.[1] ?? "");
    if (blob !== undefined) return void response.writeHead(200).end(blob);
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
  const put = (tag: string, stored: StoredManifest): Digest => {
    manifests.set(tag, stored);
    return sha256(stored.body);
  };
  const image = (tag: string) => `${stub.host}/app:${tag}`;
  return { ...stub, manifests, blobs, put, image, reference: (tag) => parseReference(image(tag)) };
}

/** An index of children by digest, without platforms. */
export function indexOver(...children: Digest[]): StoredManifest {
  return indexOf(...children.map((digest): [Digest] => [digest]));
}

/** An index of children by digest and platform. */
export function indexOf(...children: [Digest, object?][]): StoredManifest {
  const manifests = children.map(([digest, platform]) => {
    return { mediaType: types.manifest, digest, size: 1, platform };
  });
  return { type: types.index, body: JSON.stringify({ schemaVersion: 2, mediaType: types.index, manifests }) };
}

/** An image manifest with a config that the word identifies; a note makes another manifest with the same config. */
export function imageOf(word: string, note?: string): StoredManifest {
  const annotations = note === undefined ? undefined : { note };
  return {
    type: types.manifest,
    body: JSON.stringify({ schemaVersion: 2, config: { digest: sha256(word) }, annotations }),
  };
}

/** An image manifest, and its config blob: `{ config: { Labels: … } }`. */
export function imageWith(config: object | string, annotations?: object): { image: StoredManifest; blob: string } {
  const blob = typeof config === "string" ? config : JSON.stringify(config);
  const body = JSON.stringify({ schemaVersion: 2, config: { digest: sha256(blob) }, annotations });
  return { image: { type: types.manifest, body }, blob };
}

/** The version and the revision of an image, as labels or annotations. */
export function callIt(version?: string, revision?: string): Record<string, string | undefined> {
  return { "org.opencontainers.image.version": version, "org.opencontainers.image.revision": revision };
}

/** A keyring without credentials, for images that anybody may pull. */
export const noKeys: Keyring = { sources: [], whyNoneUsable: [] };

/** A Registry that can resolve a reference in one call. */
export class AskableRegistry extends Registry {
  resolve(reference: Reference, keyring = noKeys): Promise<Digest> {
    return this.open(reference, keyring).resolve(reference.tag);
  }

  /** What a run reports of an image: its digest, or the message. */
  async ask(image: string, keyring = noKeys, running: Running[] = []): Promise<string> {
    const lookup = await lookUp(this, image, { running, keyring });
    if (lookup.kind === "unknown") return this.heard(lookup.reason);
    if (lookup.kind === "failed") return this.heard(lookup.error.message);
    const failed = [...lookup.meanings.values()].find((meaning) => meaning.kind === "failed");
    return this.heard(failed?.error.message ?? lookup.digest);
  }

  heard = (text: string): string => text;
}

export interface RegistrySetUp {
  files?: Record<string, string>;
  timeoutMs?: number;
  /** The delay before a second try; by default a thousandth of the real one. */
  delayMs?: number;
  signal?: AbortSignal;
  fetch?: Fetch;
  tokenHosts?: Map<string, string[]>;
  proxies?: Partial<Config["proxies"]>;
}

/** The Registry under test, with the files of a hosts folder: `{ "HOST/hosts.toml": "…" }`. */
export async function openRegistry(t: Ending, setUp: RegistrySetUp = {}): Promise<AskableRegistry> {
  const { files = {}, timeoutMs = 5000, delayMs = 1, signal = t.signal } = setUp;
  const client = new LimitedClient(boundFetch(setUp.fetch ?? fetch, timeoutMs, signal), { signal, delayMs });
  const proxies = { httpProxy: "", httpsProxy: "", noProxy: "", ...setUp.proxies };
  const certsDir = await folderOf(t, files);
  const registry = new AskableRegistry({ certsDir, proxies, tokenHosts: setUp.tokenHosts ?? new Map() }, client);
  registry.heard = (text) => heard(t, text);
  witnessOf(t).said.push(() => [...registry.notes, JSON.stringify(registry.visits)]);
  return registry;
}

/** A fetch that leads these names to stubs on loopback, as DNS would, and fails for any other name:
 *  `{ "https://registry.example": "http://127.0.0.1:1234" }`. */
export function leadTo(stubs: Record<string, string>): Fetch {
  return async (url, init) => {
    const { origin } = new URL(url);
    const stub = stubs[origin];
    if (stub === undefined) throw new Error(`nobody is at ${origin}`);
    return fetch(url.replace(origin, stub), init);
  };
}

/** Answers a request for any tag with the digest of a word. */
export function answerDigest(word: string): Answer {
  return (_request, response) => void response.writeHead(200, { "docker-content-digest": digestOf(word) }).end();
}

/** A folder with these files, which is removed when the test ends. */
export async function folderOf(t: Ending, files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "figwasp-test-"));
  witnessOf(t).endings.push(() => rm(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(folder, name, ".."), { recursive: true });
    await writeFile(join(folder, name), text);
  }
  return folder;
}
