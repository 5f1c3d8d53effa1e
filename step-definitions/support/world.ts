import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { World } from "@cucumber/cucumber";
import type {
  KubernetesObject,
  V1ControllerRevision,
  V1Deployment,
  V1Job,
  V1Pod,
  V1PodSpec,
} from "@kubernetes/client-node";
import { YAML } from "zx";
import type { Selectors } from "./api-server.ts";
import type { ContainerOptions } from "./containers.ts";
import { type AuditEvent, type Environment, root, runId, runLabel, temporaryFolder } from "./environment.ts";
import { eventually } from "./eventually.ts";
import { betrays, type Credential, createCredential, dockerConfig } from "./credentials.ts";
import type { PrivateRegistry } from "./private-registry.ts";
import { type HostsFolder, type IndexOptions, LocalRegistry } from "./registry.ts";
import { type Kind, missingOf } from "./rollout.ts";
import { ofFigwasp, Server } from "./server.ts";
import { parseObject } from "../../lib/text.ts";
import { mistakesIn } from "../../test/support/schema.ts";
import { shell } from "./shell.ts";
import { type Kind as KindOfWork, mediaType, Stopwatch } from "./waits.ts";

/** One run of figwasp, with what it printed and how it ended. */
export interface Run {
  exitCode: number;
  log: string;
  /** The part of the log that went to standard output. */
  output: string;
  /** Whether a step has checked the exit code. */
  isAsserted: boolean;
}

/** The differences between a workload of the scenario and the one in fixtures/echo.yaml. */
export interface Workload {
  kind?: Kind;
  name?: string;
  namespace?: string;
  image?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  /** The field manager that applies it, if it is not that of kubectl. */
  fieldManager?: string;
  spec?: Record<string, unknown>;
  /** Fields of the container that the client hears. */
  container?: Record<string, unknown>;
  pod?: (spec: V1PodSpec) => void;
}

type Named = Required<Pick<Workload, "kind" | "name" | "namespace">>;

/** The state of the scenario's workloads: the pods that run, and how often each workload was changed. */
export interface Standing {
  pods: string[];
  generations: string[];
}

/** What is applied to put figwasp into the cluster. */
export interface Installation {
  /** Paths of manifests or kustomizations, relative to the root of the repository. */
  resources: string[];
  components?: string[];
  kind: "Job" | "CronJob";
  /** Variables beside those that the manifests set. */
  env?: Record<string, string>;
  /** Whether the manifests themselves name the namespace of each object. */
  hasNamespaces?: boolean;
  /** The files that tell figwasp how to reach registries. */
  hosts?: HostsFolder;
  patches?: object[];
}

/** All that belongs to one scenario: its namespace, repositories, workloads, client, and runs of figwasp. */
export class FigwaspWorld extends World {
  #environment: Environment | undefined;
  #namespace = "";
  /** The registry of the scenario's repository. */
  registry!: LocalRegistry;
  /** The repository `NAMESPACE/echo`, and the tag that the workload follows. */
  repository = "";
  tag = "latest";
  /** The digests that the tag has pointed to, by the answer of the image. */
  readonly pushed = new Map<string, string>();
  /** The image of another container, as a pod template names it, and its registry if it has one of its own. */
  otherImage = "";
  otherRegistry: LocalRegistry | undefined;
  /** The mirror that the nodes ask before they ask the registry. */
  mirror: LocalRegistry | undefined;
  /** The host in the names of the images, if it differs from the one that is pushed to. */
  imageHost: string | undefined;
  privateRegistry: PrivateRegistry | undefined;
  /** A registry with a fault, which only figwasp asks. */
  faulty: Server | undefined;
  /** The files that tell figwasp how to reach registries, if the scenario sets them. */
  hosts: HostsFolder | undefined;
  ownFigwaspImage: string | undefined;
  /** Whether figwasp is run by the command of the README, which starts more slowly. */
  isRunAsInReadme = false;
  /** The command line of an operator who follows a page. */
  operator: ReturnType<typeof shell> | undefined;
  /** The pull secrets that pods of the scenario name. */
  readonly #pullSecrets = new Set<string>();
  readonly #credentials: Credential[] = [];
  /** Servers that figwasp may ask, but must not send a credential. */
  readonly strangers = new Set<{ name: string; log: () => Promise<string[]> }>();
  readonly runs: Run[] = [];
  /** The objects that figwasp's manifests have made, in a scenario that looks at them. */
  readonly installed: KubernetesObject[] = [];
  readonly #workloads: Named[] = [];
  /** The state of the workloads at the last `remember`. */
  #standingBefore: Standing = { pods: [], generations: [] };
  readonly #revisionsBefore = new Map<string, number>();
  readonly #objectsBefore = new Map<string, V1Deployment>();
  readonly #namespaces: string[] = [];
  readonly #undo: (() => Promise<unknown>)[] = [];
  readonly #stopwatch = new Stopwatch();

