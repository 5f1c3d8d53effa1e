import { readFile } from "node:fs/promises";
import { GenericContainer, type StartedTestContainer, Wait } from "testcontainers";
import { $ } from "./shell.ts";

/** Node without a shell, as figwasp's own image is made of. */
export const nodeImage = "gcr.io/distroless/nodejs24-debian12:nonroot";

export interface ServerOptions {
  /** The container's, unique on this machine. */
  name: string;
  /** In the DNS of the network. */
  hosts: string[];
  network: string;
  image: string;
  environment?: Record<string, string>;
  /** By their path in the container. */
  files?: Record<string, string>;
  /** A Docker volume and where it is mounted. */
  volume?: { name: string; path: string };
  /** What it prints when it can be asked. */
  ready: RegExp;
  command?: string[];
}

/** A server on the run's network, published nowhere: the nodes and pods reach it, this machine does not. */
export class Server {
  readonly name: string;
  readonly #container: StartedTestContainer;

  static async start(options: ServerOptions): Promise<Server> {
    const { name, hosts, network, image, environment = {}, files = {}, volume, ready, command } = options;
    const container = new GenericContainer(image)
      .withName(name)
      .withNetworkMode(network)
      .withNetworkAliases(...hosts)
      .withEnvironment(environment)
      .withCopyContentToContainer(Object.entries(files).map(([target, content]) => ({ target, content })))
      .withWaitStrategy(Wait.forLogMessage(ready));
    if (volume) container.withBindMounts([{ source: volume.name, target: volume.path }]);
    if (command) container.withCommand(command);
    return new Server(name, await container.start());
  }

  private constructor(name: string, container: StartedTestContainer) {
    this.name = name;
    this.#container = container;
  }

  async stop(): Promise<void> {
    await this.#container.stop();
  }

  async log(): Promise<string[]> {
    return logOf(this.name);
  }
}

/** What a container has printed, on both of its streams. */
export async function logOf(container: string): Promise<string[]> {
  const { stdall } = await $`docker logs ${container}`;
  return stdall.split("\n").filter((line) => line !== "");
}

/** Of what a server has printed, what it says of figwasp's requests. */
export function ofFigwasp(lines: string[]): string[] {
  return lines.filter((line) => line.includes("figwasp/"));
}

/** A script of fixtures/ to run in `nodeImage`. */
export async function scriptOf(fixture: string): Promise<{ files: Record<string, string>; command: string[] }> {
  const path = "/server/server.ts";
  const content = await readFile(new URL(`../../fixtures/${fixture}/server.ts`, import.meta.url), "utf8");
  return { files: { [path]: content }, command: [path] };
}
