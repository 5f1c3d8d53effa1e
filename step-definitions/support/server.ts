import { readFile } from "node:fs/promises";
import type { Container, ContainerOptions } from "./containers.ts";
import { $ } from "./shell.ts";

/** An image of Node without a shell, on which the image of figwasp is based too. */
export const nodeImage = "gcr.io/distroless/nodejs24-debian12:nonroot";

/** A server on the network of the run. Nodes and pods reach it, but this machine does not, since no port is published. */
export class Server {
  readonly name: string;
  readonly #container: Container;

  static async start(options: ContainerOptions): Promise<Server> {
    const { startContainer } = await import("./containers.ts");
    return new Server(options.name, await startContainer(options));
  }

  private constructor(name: string, container: Container) {
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

/** Reads the lines that a container has printed to both of its streams. */
export async function logOf(container: string): Promise<string[]> {
  const { stdall } = await $`docker logs ${container}`;
  return stdall.split("\n").filter((line) => line !== "");
}

/** Selects the lines in which a server has logged a request of figwasp. */
export function ofFigwasp(lines: string[]): string[] {
  return lines.filter((line) => line.includes("figwasp/"));
}

/** Reads a script of fixtures/ that is to run in `nodeImage`. */
export async function scriptOf(fixture: string): Promise<{ files: Record<string, string>; command: string[] }> {
  const path = "/server/server.ts";
  const content = await readFile(new URL(`../../fixtures/${fixture}/server.ts`, import.meta.url), "utf8");
  return { files: { [path]: content }, command: [path] };
}
