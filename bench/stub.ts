/**
 * The API server and the registries for the measured programs. They run in a process of their own, so that their cost
 * is not counted. stage.ts forks this process, sends it a size and a latency, and asks for the counts after each run.
 */
import { once } from "node:events";
import type { Ending } from "../test/support/leaks.ts";
import { crowd, publicRegistry } from "../test/support/crowd.ts";
import type { Answer } from "../test/support/serve.ts";
import { newAuthority, serveTls } from "../test/support/tls.ts";
import { type Counts, type Order, registryNames, type Servers } from "./stage.ts";

// kubectl discovers the API's resources before it requests them.
const apps = ["deployments", "statefulsets", "daemonsets", "replicasets"];
const kindOf: Record<string, string> = {
  deployments: "Deployment",
  statefulsets: "StatefulSet",
  daemonsets: "DaemonSet",
};
const discovery: Record<string, object> = {
  "/api": { kind: "APIVersions", versions: ["v1"] },
  "/apis": { kind: "APIGroupList", apiVersion: "v1", groups: [groupOf("apps", "apps/v1")] },
  "/api/v1": resourcesOf("v1", ["pods"]),
  "/apis/apps/v1": resourcesOf("apps/v1", apps),
};

function groupOf(name: string, groupVersion: string): object {
  const version = { groupVersion, version: "v1" };
  return { name, versions: [version], preferredVersion: version };
}

function resourcesOf(groupVersion: string, names: string[]): object {
  const verbs = ["get", "list", "patch"];
  const resources = names.map((name) => {
    return { name, singularName: "", namespaced: true, kind: kindOf[name] ?? "Pod", verbs };
  });
  return { kind: "APIResourceList", apiVersion: "v1", groupVersion, resources };
}

// Requires the pod's token, so that a run that does not send it fails.
function behindToken(token: string, api: Answer): Answer {
  return (request, response) => {
    const known = discovery[request.path.split("?")[0] ?? ""];
    if (request.headers.authorization !== `Bearer ${token}`) response.writeHead(401).end();
    else if (known) response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(known));
    else api(request, response);
  };
}

// The servers end with the process.
const unending: Ending = { after: () => undefined, signal: new AbortController().signal };

async function serveAll({ size, latencyMs, token }: Order) {
  const late = (answer: Answer): Answer => {
    return (request, response) => void setTimeout(() => answer(request, response), latencyMs);
  };
  const authority = await newAuthority("bench");
  const registries = await Promise.all(
    registryNames(size).map(async (name) => serveTls(unending, await authority.issue(name), late(publicRegistry()))),
  );
  const names = registryNames(size).map((name, at) => `${name}:${registries[at]?.host.split(":")[1]}`);
  const answer = late(behindToken(token, crowd(size, names)));
  const server = await serveTls(unending, await authority.issue("localhost"), answer);
  const told: Servers = { ca: authority.cert, api: server.host };
  return { told, server, registries };
}

function count({ server, registries }: Awaited<ReturnType<typeof serveAll>>): Counts {
  const asked = server.lines().map((line) => line.startsWith("GET "));
  const lines = registries.flatMap((registry) => registry.lines());
  return {
    reads: asked.filter((isRead) => isRead).length,
    writes: asked.filter((isRead) => !isRead).length,
    heads: lines.filter((line) => line.startsWith("HEAD ")).length,
    tokens: lines.filter((line) => line === "GET /token").length,
    handshakes: [server, ...registries].reduce((sum, stub) => sum + stub.connections(), 0),
  };
}

const [order] = (await once(process, "message")) as [Order];
const servers = await serveAll(order);
process.on("message", () => process.send?.(count(servers)));
process.send?.(servers.told);
// Ends the process if the benchmark has failed.
process.once("disconnect", () => process.exit());
