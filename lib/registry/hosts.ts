/**
 * Where a registry is asked, and how: the same hosts as those of the nodes' containerd, from a folder that has the
 * format of its /etc/containerd/certs.d (its docs/hosts.md). The folder may hold a hosts.toml, or only certificates as
 * Docker has them.
 */
import { readdirSync } from "node:fs";
import { resolve } from "node:path";
import type { Agents } from "../http/fetch.ts";
import { messageOf } from "../text.ts";
import { newHostAgents, type Proxies, readCa, readClientCertificate } from "./host-agents.ts";
import { type HostSettings, readHostsToml, unconfigured } from "./hosts-toml.ts";

export type { Proxies } from "./host-agents.ts";

/** Where a registry's API is, and how it is reached. */
export interface Endpoint {
  /** `http://kind-registry:5000/v2`. */
  base: string;
  /** Whether it stands in for the registry, rather than being the registry's own address. */
  isMirror: boolean;
  /** Tells a host of another name which registry is meant: `?ns=docker.io`. Empty for the registry's own host. */
  query: string;
  /** What hosts.toml adds to each request to this host. Names are in lower case. */
  headers: Record<string, string>;
  /** The file that turns off the verification of this host's certificate; undefined where it is verified. */
  unverifiedBy: string | undefined;
  agents: Agents;
  /** For hosts that this one leads to, such as its token server: they get its CAs, but not its client certificates, nor
   *  what else is configured for this host alone. */
  otherAgents: Agents;
}

/** The hosts of registries, by a folder in containerd's format and the proxy variables. */
export class Hosts {
  readonly #folder: string;
  readonly #proxies: Proxies;
  readonly #defaultAgents: Agents;

  /** `folder` holds a folder for each configured registry: `registry.example/hosts.toml`. It need not exist. */
  constructor(folder: string, proxies: Proxies) {
    this.#folder = folder;
    this.#proxies = proxies;
    this.#defaultAgents = newHostAgents(proxies, {});
  }

  /** Where to ask for the images of a registry (`docker.io`, `registry.example:5000`), in containerd's order: the
   *  mirrors of its hosts.toml, then its server. The first of these folders that exists is read: HOST_PORT_, HOST:PORT,
   *  _default. One without a hosts.toml holds CAs (`*.crt`) and client certificates (`*.cert` with `*.key`), as Docker
   *  has them. Throws Error, with the file. */
  async endpointsOf(registry: string): Promise<Endpoint[]> {
    for (const name of new Set([registry.replace(/:(\d+)$/, "_$1_"), registry, "_default"])) {
      const folder = resolve(this.#folder, name);
      const files = listFiles(folder);
      if (!files) continue;
      const hasToml = files.includes("hosts.toml");
      const source = hasToml ? resolve(folder, "hosts.toml") : folder;
      try {
        const { base } = defaultHost(registry);
        const hosts = hasToml ? readHostsToml(source, base) : [hostWithCertificates(registry, files)];
        return hosts.map((host) => this.#toEndpoint(registry, host, { folder, source }));
      } catch (cause) {
        throw new Error(`Cannot use ${source}: ${messageOf(cause).split("\n")[0]}`, { cause });
      }
    }
    return [this.#toEndpoint(registry, defaultHost(registry), { folder: "", source: "" })];
  }

  #toEndpoint(registry: string, host: HostSettings, from: { folder: string; source: string }): Endpoint {
    const { base, isMirror, headers, isUnverified, dialTimeoutMs } = host;
    const hasOtherName = new URL(base).host !== new URL(defaultHost(registry).base).host;
    const query = hasOtherName ? `?ns=${encodeURIComponent(registry)}` : "";
    const inFolder = (file: string) => resolve(from.folder, file);
    const cas = host.cas.map((file) => readCa(inFolder(file)));
    const clients = host.clients.map(([cert, key]) => readClientCertificate(inFolder(cert), inFolder(key)));

    let otherAgents = this.#defaultAgents;
    if (cas.length > 0) otherAgents = newHostAgents(this.#proxies, { cas });
    let agents = otherAgents;
    if (clients.length > 0 || isUnverified || dialTimeoutMs !== undefined) {
      agents = newHostAgents(this.#proxies, { cas, clients, isUnverified, dialTimeoutMs });
    }
    const unverifiedBy = isUnverified ? from.source : undefined;
    return { base, isMirror, query, headers, unverifiedBy, agents, otherAgents };
  }
}

// Undefined where the folder does not exist.
function listFiles(folder: string): string[] | undefined {
  try {
    return readdirSync(folder);
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw new Error(`Cannot read ${folder}: ${messageOf(error)}`, { cause: error });
  }
}

// Plain http only for a loopback name with a port other than 443, as containerd has it; `*.localhost` is loopback by
// RFC 6761.
function defaultHost(registry: string): HostSettings {
  const [, name = "", port = "443"] = /^(.*?)(?::(\d+))?$/.exec(registry) ?? [];
  const isLoopback = /^(?:(?:[^.]+\.)*localhost|127(?:\.\d{1,3}){3}|\[::1\])$/.test(name);
  const scheme = isLoopback && port !== "443" ? "http" : "https";
  const host = registry === "docker.io" ? "registry-1.docker.io" : registry;
  return { base: `${scheme}://${host}/v2`, isMirror: false, ...unconfigured };
}

// A `*.cert` without a `*.key` of the same name holds its key itself.
function hostWithCertificates(registry: string, files: string[]): HostSettings {
  const clients = files
    .filter((file) => file.endsWith(".cert"))
    .map((file): [string, string] => {
      const keyFile = file.replace(/cert$/, "key");
      return [file, files.includes(keyFile) ? keyFile : file];
    });
  return { ...defaultHost(registry), cas: files.filter((file) => file.endsWith(".crt")), clients };
}
