/**
 * Where the API server is and as whom it is asked, and how a pod finds both by its ServiceAccount.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "../errors.ts";
import { type Agents, newAgents } from "../http/fetch.ts";
import { messageOf } from "../text.ts";

/** Which cluster is asked, and how its workloads are written. */
export interface ClusterConfig {
  /** A file; undefined: KUBECONFIG, ~/.kube/config or the pod's ServiceAccount, as kubectl chooses. */
  kubeconfig: string | undefined;
  /** A context of the kubeconfig; undefined: its current one. */
  context: string | undefined;
  /** The name that the API server records as the writer of the annotations. */
  fieldManager: string;
  /** The pod-template annotation that makes the workload roll. */
  restartAnnotation: string;
}

/** Where the API server is, and as whom it is asked. */
export interface Connection {
  /** `https://10.96.0.1:443`. */
  server: string;
  /** Where to look when no namespace is named. */
  namespace: string;
  /** Sent with each request: the Authorization header, if there is one. */
  headers: Record<string, string>;
  agents: Agents;
}

const accountFolder = "/var/run/secrets/kubernetes.io/serviceaccount";

/** The connection of a pod, from the files of its ServiceAccount and two variables (kubernetes.io, "Accessing the
 *  Kubernetes API from a Pod"). Undefined outside a pod, where the folder holds no token. Throws ConfigError if a file
 *  or variable is missing. */
export function readServiceAccount(
  folder = accountFolder,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Connection | undefined {
  if (!existsSync(join(folder, "token"))) return undefined;
  const { KUBERNETES_SERVICE_HOST: host = "", KUBERNETES_SERVICE_PORT: port = "" } = env;
  const server = `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
  if (!URL.canParse(server)) {
    throw new ConfigError(
      "Cannot find a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not say where",
    );
  }
  try {
    const read = (name: string) => readFileSync(join(folder, name), "utf8").trim();
    const headers = { authorization: `Bearer ${read("token")}` };
    return { server, namespace: read("namespace") || "default", headers, agents: newAgents({ ca: read("ca.crt") }) };
  } catch (cause) {
    throw new ConfigError(`Cannot use the ServiceAccount in ${folder}: ${messageOf(cause)}`, { cause });
  }
}
