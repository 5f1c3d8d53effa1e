/**
 * How the API server is found from a kubeconfig, which the client library reads, and by which it authenticates.
 */
import type { Agent } from "node:http";
import type { RequestOptions } from "node:https";
import { ConfigError } from "../errors.ts";
import { newAgents } from "../http/fetch.ts";
import { messageOf, quote } from "../text.ts";
import type { ClusterConfig, Connection } from "./api.ts";

/** The cluster of a kubeconfig, by the file and the context that are given, or as kubectl finds them. Runs its credential
 *  plugin. Throws ConfigError where there is none or it cannot be read, and Error where it cannot authenticate. */
export async function readKubeconfig({ kubeconfig: file, context: wanted }: ClusterConfig): Promise<Connection> {
  const { KubeConfig } = await import("./client-library.ts");
  const kubeconfig = new KubeConfig();
  try {
    if (file === undefined) kubeconfig.loadFromDefault();
    else kubeconfig.loadFromFile(file);
  } catch (cause) {
    const which = file === undefined ? "the kubeconfig" : `the kubeconfig ${quote(file)}`;
    throw new ConfigError(`Cannot read ${which}: ${messageOf(cause)}`, { cause });
  }
  if (wanted !== undefined) {
    const names = kubeconfig.getContexts().map(({ name }) => name);
    if (!names.includes(wanted))
      throw new ConfigError(`Cannot find context ${quote(wanted)}: one of ${names.join(", ")} is needed`);
    kubeconfig.setCurrentContext(wanted);
  }
  const server = kubeconfig.getCurrentCluster()?.server;
  const context = kubeconfig.getContextObject(kubeconfig.getCurrentContext());
  // The library's last resort is a server that nobody has run since Kubernetes 1.20.
  if (!server || (context?.name === "loaded-context" && server === "http://localhost:8080")) {
    const needed = "a kubeconfig with a current context is needed, or a pod with a ServiceAccount token";
    throw new ConfigError(`Cannot find a cluster: ${needed}`);
  }
  const options: RequestOptions = {};
  await kubeconfig.applyToHTTPSOptions(options).catch((cause: unknown) => {
    const reason = messageOf(cause) || "its credential plugin failed";
    throw new Error(`Cannot authenticate as the kubeconfig says: ${reason}`, { cause });
  });
  const { agent, auth, headers: given = {}, ca, cert, key, pfx, passphrase, servername, rejectUnauthorized } = options;
  const basic = auth && { authorization: `Basic ${Buffer.from(auth).toString("base64")}` };
  const headers = { ...(given as Record<string, string>), ...basic };
  // Through a proxy, only the library's own agent leads there.
  const own = kubeconfig.getCurrentCluster()?.proxyUrl ? (agent as Agent) : undefined;
  const tls = { ca, cert, key, pfx, passphrase, servername, rejectUnauthorized };
  const known = Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined));
  const agents = own ? { "http:": own, "https:": own } : newAgents(known);
  return { server, namespace: context?.namespace || "default", headers, agents };
}
