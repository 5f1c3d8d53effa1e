import { createHash } from "node:crypto";
import { createServer } from "node:net";
import { GenericContainer, type StartedTestContainer, Wait } from "testcontainers";
import { fetch } from "undici";
import { logOf } from "./server.ts";
import { $, $undo } from "./shell.ts";

const types = {
  index: "application/vnd.oci.image.index.v1+json",
  ociManifest: "application/vnd.oci.image.manifest.v1+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
};
const echoServer = new URL("../../fixtures/echo-server", import.meta.url).pathname;

interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
}

interface Manifest {
  mediaType: string;
  descriptor: Descriptor;
  bytes: Buffer;
  body: { config: Descriptor; [field: string]: unknown };
}

interface Started {
  name: string;
  network: string;
  port: number;
  container: StartedTestContainer;
}

/** How registries are reached, by `HOST/FILE`: the tree that containerd calls certs.d. */
export type HostsFolder = Record<string, string>;

interface IndexOptions {
  /** In the attestation: with another one it is another index over the same images. */
  note?: string;
  /** What the other platform's image says, where that is something else. */
  otherReply?: string;
  /** Which digests the index may have. */
  isWanted?: (digest: string) => boolean;
}

/** Where a registry keeps what is pushed, to be shared with others, and how it is set up beyond that. */
interface RegistryOptions {
  volume?: string;
  environment?: Record<string, string>;
}

/** Of the image of distribution's registry. */
export const storagePath = "/var/lib/registry";
export const registrySettings = { OTEL_TRACES_EXPORTER: "none" };

/** A registry on kind's network that this machine reaches on a loopback port. */
export class LocalRegistry {
  /** Where nodes, pods and figwasp in the cluster find it: `http://NAME:5000`. */
  readonly clusterUrl: string;
  /** The host in image names, and the address from this machine: `localhost:PORT`. */
  readonly host: string;
  /** The container's, unique on this machine. */
  readonly name: string;
  readonly #container: StartedTestContainer;
  #stopped: Promise<unknown> | undefined;
  readonly #network: string;

  static async start(name: string, network: string, options: RegistryOptions = {}): Promise<LocalRegistry> {
    const { volume, environment = {} } = options;
    const port = await freePort();
    const container = new LoopbackContainer("registry:3")
      .withName(name)
      .withNetworkMode(network)
      .withNetworkAliases(name)
      .withExposedPorts({ container: 5000, host: port })
      .withEnvironment({ ...registrySettings, ...environment })
      // Not by HTTP: where the suite runs in a container itself, that would be asked of the gateway, not of loopback.
      .withWaitStrategy(Wait.forLogMessage(/listening on/));
    if (volume !== undefined) container.withBindMounts([{ source: volume, target: storagePath }]);
    return new LocalRegistry({ name, network, port, container: await container.start() });
  }

  private constructor({ name, network, port, container }: Started) {
    this.#network = network;
    this.name = name;
    this.host = `localhost:${port}`;
    this.clusterUrl = `http://${name}:5000`;
    this.#container = container;
  }

  /** In containerd's format, for the nodes and for figwasp alike. */
  get hostsToml(): string {
    return `server = "${this.clusterUrl}"\n\n[host."${this.clusterUrl}"]\n`;
  }

  /** The same, where both look for it. */
  get hosts(): HostsFolder {
    return { [`${this.host}/hosts.toml`]: this.hostsToml };
  }

  async log(): Promise<string[]> {
    return logOf(this.name);
  }

  async stop(): Promise<void> {
    this.#stopped ??= this.#container.stop();
    await this.#stopped;
  }

  async push(folder: string, image: string, buildArgs: string[] = []): Promise<void> {
    const name = `${this.host}/${image}`;
    // One manifest an image, whatever builder this machine has: the scenarios make their own indexes.
    const build = $({ env: { ...process.env, BUILDX_NO_DEFAULT_ATTESTATIONS: "1", DOCKER_BUILDKIT: "1" } });
    await build`docker build --tag ${name} --label ${labelOf(this.#network)} ${buildArgs} ${folder}`;
    await $`docker push ${name}`;
  }

  /** Builds the echo server with its answer, which is its version too, and pushes it as `repository:tag`. Repositories
   *  of one scenario share the image, those of others do not: the node would know it by all of their names. */
  async pushServer(image: string, reply: string): Promise<void> {
    const labels = [`figwasp.scenario=${image.split("/")[0]}`, `org.opencontainers.image.version=${reply}`];
    const args = [`--build-arg=REPLY=${reply}`, ...labels.map((label) => `--label=${label}`)];
    await this.push(echoServer, image, args);
  }