  async open(environment: Environment, namespace: string): Promise<void> {
    this.#environment = environment;
    this.#namespace = namespace;
    this.registry = environment.registry;
    this.repository = `${namespace}/echo`;
    await this.spend("namespace", () => this.createNamespace(namespace));
  }

  /** Deletes what the scenario has made, except its namespaces. It tries all of it before it throws what went wrong. */
  async close(): Promise<void> {
    this.attach(JSON.stringify(this.#stopwatch.spent), { mediaType, fileName: "spent.json" });
    const ended = await Promise.allSettled(this.#undo.map((undo) => undo()));
    const failures = ended.flatMap((each) => (each.status === "rejected" ? [each.reason as unknown] : []));
    if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join("; "));
  }

  /** Asks for the deletion of the namespaces, and does not wait for it. */
  async deleteNamespaces(): Promise<void> {
    for (const name of this.#namespaces) await this.environment.apiServer.delete("namespaces", undefined, name);
  }

  atTheEnd(undo: () => Promise<unknown>): void {
    this.#undo.push(undo);
  }

  /** Does the work, and measures it for the summary of the run. */
  async spend<T>(kind: KindOfWork, work: () => Promise<T>): Promise<T> {
    return this.#stopwatch.measure(kind, work);
  }

  get environment(): Environment {
    assert(this.#environment, "the scenario was not opened");
    return this.#environment;
  }

  get namespace(): string {
    return this.#namespace;
  }

  /** The image as the registry knows it, `repository:tag`. */
  get tagged(): string {
    return `${this.repository}:${this.tag}`;
  }

  /** The image as a pod template names it. */
  get image(): string {
    return `${this.imageHost ?? this.registry.host}/${this.tagged}`;
  }

  /** The image of figwasp, as a pod template names it. It is that of the run, unless the scenario has built its own. */
  get figwaspImage(): string {
    return this.ownFigwaspImage ?? `${this.environment.registry.host}/${this.environment.figwaspImage}`;
  }

  /** The file that tells the nodes, in a scenario with a mirror, how to reach the registry. */
  get mirroredHosts(): HostsFolder {
    assert(this.mirror, "the scenario has no mirror");
    const mirror = `[host."${this.mirror.clusterUrl}"]\ncapabilities = ["pull", "resolve"]\n`;
    const hostsToml = `server = "${this.registry.clusterUrl}"\n\n${mirror}`;
    return { [`${this.imageHost ?? this.registry.host}/hosts.toml`]: hostsToml };
  }

  /** A command line whose kubectl talks to the cluster of the run. */
  get $() {
    return shell({ env: this.#env(), cwd: root });
  }

  #env(more: Record<string, string> = {}): NodeJS.ProcessEnv {
    return { ...process.env, KUBECONFIG: this.environment.kubeconfig, ...more };
  }

  // --- The cluster ---

  async createNamespace(name: string): Promise<void> {
    // The strictest Pod Security Standard is enforced, which all that deploy/ ships has to pass.
    const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
    const metadata = { name, labels: { ...labels, [runLabel]: runId } };
    await this.environment.apiServer.create("namespaces", undefined, { metadata });
    this.#namespaces.push(name);
  }

  /** Waits until the namespace of every other scenario is gone, also of those that have ended. */
  async waitUntilAlone(): Promise<void> {
    await this.spend("namespace", () => eventually(() => this.#assertAlone()));
  }

  // KEEP=1 leaves the namespaces of failed scenarios, which are deleted here. The report of each holds the evidence.
  async #assertAlone(): Promise<void> {
    const { apiServer } = this.environment;
    const found = await apiServer.list("namespaces", undefined, { labelSelector: runLabel });
    const others = found.filter(({ metadata }) => metadata?.name !== this.#namespace);
    for (const { metadata } of others) {
      if (!metadata?.deletionTimestamp) await apiServer.delete("namespaces", undefined, metadata?.name ?? "");
    }
    const names = others.map(({ metadata }) => metadata?.name);
    assert.deepEqual(names, [], "namespaces of other scenarios are left");
  }

  /** Sets the Pod Security Standard for the pods that are made from now on. */
  async enforce(standard: "baseline" | "restricted"): Promise<void> {
    const label = `pod-security.kubernetes.io/enforce=${standard}`;
    await this.$`kubectl label namespace ${this.#namespace} ${label} --overwrite`;
  }

  /** Runs kubectl in the scenario's namespace. */
  async kubectl(...words: string[]): Promise<string> {
    return this.$`kubectl --namespace ${this.#namespace} ${words}`.text();
  }

  async apply(...objects: object[]): Promise<void> {
    await this.#applyAs([], objects);
  }

  async #applyAs(flags: string[], objects: object[]): Promise<void> {
    const input = objects.map((object) => YAML.stringify(object)).join("---\n");
    await this.$({ input })`kubectl apply ${flags} -f -`;
  }

  async read<T extends KubernetesObject>(resource: string, name: string): Promise<T> {
    return this.environment.apiServer.read<T>(resource, this.#namespace, name);
  }

  async list<T extends KubernetesObject>(resource: string, selectors: Selectors = {}): Promise<T[]> {
    return this.environment.apiServer.list<T>(resource, this.#namespace, selectors);
  }

  /** Deploys fixtures/echo.yaml with these changes, waits until it has rolled out, and remembers how it is. */
  async deploy(changes: Workload = {}): Promise<void> {
    const {
      kind = "Deployment",
      name = "my-app",
      namespace = this.#namespace,
      labels = {},
      annotations = {},
    } = changes;
    const text = await readFile(join(root, "fixtures/echo.yaml"), "utf8");
    const documents = YAML.parseAllDocuments(text.replaceAll("my-app", name));
    const [workload, service] = documents.map((document) => document.toJSON() as V1Deployment);
    const pod = workload?.spec?.template.spec;
    assert(workload?.spec && pod?.containers[0] && service, "fixtures/echo.yaml holds a Deployment and a Service");
    Object.assign(pod.containers[0], { image: changes.image ?? this.image, ...changes.container });
    changes.pod?.(pod);
    Object.assign(workload, { kind, metadata: { name, namespace, labels, annotations } });
    Object.assign(service, { metadata: { name, namespace } });
    if (kind !== "Deployment") Object.assign(workload.spec, { strategy: undefined });
    if (kind === "DaemonSet") Object.assign(workload.spec, { replicas: undefined });
    if (kind === "StatefulSet") Object.assign(workload.spec, { serviceName: name, podManagementPolicy: "Parallel" });
    Object.assign(workload.spec, changes.spec);
    const flags = changes.fieldManager === undefined ? [] : ["--field-manager", changes.fieldManager];
    await this.spend("rollouts", () => this.#applyAs(flags, [workload, service]));
    const known = this.#workloads.some((each) => each.name === name && each.namespace === namespace);
    if (!known) this.#workloads.push({ kind, name, namespace });
    await this.rolledOut();
    await this.remember();
  }

  /** Waits until the newest template of every workload runs everywhere, and all older pods are gone. */
  async rolledOut(): Promise<void> {
    await this.spend("rollouts", async () => {
      for (const workload of this.#workloads) await eventually(() => this.#assertRolledOut(workload));
      const pods = await eventually(() => this.#podsAtRest());
      for (const { spec } of pods) {
        for (const { name = "" } of spec?.imagePullSecrets ?? []) this.#pullSecrets.add(name);
      }
    });
  }

  async #podsAtRest(): Promise<V1Pod[]> {
    const pods = await this.#pods();
    assert(!pods.some(({ metadata }) => metadata?.deletionTimestamp), "old pods are still ending");
    return pods;
  }

  async #assertRolledOut(workload: Named): Promise<void> {
    const missing = missingOf(workload.kind, await this.#read(workload));
    assert(missing === undefined, `${workload.kind} ${workload.name} has not rolled out: ${missing}`);
  }

  async remember(): Promise<void> {
    for (const workload of this.#workloads) {
      this.#revisionsBefore.set(workload.name, await this.#revision(workload.name));
      this.#objectsBefore.set(workload.name, await this.#read(workload));
    }
    this.#standingBefore = await this.standing();
  }

  objectBefore(name: string): V1Deployment {
    return this.#objectsBefore.get(name) ?? assert.fail(`the scenario has no workload ${name}`);
  }

  get standingBefore(): Standing {
    return this.#standingBefore;
  }

  /** Reads the state of the workloads. The API server counts a change at once, before the pods have followed. */
  async standing(): Promise<Standing> {
    const running = (await this.#pods()).filter(({ status }) => status?.phase === "Running");
    const pods = running.map(({ metadata }) => metadata?.uid ?? "").toSorted();
    const generations: string[] = [];
    for (const workload of this.#workloads) {
      const { metadata } = await this.#read(workload);
      generations.push(`${workload.name} ${metadata?.generation}`);
    }
    return { pods, generations };
  }

  async podNames(): Promise<string[]> {
    return (await this.#pods()).map(({ metadata }) => metadata?.name ?? "");
  }

  /** Counts the rollouts since `remember`, of the named workloads or of all. */
  async rollouts(...names: string[]): Promise<number> {
    const counted = names.length > 0 ? names : this.#workloads.map(({ name }) => name);
    let sum = 0;
    for (const name of counted) sum += (await this.#revision(name)) - (this.#revisionsBefore.get(name) ?? NaN);
    return sum;
  }

  async #pods(): Promise<V1Pod[]> {
    return this.list<V1Pod>("pods", { labelSelector: "part-of=scenario" });
  }

  async #revision(name: string): Promise<number> {
    const workload = this.#workloads.find((each) => each.name === name);
    assert(workload, `the scenario has no workload ${name}`);
    const { kind, namespace } = workload;
    const { metadata } = await eventually(() => this.#readObserved(workload));
    if (kind === "Deployment") return Number(metadata?.annotations?.["deployment.kubernetes.io/revision"] ?? "0");
    const { apiServer } = this.environment;
    const labelSelector = `app=${name}`;
    const found = await apiServer.list<V1ControllerRevision>("controllerrevisions", namespace, { labelSelector });
    return Math.max(0, ...found.map(({ revision }) => revision));
  }

  // A controller writes the revision of a template before it says that it has seen the template.
  async #readObserved(workload: Named): Promise<V1Deployment> {
    const read = await this.#read(workload);
    const { metadata: { generation = NaN } = {}, status: { observedGeneration = 0 } = {} } = read;
    assert(observedGeneration >= generation, `the controller has not seen the newest template of ${workload.name}`);
    return read;
  }

  async #read({ kind, name, namespace }: Named): Promise<V1Deployment> {
    return this.environment.apiServer.read<V1Deployment>(`${kind.toLowerCase()}s`, namespace, name);
  }

  // --- The client ---

  /** Asks the Service, as a client does, and returns its answer. */
  async hear(): Promise<string> {
    const service = `api/v1/namespaces/${this.#namespace}/services/my-app:80`;
    return this.environment.apiServer.ask("GET", `${service}/proxy/`);
  }

  /** Waits until the client hears the reply. */
  async comeToHear(reply: string): Promise<void> {
    await this.spend("the client", () => eventually(async () => assert.equal(await this.hear(), reply)));
  }

  // --- Runs of figwasp ---

  /** Runs figwasp in the root of the repository, as on a laptop. Without arguments it looks at the scenario's workload. */
  async run(argv: string[] = [], env: Record<string, string> = {}): Promise<Run> {
    const named = argv.length > 0 ? {} : this.#named();
    const variables = { FIGWASP_TARGET_NAMESPACE: this.#namespace, ...named, ...env };
    const words = argv.filter((word) => word !== "");
    const run = this.spend("figwasp on this machine", () => this.#figwasp(words, variables));
    const { exitCode, stdall, stdout } = await run;
    return this.record({ exitCode: exitCode ?? -1, log: stdall, output: stdout });
  }

  // The bundle is what the image and kubectl's plugin run. The command of the README takes ten times the CPU to start, since it
  // starts npx and tsx, and takes the types out of each file.
  #figwasp(words: string[], variables: Record<string, string> = {}) {
    const $ = shell({ cwd: root, env: this.#env(variables) });
    const program = this.isRunAsInReadme ? ["npx", "tsx", "figwasp.ts"] : [process.execPath, this.environment.bundle];
    return $`${program} ${words}`.nothrow();
  }

  /** Says where the JSON document of a dry run, made as the scenario has ended, does not follow its schema. */
  async mistakesInDocument(): Promise<string> {
    const limits = ["--client-timeout=5s", "--timeout=20s"];
    const words = ["--all", "-n", this.#namespace, "--dry-run", "-o", "json", ...limits];
    const { stdout, stdall } = await this.#figwasp(words);
    const document = parseObject(Buffer.from(stdout));
    return document ? mistakesIn(document) : `it is no JSON: ${stdall}`;
  }

  #named(): Record<string, string> {
    const own = this.#workloads.find(({ name }) => name === "my-app");
    return own ? { FIGWASP_TARGET_DEPLOYMENT: `${own.kind}/${own.name}` } : {};
  }

  /** Applies fixtures/job.yaml with the Role of deploy/, and waits for its end. */
  async runJob(changes: Partial<Installation> = {}): Promise<Run> {
    const env = { ...this.#named(), ...changes.env };
    await this.environment.apiServer.delete("jobs", this.#namespace, "figwasp");
    const resources = ["deploy/base/rbac.yaml", "fixtures/job.yaml"];
    await this.install({ resources, kind: "Job", ...changes, env });
    return this.finished("figwasp");
  }

  /** Installs the CronJob, and runs it once. */
  async runCronJob(installation: Installation): Promise<Run> {
    await this.install(installation);
    return this.runNow();
  }

  /** Starts a Job from the template of the CronJob that was installed, and waits for its end. */
  async runNow(): Promise<Run> {
    await this.environment.apiServer.delete("jobs", this.#namespace, "figwasp-now");
    await this.kubectl("create", "job", "figwasp-now", "--from", "cronjob/figwasp");
    return this.finished("figwasp-now");
  }

  /** Applies a kustomization as a user would write it, which sets namespace, image, variables, and how to reach registries. */
  async install(installation: Installation): Promise<void> {
    await this.spend("figwasp's installation", () => this.#install(installation));
  }

  async #install({ resources, components = [], ...changes }: Installation): Promise<void> {
    const folder = await temporaryFolder("overlay");
    const here = (paths: string[]) => paths.map((path) => relative(folder, resolve(root, path)));
    try {
      await this.customize(folder, changes, { resources: here(resources), components: here(components) });
      const input = await this.kustomize(folder);
      await this.$({ input })`kubectl apply -f -`;
    } finally {
      await rm(folder, { recursive: true });
    }
  }

  /** Writes the given kustomization into a folder, and adds the settings of this scenario. */
  async customize(
    folder: string,
    { kind, env = {}, patches = [], ...changes }: Omit<Installation, "resources" | "components">,
    given: { patches?: object[]; [field: string]: unknown },
  ): Promise<void> {
    const files = Object.entries(changes.hosts ?? this.hosts ?? this.registry.hosts);
    // The keys of a ConfigMap cannot contain a slash.
    const items = files.map(([path], at) => ({ key: `file-${at}`, path }));
    const hosts = { name: "figwasp-hosts", namespace: this.#namespace };
    const [, newName, newTag] = /^(.*):(.*)$/.exec(this.figwaspImage) ?? [];
    const settings = { target: { kind }, patch: JSON.stringify(settingsOf(kind, env, items)) };
    const kustomization = {
      ...given,
      ...(!changes.hasNamespaces && { namespace: this.#namespace }),
      images: [{ name: "ghcr.io/figwasp/figwasp", newName, newTag }],
      configMapGenerator: [{ ...hosts, files: items.map(({ key }) => key), options: { disableNameSuffixHash: true } }],
      patches: [...(given.patches ?? []), settings, ...patches],
    };
    for (const [at, [, content]] of files.entries()) await writeFile(join(folder, `file-${at}`), content);
    await writeFile(join(folder, "kustomization.yaml"), YAML.stringify(kustomization));
  }

  /** Returns the manifests that kubectl makes of a kustomization. */
  async kustomize(folder: string): Promise<string> {
    return this.$`kubectl kustomize --load-restrictor LoadRestrictionsNone ${folder}`.text();
  }

  async finished(job: string): Promise<Run> {
    const uid = await this.spend("figwasp in the cluster", () => eventually(() => this.#uidOfEnded(job)));
    // The list may still hold the pods of an earlier Job of the same name.
    const pods = await this.list<V1Pod>("pods", { labelSelector: `batch.kubernetes.io/controller-uid=${uid}` });
    assert.equal(pods.length, 1, `job ${job} should have made one pod`);
    const exitCode = pods[0]?.status?.containerStatuses?.[0]?.state?.terminated?.exitCode ?? -1;
    const path = `api/v1/namespaces/${this.#namespace}/pods/${pods[0]?.metadata?.name}/log`;
    const log = await this.environment.apiServer.ask("GET", path);
    return this.record({ exitCode, log, output: log });
  }

  async #uidOfEnded(job: string): Promise<string> {
    const { metadata, status } = await this.read<V1Job>("jobs", job);
    const ended = status?.conditions?.find((each) => /^(Complete|Failed)$/.test(each.type) && each.status === "True");
    assert(ended, `job ${job} has not ended`);
    return metadata?.uid ?? "";
  }

  record(run: Omit<Run, "isAsserted">): Run {
    const recorded = { ...run, isAsserted: false };
    this.runs.push(recorded);
    return recorded;
  }

  get lastRun(): Run {
    const run = this.runs.at(-1);
    assert(run, "figwasp has not run in this scenario");
    return run;
  }

  /** Reads from the audit log what figwasp's Jobs have asked of the API server in this scenario. */
  async audit(): Promise<AuditEvent[]> {
    return this.environment.readAudit(`system:serviceaccount:${this.#namespace}:figwasp`);
  }

  // --- Images, servers and credentials ---

  /** Pushes the echo server with its answer as `repository:tag`. If no registry is given, it is that of the scenario. */
  async pushServer(image: string, reply: string, registry: LocalRegistry = this.registry): Promise<void> {
    await this.spend("images", () => registry.pushServer(image, reply));
  }

  /** Pushes an index over the echo server under the scenario's tag. */
  async pushIndex(reply: string, options: IndexOptions = {}): Promise<void> {
    await this.spend("images", () => this.registry.pushIndex(this.tagged, reply, options));
  }

  /** Starts a server that the scenario alone has. */
  async startServer(
    name: string,
    options: Omit<ContainerOptions, "name" | "network" | "labels" | "port">,
  ): Promise<Server> {
    const server = await this.spend("servers", () => Server.start({ ...options, ...this.#ownContainer(name) }));
    this.atTheEnd(() => server.stop());
    return server;
  }

  /** Starts a registry that the scenario alone has, and tells the nodes how to reach it. */
  async startRegistry(name: string, environment: Record<string, string> = {}): Promise<LocalRegistry> {
    const options = { ...this.#ownContainer(name), environment };
    const registry = await this.spend("servers", () => LocalRegistry.start(options, this.environment.echo));
    this.atTheEnd(() => registry.stop());
    await this.connectNodes(registry.hosts);
    return registry;
  }

  /** Tells the nodes how to reach registries. */
  async connectNodes(hosts: HostsFolder): Promise<void> {
    await this.spend("servers", () => this.environment.connectNodes(hosts));
  }

  #ownContainer(name: string): Pick<ContainerOptions, "name" | "network" | "labels"> {
    const { network } = this.environment;
    return { name: `figwasp-${this.#namespace}-${name}`, network, labels: { [runLabel]: runId } };
  }

  /** Makes a credential that `leaks` will look for. */
  plantCredential(): Credential {
    const credential = createCredential();
    this.#credentials.push(credential);
    return credential;
  }

  /** Makes a Secret as `kubectl create secret docker-registry` does, or replaces the one of that name. */
  async putPullSecret(name: string, key: string, credential: Credential): Promise<void> {
    const type = "kubernetes.io/dockerconfigjson";
    const stringData = { ".dockerconfigjson": dockerConfig(key, credential) };
    await this.apply({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name, namespace: this.#namespace },
      type,
      stringData,
    });
  }

  /** Selects the requests for Secrets that figwasp must not make. It may `get` a pull secret that a pod names. If that is
   *  denied, it may `list` just that one, which the Role of figwasp v1 allows. */
  needlessSecrets(events: AuditEvent[]): AuditEvent[] {
    const asked = events.filter(({ objectRef }) => objectRef?.resource === "secrets");
    const denied = new Set<string>();
    return asked.filter(({ verb, objectRef, requestURI, responseStatus }) => {
      const name = verb === "list" ? selectedName(requestURI) : (objectRef?.name ?? "");
      if (verb === "get" && responseStatus.code === 403) denied.add(name);
      const isAllowed = verb === "get" || (verb === "list" && denied.has(name));
      return !isAllowed || !this.#pullSecrets.has(name);
    });
  }

  /** Names the places in which a credential of the scenario should not be, and is. The events are among these places. */
  async leaks(events: AuditEvent[]): Promise<string[]> {
    if (this.#credentials.length === 0) return [];
    const places = new Map<string, string>();
    for (const [at, { log }] of this.runs.entries()) places.set(`what run ${at + 1} printed`, log);
    const asked = events.map(({ requestURI, requestObject }) => ({ requestURI, requestObject }));
    places.set("what figwasp asked of the API server", JSON.stringify(asked));
    const kinds = [
      "deployments",
      "statefulsets",
      "daemonsets",
      "replicasets",
      "controllerrevisions",
      "jobs",
      "cronjobs",
    ];
    for (const kind of [...kinds, "pods", "events", "configmaps", "serviceaccounts"]) {
      places.set(`the namespace's ${kind}`, JSON.stringify(await this.list(kind)));
    }
    for (const stranger of this.strangers) {
      places.set(`what figwasp asked of ${stranger.name}`, ofFigwasp(await stranger.log()).join("\n"));
    }
    return [...places.keys()].filter((place) =>
      this.#credentials.some((each) => betrays(places.get(place) ?? "", each)),
    );
  }

  // --- When it failed ---

  async attachEvidence(): Promise<void> {
    for (const [at, run] of this.runs.entries()) {
      const fileName = `figwasp-run-${at + 1}.txt`;
      this.attach(`exit code ${run.exitCode}\n${run.log}`, { mediaType: "text/plain", fileName });
    }
    const evidence = {
      "workloads.txt": ["get", "deployments,statefulsets,daemonsets,replicasets,jobs,pods", "-o", "wide"],
      "events.txt": ["get", "events"],
      // The log of a Job that has not ended belongs to none of the runs above.
      "jobs.txt": ["logs", "--selector", "app.kubernetes.io/name=figwasp", "--prefix", "--tail=-1"],
      "pods.txt": ["get", "pods", "-o", "yaml"],
    };
    for (const [fileName, words] of Object.entries(evidence)) {
      const { stdall } = await this.$`kubectl --namespace ${this.#namespace} ${words}`.nothrow();
      this.attach(stdall, { mediaType: "text/plain", fileName });
    }
  }
}

/** The patch that a user would write for our Job or CronJob. The CronJob is suspended, since the scenario starts its Jobs. */
function settingsOf(kind: "Job" | "CronJob", env: Record<string, string>, items: { key: string; path: string }[]) {
  const variables = Object.entries({ FIGWASP_CERTS_DIR: "/hosts", ...env }).map(([name, value]) => ({ name, value }));
  const volumeMounts = [{ name: "hosts", mountPath: "/hosts" }];
  const containers = [{ name: "figwasp", env: variables, volumeMounts }];
  const volumes = [{ name: "hosts", configMap: { name: "figwasp-hosts", items } }];
  const job = { template: { spec: { containers, volumes } } };
  const spec = kind === "Job" ? job : { suspend: true, jobTemplate: { spec: job } };
  return { apiVersion: "batch/v1", kind, metadata: { name: "figwasp" }, spec };
}

// Returns the name in the field selector of a list that is restricted to one object.
function selectedName(requestURI: string): string {
  const selector = new URL(requestURI, "https://api-server").searchParams.get("fieldSelector") ?? "";
  return /^metadata\.name=([^,]+)$/.exec(selector)?.[1] ?? "";
}
