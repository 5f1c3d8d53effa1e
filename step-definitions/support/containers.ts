import { GenericContainer, Wait } from "testcontainers";

// Loading testcontainers takes half a second. Only this module does it, and others import this module when they start a
// container.

export interface ContainerOptions {
  /** The name must be unique on this machine. */
  name: string;
  image: string;
  network: string;
  /** Its names in the DNS of the network. */
  hosts: string[];
  labels: Record<string, string>;
  environment?: Record<string, string>;
  /** The content of each file, by its path in the container. */
  files?: Record<string, string>;
  /** A Docker volume and where it is mounted. */
  volume?: { name: string; path: string };
  command?: string[];
  /** The container prints this when it is ready to be asked. */
  ready: RegExp;
  /** A port of the container, to be published on a free port of this machine's loopback interface. */
  port?: number;
}

export interface Container {
  /** The port on this machine's loopback interface, if one was published. */
  port: number | undefined;
  stop: () => Promise<unknown>;
}

export async function startContainer(options: ContainerOptions): Promise<Container> {
  const { name, image, network, hosts, labels, environment = {}, files = {}, volume, command, ready, port } = options;
  const container = new LoopbackContainer(image)
    .withName(name)
    .withNetworkMode(network)
    .withNetworkAliases(...hosts)
    .withLabels(labels)
    .withEnvironment(environment)
    .withCopyContentToContainer(Object.entries(files).map(([target, content]) => ({ target, content })))
    // The log is read, since testcontainers would send an HTTP request to the gateway if the suite runs in a container.
    .withWaitStrategy(Wait.forLogMessage(ready));
  if (volume) container.withBindMounts([{ source: volume.name, target: volume.path }]);
  if (command) container.withCommand(command);
  // Docker chooses the port on this machine, so that two workers cannot choose the same one.
  if (port !== undefined) container.withExposedPorts(port);
  const started = await container.start();
  return {
    port: port === undefined ? undefined : started.getMappedPort(port),
    stop: () => started.stop({ timeout: 0 }),
  };
}

// testcontainers publishes ports on every interface of the machine.
class LoopbackContainer extends GenericContainer {
  protected override async beforeContainerCreated(): Promise<void> {
    for (const bindings of Object.values(
      (this.hostConfig.PortBindings ?? {}) as Record<string, { HostIp?: string }[]>,
    )) {
      for (const binding of bindings) binding.HostIp = "127.0.0.1";
    }
  }
}
