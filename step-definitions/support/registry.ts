import { createHash } from "node:crypto";
import { fetch } from "undici";
import type { Container, ContainerOptions } from "./containers.ts";
import { interruption } from "./interruption.ts";
import { logOf } from "./server.ts";

const types = {
  index: "application/vnd.oci.image.index.v1+json",
  ociManifest: "application/vnd.oci.image.manifest.v1+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
};

interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
}

interface Manifest {
  mediaType: string;
  descriptor: Descriptor;
  bytes: Buffer;
  body: { config: Descriptor; layers: Descriptor[]; [field: string]: unknown };
}

/** The configuration of an image. The suite changes these fields and keeps the others. */
interface ImageConfig {
  architecture: string;
  config: { Env?: string[]; Labels?: Record<string, string> | null };
}

/** An image in a registry, as `repository:tag` there. */
export interface Pushed {
  registry: LocalRegistry;
  image: string;
}

/** Files that say how registries are reached, by `HOST/FILE`, as in the folder that containerd calls certs.d. */
export type HostsFolder = Record<string, string>;

export interface IndexOptions {
  /** Stands in the attestation. Another note makes another index over the same images. */
  note?: string;
  /** The answer of the other platform's image, if it is a different one. */
  otherReply?: string;
  /** Says which digests the index may have. */
  isWanted?: (digest: string) => boolean;
}

/** The part of a container's options in which registries differ. */
export type RegistryOptions = Pick<ContainerOptions, "name" | "network" | "labels" | "environment" | "volume">;

/** The folder in which the image `registry:3` keeps what is pushed. */
export const storagePath = "/var/lib/registry";
export const registrySettings = { OTEL_TRACES_EXPORTER: "none" };

/** A registry on kind's network that this machine reaches on a loopback port. */
export class LocalRegistry {
  /** The address for nodes and pods, `http://NAME:5000`. */
  readonly clusterUrl: string;
  /** The host in the names of images, `localhost:PORT`. It is also the address on this machine. */
  readonly host: string;
  /** The name of the container, which is unique on this machine. */
  readonly name: string;
  readonly port: number;
  /** The image of the echo server without an answer. The images of scenarios are made from it. */
  readonly #echo: Pushed | undefined;
  #container: Container | undefined;
  #stopped: Promise<unknown> | undefined;

  static async start(options: RegistryOptions, echo?: Pushed): Promise<LocalRegistry> {
    const { startContainer } = await import("./containers.ts");
    const fixed = { image: "registry:3", hosts: [options.name], ready: /listening on/, port: 5000 };
    const environment = { ...registrySettings, ...options.environment };
    const container = await startContainer({ ...options, ...fixed, environment });
    if (container.port === undefined) throw new Error(`The registry ${options.name} is published on no port`);
    const registry = new LocalRegistry(options.name, container.port, echo);
    registry.#container = container;
    return registry;
  }

  /** Stands for a registry that is running already, and that whoever has started it stops. */
  constructor(name: string, port: number, echo?: Pushed) {
    this.name = name;
    this.port = port;
    this.host = `localhost:${port}`;
    this.clusterUrl = `http://${name}:5000`;
    this.#echo = echo;
  }

  /** A file in containerd's format, which the nodes and figwasp read alike. */
  get hostsToml(): string {
    return `server = "${this.clusterUrl}"\n\n[host."${this.clusterUrl}"]\n`;
  }

  /** The same file at the path at which both look for it. */
  get hosts(): HostsFolder {
    return { [`${this.host}/hosts.toml`]: this.hostsToml };
  }

  async log(): Promise<string[]> {
    return logOf(this.name);
  }

  async stop(): Promise<void> {
    this.#stopped ??= this.#container?.stop();
    await this.#stopped;
  }

  /** Pushes the echo server with its answer, which is its version too, as `repository:tag`. No two scenarios share an image,
   *  since the node would know it by the names of both. */
  async pushServer(image: string, reply: string): Promise<void> {
    await this.#pushServer(image, reply);
  }

  /** Pushes an index over the echo server for two platforms, this machine's and another, and an attestation. */
  async pushIndex(image: string, reply: string, options: IndexOptions = {}): Promise<void> {
    const { note = "first", otherReply = reply, isWanted = () => true } = options;
    const { repository, tag } = split(image);
    const [own, other] = process.arch === "arm64" ? ["arm64", "amd64"] : ["amd64", "arm64"];
    const built = await this.#pushServer(`${repository}:${tag}-${own}`, reply);
    const foreign = await this.#pushServer(`${repository}:${tag}-${other}`, otherReply, { architecture: other });
    const annotations = { ...(built.body["annotations"] as object | undefined), note };
    const attestation = await this.#putManifest(repository, undefined, built.mediaType, { ...built.body, annotations });
    const manifests = [
      { ...foreign.descriptor, platform: { os: "linux", architecture: other } },
      { ...built.descriptor, platform: { os: "linux", architecture: own } },
      { ...attestation, platform: { os: "unknown", architecture: "unknown" } },
    ];
    const index = { schemaVersion: 2, mediaType: types.index, manifests };
    await this.#putManifest(repository, tag, types.index, withDigest(index, isWanted));
  }

  /** Points the tag at what has been pushed before. */
  async moveTag(image: string, digest: string): Promise<void> {
    const { repository, tag } = split(image);
    const { mediaType, bytes } = await this.#manifest(repository, digest);
    // The same bytes are sent, since JSON that is written anew would have another digest.
    await this.#putManifest(repository, tag, mediaType, bytes);
  }

