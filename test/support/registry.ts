import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Digest, lookUp, parseReference, type Reference, type Running } from "../../figwasp.ts";
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

/** A digest that is easy to tell from others in a test: `digestOf("a")`. */
export const digestOf = sha256;

export interface StoredManifest {
  body: string;
  type: string;
}

export interface StubRegistry extends Stub {
  /** By tag; the digest finds it as well. */
  manifests: Map<string, StoredManifest>;
  /** By digest. */
  blobs: Map<string, string>;
  /** Stores a manifest under a tag, and gives its digest. */
  put(tag: string, stored: StoredManifest): Digest;
  /** The image's name, for a pod template. */
  image(tag: string): string;
  reference(tag: string): Reference;
}

interface StubOptions {
  /** Leaves out the digest header of these methods. */
  withoutDigest?: string[];
}

/** A registry on loopback that answers for one repository, `app`, as distribution does. */
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

/** An index over children given by digest, of no stated platform. */
export function indexOver(...children: Digest[]): StoredManifest {
  return indexOf(...children.map((digest): [Digest] => [digest]));
}

/** An index over children given by digest and platform. */
export function indexOf(...children: [Digest, object?][]): StoredManifest {
  const manifests = children.map(([digest, platform]) => {
    return { mediaType: types.manifest, digest, size: 1, platform };
  });
  return { type: types.index, body: JSON.stringify({ schemaVersion: 2, mediaType: types.index, manifests }) };
}

/** An image manifest whose config is told apart by a word; a note makes it another manifest of the same config. */
export function imageOf(word: string, note?: string): StoredManifest {
  const annotations = note === undefined ? undefined : { note };
  return {
    type: types.manifest,
    body: JSON.stringify({ schemaVersion: 2, config: { digest: sha256(word) }, annotations }),
  };
}

/** An image manifest, and the config blob that it names: `{ config: { Labels: … } }`. */
export function imageWith(config: object | string, annotations?: object): { image: StoredManifest; blob: string } {
  const blob = typeof config === "string" ? config : JSON.stringify(config);
  const body = JSON.stringify({ schemaVersion: 2, config: { digest: sha256(blob) }, annotations });
  return { image: { type: types.manifest, body }, blob };
}

/** What an owner calls an image, as labels or annotations. */
export function callIt(version?: string, revision?: string): Record<string, string | undefined> {
  return { "org.opencontainers.image.version": version, "org.opencontainers.image.revision": revision };
}

/** For images that anybody may pull. */
export const noKeys: Keyring = { sources: [], whyNoneUsable: [] };

/** A Registry that resolves a reference in one step. */
export class AskableRegistry extends Registry {
  resolve(reference: Reference, keyring = noKeys): Promise<Digest> {
    return this.open(reference, keyring).resolve(reference.tag);
  }

  /** What a run says of an image: its digest, or the message. */
  async ask(image: string, keyring = noKeys, running: Running[] = []): Promise<string> {
    const lookup = await lookUp(this, image, { running, keyring });
    if (lookup.kind === "unknown") return this.heard(lookup.reason);
    const error = lookup.kind === "failed" ? lookup.error : [...lookup.failures.values()][0];
    return this.heard(error?.message ?? (lookup.kind === "resolved" ? lookup.digest : ""));
  }

  heard = (text: string): string => text;
}

export interface RegistrySetUp {
  files?: Record<string, string>;
  timeoutMs?: number;
  /** Before a second try; a thousandth of the real one. */
  delayMs?: number;
  signal?: AbortSignal;
  fetch?: Fetch;
  tokenHosts?: Map<string, string[]>;
  proxies?: Partial<Config["proxies"]>;
}

/** figwasp's side, with the files of a hosts folder: `{ "HOST/hosts.toml": "…" }`. */
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

/** Leads to stubs on loopback by other names, as DNS would, and nowhere else:
 *  `{ "https://registry.example": "http://127.0.0.1:1234" }`. */
export function leadTo(stubs: Record<string, string>): Fetch {
  return async (url, init) => {
    const { origin } = new URL(url);
    const stub = stubs[origin];
    if (stub === undefined) throw new Error(`nobody is at ${origin}`);
    return fetch(url.replace(origin, stub), init);
  };
}

/** Answers every tag with the digest of a word. */
export function answerDigest(word: string): Answer {
  return (_request, response) => void response.writeHead(200, { "docker-content-digest": digestOf(word) }).end();
}

/** A folder with these files, removed with the test. */
export async function folderOf(t: Ending, files: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "figwasp-test-"));
  witnessOf(t).endings.push(() => rm(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(join(folder, name, ".."), { recursive: true });
    await writeFile(join(folder, name), text);
  }
  return folder;
}
