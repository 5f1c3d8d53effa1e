/**
 * Where the API server is and as whom it is asked, from a kubeconfig. The client library reads it and authenticates.
 */
import type { Agent } from "node:http";
import type { RequestOptions } from "node:https";
import type { KubeConfig } from "@kubernetes/client-node";
import { ConfigError } from "../errors.ts";
import { newAgents } from "../http/fetch.ts";
import { messageOf, quote } from "../text.ts";
import type { ClusterConfig, Connection } from "./connection.ts";

/** The connection that a kubeconfig describes: the file and the context that are given, or those that kubectl would
 *  take. Runs its credential plugin. Throws ConfigError if there is no kubeconfig or it cannot be read, and Error if it
 *  does not authenticate. */
export async function readKubeconfig({ kubeconfig: file, context }: ClusterConfig): Promise<Connection> {
  const kubeconfig = await loadKubeconfig(file);
  if (context !== undefined) chooseContext(kubeconfig, context);
  const { server, namespace } = currentCluster(kubeconfig);
  const { headers, agents } = await authenticate(kubeconfig);
  return { server, namespace, headers, agents };
}

async function loadKubeconfig(file: string | undefined): Promise<KubeConfig> {
  const { KubeConfig } = await import("./client-library.ts");
  const kubeconfig = new KubeConfig();
  try {
    if (file === undefined) kubeconfig.loadFromDefault();
    else kubeconfig.loadFromFile(file);
    return kubeconfig;
  } catch (cause) {
    const which = file === undefined ? "the kubeconfig" : `the kubeconfig ${quote(file)}`;
    // A parser of YAML quotes the lines around a mistake, and these may hold a token.
    const [reason = ""] = messageOf(cause).split("\n");
    throw new ConfigError(`Cannot read ${which}: ${reason}`, { cause });
  }
}

function chooseContext(kubeconfig: KubeConfig, context: string): void {
  const names = kubeconfig.getContexts().map(({ name }) => name);
  if (!names.includes(context)) {
    throw new ConfigError(`Cannot find context ${quote(context)}: one of ${names.join(", ")} is needed`);
  }
  kubeconfig.setCurrentContext(context);
}

function currentCluster(kubeconfig: KubeConfig): Pick<Connection, "server" | "namespace"> {
  const server = kubeconfig.getCurrentCluster()?.server;
  const context = kubeconfig.getContextObject(kubeconfig.getCurrentContext());
  // The library falls back to the insecure port of the API server, which Kubernetes removed in 1.20.
  const isFallback = context?.name === "loaded-context" && server === "http://localhost:8080";
  if (!server || isFallback) {
    const needed = "a kubeconfig with a current context is needed, or a pod with a ServiceAccount token";
    throw new ConfigError(`Cannot find a cluster: ${needed}`);
  }
  return { server, namespace: context?.namespace || "default" };
}

async function authenticate(kubeconfig: KubeConfig): Promise<Pick<Connection, "headers" | "agents">> {
  const options: RequestOptions = {};
  await kubeconfig.applyToHTTPSOptions(options).catch((cause: unknown) => {
    const reason = messageOf(cause) || "its credential plugin failed";
    throw new Error(`Cannot authenticate as the kubeconfig says: ${reason}`, { cause });
  });
  const { agent, auth, headers = {}, ca, cert, key, pfx, passphrase, servername, rejectUnauthorized } = options;
  const basic = auth && { authorization: `Basic ${Buffer.from(auth).toString("base64")}` };
  const allHeaders = { ...(headers as Record<string, string>), ...basic };
  // Only the library's own agent knows the proxy of the kubeconfig.
  if (kubeconfig.getCurrentCluster()?.proxyUrl) {
    const proxyAgent = agent as Agent;
    return { headers: allHeaders, agents: { "http:": proxyAgent, "https:": proxyAgent } };
  }
  const tls = { ca, cert, key, pfx, passphrase, servername, rejectUnauthorized };
  const givenTls = Object.fromEntries(Object.entries(tls).filter(([, value]) => value !== undefined));
  return { headers: allHeaders, agents: newAgents(givenTls) };
}