  /** The digest that a tag points to. */
  async digest(image: string): Promise<string> {
    const { repository, tag } = split(image);
    return (await this.#manifest(repository, tag)).descriptor.digest;
  }

  /** Whether a tag points to anything. */
  async has(image: string): Promise<boolean> {
    const { repository, tag } = split(image);
    const response = await this.#send("HEAD", `/v2/${repository}/manifests/${tag}`, { headers: { accept } });
    return response.ok;
  }

  // Sends what `docker push` sends: the layers that are missing, the configuration, and the manifest. A build by Docker for
  // each answer would give the same layers too, since the answer stands in the configuration, and would take seconds.
  async #pushServer(image: string, reply: string, changes: Partial<ImageConfig> = {}): Promise<Manifest> {
    if (!this.#echo) throw new Error(`${this.name} is not told where the echo server is`);
    const { repository, tag } = split(image);
    const { registry, image: echo } = this.#echo;
    const base = await registry.#manifest(split(echo).repository, split(echo).tag);
    for (const layer of base.body.layers) await this.#copyBlob(repository, layer.digest, this.#echo);
    const blob = await registry.#request("GET", `/v2/${split(echo).repository}/blobs/${base.body.config.digest}`);
    const given = (await blob.json()) as ImageConfig;
    const { Env = [], Labels } = given.config;
    const own = {
      Env: [...Env.filter((each) => !each.startsWith("REPLY=")), `REPLY=${reply}`],
      Labels: {
        ...Labels,
        "figwasp.scenario": image.split("/")[0] ?? "",
        "org.opencontainers.image.version": reply,
      },
    };
    const config = Buffer.from(JSON.stringify({ ...given, ...changes, config: { ...given.config, ...own } }));
    await this.#putBlob(repository, sha256(config), config);
    const described = { ...base.body.config, digest: sha256(config), size: config.length };
    await this.#putManifest(repository, tag, base.mediaType, { ...base.body, config: described });
    return this.#manifest(repository, tag);
  }

  // A registry that has the blob in another repository copies it from there. Any other registry is sent the blob.
  async #copyBlob(repository: string, digest: string, { registry, image }: Pushed): Promise<void> {
    const from = split(image).repository;
    if (registry.name === this.name) {
      await this.#request("POST", `/v2/${repository}/blobs/uploads/?mount=${digest}&from=${from}`);
      return;
    }
    const there = await this.#send("HEAD", `/v2/${repository}/blobs/${digest}`);
    if (there.ok) return;
    const blob = await registry.#request("GET", `/v2/${from}/blobs/${digest}`);
    await this.#putBlob(repository, digest, Buffer.from(await blob.arrayBuffer()));
  }

  async #putBlob(repository: string, digest: string, body: Buffer): Promise<void> {
    const location = await this.#uploadLocation(repository);
    const separator = location.includes("?") ? "&" : "?";
    const headers = { "content-type": "application/octet-stream" };
    await this.#request("PUT", `${location}${separator}digest=${digest}`, { headers, body });
  }

  async #manifest(repository: string, tag: string): Promise<Manifest> {
    const response = await this.#request("GET", `/v2/${repository}/manifests/${tag}`, { headers: { accept } });
    const bytes = Buffer.from(await response.arrayBuffer());
    const mediaType = response.headers.get("content-type") ?? "";
    const body = JSON.parse(bytes.toString("utf8")) as Manifest["body"];
    return { mediaType, descriptor: { mediaType, digest: sha256(bytes), size: bytes.length }, bytes, body };
  }

  async #putManifest(
    repository: string,
    tag: string | undefined,
    mediaType: string,
    body: object,
  ): Promise<Descriptor> {
    const bytes = Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body));
    const digest = sha256(bytes);
    const headers = { "content-type": mediaType };
    await this.#request("PUT", `/v2/${repository}/manifests/${tag ?? digest}`, { headers, body: bytes });
    return { mediaType, digest, size: bytes.length };
  }

  async #uploadLocation(repository: string): Promise<string> {
    const response = await this.#request("POST", `/v2/${repository}/blobs/uploads/`);
    const location = response.headers.get("location");
    if (location === null) throw new Error("The registry gave no place to upload a blob to");
    const { pathname, search } = new URL(location, `http://${this.host}`);
    return pathname + search;
  }

  async #request(method: string, path: string, init: RequestParts = {}) {
    const response = await this.#send(method, path, init);
    if (!response.ok) throw new Error(`${method} ${path} returned ${response.status}: ${await response.text()}`);
    return response;
  }

  async #send(method: string, path: string, init: RequestParts = {}) {
    const signal = AbortSignal.any([interruption.signal, AbortSignal.timeout(30_000)]);
    return fetch(`http://${this.host}${path}`, { method, signal, ...init });
  }
}

interface RequestParts {
  headers?: Record<string, string>;
  body?: Uint8Array;
}

const accept = Object.values(types).join(", ");

function split(image: string): { repository: string; tag: string } {
  const [repository = "", tag = ""] = image.split(":");
  return { repository, tag };
}

// Changes an annotation without a meaning until the digest is a wanted one.
function withDigest(index: object, isWanted: (digest: string) => boolean): Buffer {
  for (let attempt = 0; ; attempt++) {
    const bytes = Buffer.from(JSON.stringify({ ...index, annotations: { attempt: `${attempt}` } }));
    if (isWanted(sha256(bytes))) return bytes;
  }
}

function sha256(bytes: Buffer): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}
