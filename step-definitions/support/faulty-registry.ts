import { nodeImage, scriptOf, type Server } from "./server.ts";
import type { FigwaspWorld } from "./world.ts";

/** Starts fixtures/faulty-registry with one of its faults. It hands requests on to the registry that the scenario pushes to. */
export async function startBefore(world: FigwaspWorld, fault: string): Promise<{ server: Server; url: string }> {
  const host = `faulty.${world.namespace}.test`;
  const server = await world.startServer("faulty", {
    hosts: [host],
    image: nodeImage,
    environment: { REGISTRY: world.registry.clusterUrl, FAULT: fault },
    ...(await scriptOf("faulty-registry")),
    ready: /listening/,
  });
  return { server, url: `http://${host}:5000` };
}