  /** Pushes an index over the echo server for two platforms, this machine's and another, and an attestation. */
  async pushIndex(image: string, reply: string, options: IndexOptions = {}): Promise<void> {
    const { note = "first", otherReply = reply, isWanted = () => true } = options;
    const { repository, tag } = split(image);
    const [own, other] = process.arch === "arm64" ? ["arm64", "amd64"] : ["amd64", "arm64"];
    await this.pushServer(`${repository}:${tag}-${own}`, reply);
    const built = await this.#manifest(repository, `${tag}-${own}`);
    await this.pushServer(`${repository}:${tag}-${other}`, otherReply);
    const foreign = await this.#forArchitecture(repository, `${tag}-${other}`, other);
    const annotations = { ...(built.body["annotations"] as object | undefined), note };
    const attestation = await this.#putManifest(repository, undefined, built.mediaType, { ...built.body, annotations });
    const manifests = [
      { ...foreign, platform: { os: "linux", architecture: other } },
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
    // The very bytes: JSON written anew would be another digest.
    await this.#putManifest(repository, tag, mediaType, bytes);
  }

  /** The digest that a tag points to. */
  async digest(image: string): Promise<string> {
    const { repository, tag } = split(image);
    return (await this.#manifest(repository, tag)).descriptor.digest;
  }

  async #forArchitecture(repository: string, tag: string, architecture: string): Promise<Descriptor> {
    const { body, mediaType } = await this.#manifest(repository, tag);
    const config = await this.#call("GET", `${repository}/blobs/${body.config.digest}`);
    const changed = Buffer.from(JSON.stringify({ ...JSON.parse(config.toString("utf8")), architecture }));
    const digest = sha256(changed);
    const location = await this.#uploadLocation(repository);
    const separator = location.includes("?") ? "&" : "?";
    await this.#request("PUT", `${location}${separator}digest=${digest}`, {
      headers: { "content-type": "application/octet-stream" },
      body: changed,
    });
    const manifest = { ...body, config: { ...body.config, digest, size: changed.length } };
    return this.#putManifest(repository, undefined, mediaType, manifest);
  }

  async #manifest(repository: string, tag: string): Promise<Manifest> {
    const accept = Object.values(types).join(", ");
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
    const response = await this.#request("POST", `/v2/${repository}/blobs/uploads/`, {});
    const location = response.headers.get("location");
    if (location === null) throw new Error("The registry gave no place to upload a blob to");
    const { pathname, search } = new URL(location, `http://${this.host}`);
    return pathname + search;
  }

  async #call(method: string, path: string): Promise<Buffer> {
    return Buffer.from(await (await this.#request(method, `/v2/${path}`, {})).arrayBuffer());
  }

  async #request(method: string, path: string, init: { headers?: Record<string, string>; body?: Uint8Array }) {
    const response = await fetch(`http://${this.host}${path}`, {
      method,
      signal: AbortSignal.timeout(30_000),
      ...init,
    });
    if (!response.ok) throw new Error(`${method} ${path} returned ${response.status}: ${await response.text()}`);
    return response;
  }
}

/** Removes from this machine's Docker what was built for the registries of a network. */
export async function removeImages(network: string): Promise<void> {
  const ids = await $undo`docker image ls --all --quiet --filter label=${labelOf(network)}`.lines();
  if (ids.length > 0) await $undo`docker image rm --force ${[...new Set(ids)]}`;
}

function labelOf(network: string): string {
  return `figwasp.acceptance=${network}`;
}

// testcontainers publishes ports on every interface of the machine.
class LoopbackContainer extends GenericContainer {
  protected override async beforeContainerCreated(): Promise<void> {
    for (const bindings of Object.values(this.hostConfig.PortBindings as Record<string, { HostIp?: string }[]>)) {
      for (const binding of bindings) binding.HostIp = "127.0.0.1";
    }
  }
}

function split(image: string): { repository: string; tag: string } {
  const [repository = "", tag = ""] = image.split(":");
  return { repository, tag };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() =>
        typeof address === "object" && address ? resolve(address.port) : reject(new Error("No port")),
      );
    });
  });
}

// An annotation that means nothing is changed until the digest is wanted.
function withDigest(index: object, isWanted: (digest: string) => boolean): Buffer {
  for (let attempt = 0; ; attempt++) {
    const bytes = Buffer.from(JSON.stringify({ ...index, annotations: { attempt: `${attempt}` } }));
    if (isWanted(sha256(bytes))) return bytes;
  }
}

function sha256(bytes: Buffer): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}
