import { readFile } from "node:fs/promises";
import type { KubernetesObject } from "@kubernetes/client-node";
import { Agent, request } from "undici";
import { YAML } from "zx";
import { interruption } from "./interruption.ts";

interface Kubeconfig {
  clusters: { cluster: { server: string; "certificate-authority-data": string } }[];
  users: { user: { "client-certificate-data": string; "client-key-data": string } }[];
}

export interface Selectors {
  labelSelector?: string;
  fieldSelector?: string;
}

// The paths under which the API server has the resources that the suite asks for.
const groups = {
  "api/v1": ["configmaps", "events", "namespaces", "pods", "secrets", "serviceaccounts", "services"],
  "apis/apps/v1": ["controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets"],
  "apis/batch/v1": ["cronjobs", "jobs"],
  "apis/admissionregistration.k8s.io/v1": ["mutatingwebhookconfigurations"],
};
const prefixes = new Map(
  Object.entries(groups).flatMap(([group, names]) => names.map((name) => [name, group] as const)),
);

/** Asks the API server as the administrator of the run's cluster. The suite repeats many questions until something has
 *  happened, and kubectl would spend most of the time of each on its own start. */
export class ApiServer {
  readonly #server: string;
  readonly #dispatcher: Agent;

  /** Reads address and credentials from a kubeconfig as kind writes it. */
  static async connect(kubeconfig: string): Promise<ApiServer> {
    const { clusters, users } = YAML.parse(await readFile(kubeconfig, "utf8")) as Kubeconfig;
    const [{ cluster } = {}] = clusters;
    const [{ user } = {}] = users;
    if (!cluster || !user) throw new Error(`${kubeconfig} names no cluster, or no user`);
    const ca = decode(cluster["certificate-authority-data"]);
    const cert = decode(user["client-certificate-data"]);
    const key = decode(user["client-key-data"]);
    return new ApiServer(cluster.server, new Agent({ connect: { ca, cert, key } }));
  }

  private constructor(server: string, dispatcher: Agent) {
    this.#server = server;
    this.#dispatcher = dispatcher;
  }

  async read<T extends KubernetesObject>(resource: string, namespace: string, name: string): Promise<T> {
    return JSON.parse(await this.ask("GET", `${pathOf(resource, namespace)}/${name}`)) as T;
  }

  /** Lists the objects of one namespace, or of all namespaces if none is given. */
  async list<T extends KubernetesObject>(
    resource: string,
    namespace: string | undefined,
    selectors: Selectors = {},
  ): Promise<T[]> {
    const query = new URLSearchParams({ ...selectors }).toString();
    const { items } = JSON.parse(await this.ask("GET", `${pathOf(resource, namespace)}?${query}`)) as { items: T[] };
    return items;
  }

  async create(resource: string, namespace: string | undefined, object: KubernetesObject): Promise<void> {
    await this.ask("POST", pathOf(resource, namespace), JSON.stringify(object));
  }

  /** Writes an object as a whole. It is refused if somebody else has written the object since it was read. */
  async replace(resource: string, object: KubernetesObject, fieldManager: string): Promise<void> {
    const { namespace, name = "" } = object.metadata ?? {};
    const path = `${pathOf(resource, namespace)}/${name}?${new URLSearchParams({ fieldManager }).toString()}`;
    await this.ask("PUT", path, JSON.stringify(object));
  }

  /** Asks for the deletion, and does not wait for it. It is no error if the object is gone already. */
  async delete(resource: string, namespace: string | undefined, name: string): Promise<void> {
    const options = JSON.stringify({ propagationPolicy: "Background" });
    await this.ask("DELETE", `${pathOf(resource, namespace)}/${name}`, options).catch((error: unknown) => {
      if (!(error instanceof Refusal && error.status === 404)) throw error;
    });
  }

  /** Returns the body of a successful answer. Throws a Refusal for any other answer. */
  async ask(method: "GET" | "POST" | "PUT" | "DELETE", path: string, body?: string): Promise<string> {
    const { statusCode, body: answer } = await request(`${this.#server}/${path}`, {
      method,
      dispatcher: this.#dispatcher,
      signal: AbortSignal.any([interruption.signal, AbortSignal.timeout(30_000)]),
      ...(body !== undefined && { body, headers: { "content-type": "application/json" } }),
    });
    const text = await answer.text();
    if (statusCode >= 300) throw new Refusal(`${method} /${path} returned ${statusCode}: ${text}`, statusCode);
    return text;
  }
}

/** An answer of the API server that is not a success. */
export class Refusal extends Error {
  readonly status: number;

  constructor(message: string, status: number) {
    super(message);
    this.status = status;
  }
}

function pathOf(resource: string, namespace: string | undefined): string {
  const prefix = prefixes.get(resource);
  if (prefix === undefined) throw new Error(`Cannot ask for "${resource}": the suite does not know its API group`);
  return namespace === undefined ? `${prefix}/${resource}` : `${prefix}/namespaces/${namespace}/${resource}`;
}

function decode(base64: string): string {
  return Buffer.from(base64, "base64").toString("utf8");
}
