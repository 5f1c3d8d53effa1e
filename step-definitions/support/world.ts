import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
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
import { type AuditEvent, type Environment, root } from "./environment.ts";
import { eventually } from "./eventually.ts";
import { betrays, type Credential, createCredential, dockerConfig } from "./credentials.ts";
import type { PrivateRegistry } from "./private-registry.ts";
import type { HostsFolder, LocalRegistry } from "./registry.ts";
import { ofFigwasp, Server, type ServerOptions } from "./server.ts";
import { parseObject } from "../../lib/text.ts";
import { mistakesIn } from "../../test/support/schema.ts";
import { shell } from "./shell.ts";

/** One run of figwasp: what it printed and how it ended. */
export interface Run {
  exitCode: number;
  log: string;
  /** Of the log, what went to standard output. */
  output: string;
  /** Whether a step has said that this exit code is the right one. */
  isAsserted: boolean;
}

type Kind = "Deployment" | "StatefulSet" | "DaemonSet";

/** A workload of the scenario, by how it is not as in fixtures/echo.yaml. */
export interface Workload {
  kind?: Kind;
  name?: string;
  namespace?: string;
  image?: string;
  labels?: Record<string, string>;
  spec?: Record<string, unknown>;
  /** Of the container that the client hears. */
  container?: Record<string, unknown>;
  pod?: (spec: V1PodSpec) => void;
}

type Named = Required<Pick<Workload, "kind" | "name" | "namespace">>;

/** Of the scenario's workloads: the pods that run, and how often the API server has seen each changed. */
export interface Standing {
  pods: string[];
  generations: string[];
}

/** How figwasp is put into the cluster. */
export interface Installation {
  /** Manifests or kustomizations, seen from the root of the repository. */
  resources: string[];
  components?: string[];
  kind: "Job" | "CronJob";
  /** Beside what the manifests set. */
  env?: Record<string, string>;
  /** Whether the manifests say themselves in which namespace each object is. */
  hasNamespaces?: boolean;
  /** How figwasp reaches registries. */
  hosts?: HostsFolder;
  patches?: object[];
}

/** What one scenario has: a namespace, repositories, workloads with their client, the runs of figwasp. */
export class FigwaspWorld extends World {
  #environment: Environment | undefined;
  #namespace = "";
  /** The registry of the scenario's repository. */
  registry!: LocalRegistry;
  /** `NAMESPACE/echo`, and the tag that the workload follows. */
  repository = "";
  tag = "latest";
  /** What the tag has pointed to, by what it says. */
  readonly pushed = new Map<string, string>();
  /** The image of another container, as a pod template names it, and its registry where it has one of its own. */
  otherImage = "";
  otherRegistry: LocalRegistry | undefined;
  /** Where the nodes ask before they ask the registry. */
  mirror: LocalRegistry | undefined;
  /** The host in the images' names, where it is another than the one that is pushed to. */
  imageHost: string | undefined;
  privateRegistry: PrivateRegistry | undefined;
  /** What stands before the registry for figwasp alone. */
  faulty: Server | undefined;
  /** How figwasp reaches registries, where the scenario says so. */
  hosts: HostsFolder | undefined;
  /** The command line of somebody who does as a page says. */
  operator: ReturnType<typeof shell> | undefined;
  /** The pull secrets that pods of the scenario name. */
  readonly #pullSecrets = new Set<string>();
  readonly #credentials: Credential[] = [];
  /** Servers that figwasp may ask and must tell no credential. */
  readonly strangers = new Set<{ name: string; log: () => Promise<string[]> }>();
  readonly runs: Run[] = [];
  /** What figwasp's manifests have made, in a scenario that looks at it. */
  readonly installed: KubernetesObject[] = [];
  readonly #workloads: Named[] = [];
  /** As found when the scenario's own part began. */
  #standingBefore: Standing = { pods: [], generations: [] };
  readonly #revisionsBefore = new Map<string, number>();
  readonly #objectsBefore = new Map<string, V1Deployment>();
  readonly #undo: (() => Promise<unknown>)[] = [];

  async open(environment: Environment, namespace: string): Promise<void> {
    this.#environment = environment;
    this.#namespace = namespace;
    this.registry = environment.registry;
    this.repository = `${namespace}/echo`;
    await this.createNamespace(namespace);
  }

  /** Deletes what the scenario has made, newest first, and throws what could not be deleted when the rest is. */
  async close(): Promise<void> {
    const failures: unknown[] = [];
    for (const undo of this.#undo.toReversed()) await undo().catch((error: unknown) => failures.push(error));
    if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join("; "));
  }

  atTheEnd(undo: () => Promise<unknown>): void {
    this.#undo.push(undo);
  }

  get environment(): Environment {
    assert(this.#environment, "the scenario was not opened");
    return this.#environment;
  }

  get namespace(): string {
    return this.#namespace;
  }

  /** `repository:tag`, as the registry knows it. */
  get tagged(): string {
    return `${this.repository}:${this.tag}`;
  }

  /** As a pod template names it. */
  get image(): string {
    return `${this.imageHost ?? this.registry.host}/${this.tagged}`;
  }

  /** The image of figwasp, as a pod template names it. */
  get figwaspImage(): string {
    return `${this.environment.registry.host}/${this.environment.figwaspImage}`;
  }

  /** How the nodes reach the registry in a scenario with a mirror. */
  get mirroredHosts(): HostsFolder {
    assert(this.mirror, "the scenario has no mirror");
    const mirror = `[host."${this.mirror.clusterUrl}"]\ncapabilities = ["pull", "resolve"]\n`;
    const hostsToml = `server = "${this.registry.clusterUrl}"\n\n${mirror}`;
    return { [`${this.imageHost ?? this.registry.host}/hosts.toml`]: hostsToml };
  }

  /** The command line, with the run's cluster. */
  get $() {
    return shell({ env: this.#env(), cwd: root });
  }

  #env(more: Record<string, string> = {}): NodeJS.ProcessEnv {
    return { ...process.env, KUBECONFIG: this.environment.kubeconfig, ...more };
  }

  // --- The cluster ---

  async createNamespace(name: string): Promise<void> {
    // The strictest Pod Security Standard, so that what deploy/ ships is known to pass it.
    const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
    await this.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } });
    this.atTheEnd(async () => {
      if (!process.env["KEEP"]) await this.$`kubectl delete namespace ${name} --wait=false`;
    });
  }

  /** A Pod Security Standard, for the pods that are made from now on. */
  async enforce(standard: "baseline" | "restricted"): Promise<void> {
    const label = `pod-security.kubernetes.io/enforce=${standard}`;
    await this.$`kubectl label namespace ${this.#namespace} ${label} --overwrite`;
  }

  /** Runs kubectl in the scenario's namespace. */
  async kubectl(...words: string[]): Promise<string> {
    return this.$`kubectl --namespace ${this.#namespace} ${words}`.text();
  }

  async apply(...objects: object[]): Promise<void> {
    const input = objects.map((object) => YAML.stringify(object)).join("---\n");
    await this.$({ input })`kubectl apply -f -`;
  }

  async get<T>(...words: string[]): Promise<T> {
    return JSON.parse(await this.kubectl("get", ...words, "--output", "json")) as T;
  }

  /** Deploys fixtures/echo.yaml with these changes, waits until it has rolled out, and remembers how it is. */
  async deploy(changes: Workload = {}): Promise<void> {
    const { kind = "Deployment", name = "my-app", namespace = this.#namespace, labels = {} } = changes;
    const text = await readFile(join(root, "fixtures/echo.yaml"), "utf8");
    const documents = YAML.parseAllDocuments(text.replaceAll("my-app", name));
    const [workload, service] = documents.map((document) => document.toJSON() as V1Deployment);
    const pod = workload?.spec?.template.spec;
    assert(workload?.spec && pod?.containers[0] && service, "fixtures/echo.yaml holds a Deployment and a Service");
    Object.assign(pod.containers[0], { image: changes.image ?? this.image, ...changes.container });
    changes.pod?.(pod);
    Object.assign(workload, { kind, metadata: { name, namespace, labels } });
    Object.assign(service, { metadata: { name, namespace } });
    if (kind === "DaemonSet") Object.assign(workload.spec, { replicas: undefined });
    if (kind === "StatefulSet") Object.assign(workload.spec, { serviceName: name, podManagementPolicy: "Parallel" });
    Object.assign(workload.spec, changes.spec);
    await this.apply(workload, service);
    this.#workloads.push({ kind, name, namespace });
    await this.rolledOut();
    for (const { spec } of await this.#pods()) {
      for (const { name: secret = "" } of spec?.imagePullSecrets ?? []) this.#pullSecrets.add(secret);
    }
    await this.remember();
  }

  /** Waits until every workload's newest template runs everywhere and older pods are gone. */
  async rolledOut(): Promise<void> {
    for (const { kind, name, namespace } of this.#workloads) {
      await this.$`kubectl rollout status ${kind}/${name} --namespace ${namespace} --timeout 90s`;
    }
    await eventually(async () => {
      const pods = await this.#pods();
      assert(!pods.some(({ metadata }) => metadata?.deletionTimestamp), "old pods are still ending");
    });
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

  /** How the workloads stand. The API server counts a change within the request that makes it; the pods follow later. */
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

  /** Rollouts since `remember`: of one workload, or of all together. */
  async rollouts(...names: string[]): Promise<number> {
    const counted = names.length > 0 ? names : this.#workloads.map(({ name }) => name);
    let sum = 0;
    for (const name of counted) sum += (await this.#revision(name)) - (this.#revisionsBefore.get(name) ?? NaN);
    return sum;
  }

  async #pods(): Promise<V1Pod[]> {
    return (await this.get<{ items: V1Pod[] }>("pods", "--selector", "part-of=scenario")).items;
  }

  async #revision(name: string): Promise<number> {
    const workload = this.#workloads.find((each) => each.name === name);
    assert(workload, `the scenario has no workload ${name}`);
    const { kind, namespace } = workload;
    const { metadata } = await eventually(() => this.#readObserved(workload));
    if (kind === "Deployment") return Number(metadata?.annotations?.["deployment.kubernetes.io/revision"] ?? "0");
    const selector = `app=${name}`;
    const revisions = this.$`kubectl get controllerrevisions --selector ${selector} -n ${namespace} --output json`;
    const { items } = await revisions.json<{ items: V1ControllerRevision[] }>();
    return Math.max(0, ...items.map(({ revision }) => revision));
  }

  // Its controller writes the revision of a template before it says that it has seen it.
  async #readObserved(workload: Named): Promise<V1Deployment> {
    const read = await this.#read(workload);
    const { metadata: { generation = NaN } = {}, status: { observedGeneration = 0 } = {} } = read;
    assert(observedGeneration >= generation, `the controller has not seen the newest template of ${workload.name}`);
    return read;
  }

  async #read({ kind, name, namespace }: Named): Promise<V1Deployment> {
    return this.$`kubectl get ${kind}/${name} --namespace ${namespace} --output json`.json<V1Deployment>();
  }

  // --- The client ---

  /** What a client of the Service hears. */
  async hear(): Promise<string> {
    return this.$`kubectl get --raw /api/v1/namespaces/${this.#namespace}/services/my-app:80/proxy/`.text();
  }

  // --- Runs of figwasp ---

  /** As a user would on a laptop, in the root of the repository; without arguments, for the scenario's workload. */
  async run(argv: string[] = [], env: Record<string, string> = {}): Promise<Run> {
    const named = argv.length > 0 ? {} : this.#named();
    const $ = shell({ cwd: root, env: this.#env({ FIGWASP_TARGET_NAMESPACE: this.#namespace, ...named, ...env }) });
    const { exitCode, stdall, stdout } = await $`npx tsx figwasp.ts ${argv.filter((word) => word !== "")}`.nothrow();
    return this.record({ exitCode: exitCode ?? -1, log: stdall, output: stdout });
  }

  /** What a dry run finds of the scenario as it has ended, in JSON: where that is not as its schema has it. */
  async mistakesInDocument(): Promise<string> {
    const $ = shell({ cwd: root, env: this.#env() });
    const limits = ["--client-timeout=5s", "--timeout=20s"];
    const run = $`npx tsx figwasp.ts --all -n ${this.#namespace} --dry-run -o json ${limits}`;
    const { stdout, stdall } = await run.nothrow();
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
    await this.kubectl("delete", "job", "figwasp", "--ignore-not-found");
    const resources = ["deploy/base/rbac.yaml", "fixtures/job.yaml"];
    await this.install({ resources, kind: "Job", ...changes, env });
    return this.finished("figwasp");
  }

  /** Installs the CronJob, and has it run. */
  async runCronJob(installation: Installation): Promise<Run> {
    await this.install(installation);
    return this.runNow();
  }

  /** Starts a Job from the template of the CronJob that was installed, and waits for its end. */
  async runNow(): Promise<Run> {
    await this.kubectl("delete", "job", "figwasp-now", "--ignore-not-found");
    await this.kubectl("create", "job", "figwasp-now", "--from", "cronjob/figwasp");
    return this.finished("figwasp-now");
  }

  /** Applies what a user's own kustomization makes of ours: namespace, image, settings, how registries are reached. */
  async install({ resources, components = [], ...changes }: Installation): Promise<void> {
    const folder = await mkdtemp(join(tmpdir(), "figwasp-overlay-"));
    const here = (paths: string[]) => paths.map((path) => relative(folder, resolve(root, path)));
    try {
      await this.customize(folder, changes, { resources: here(resources), components: here(components) });
      const input = await this.kustomize(folder);
      await this.$({ input })`kubectl apply -f -`;
    } finally {
      await rm(folder, { recursive: true });
    }
  }

  /** Writes into a folder the kustomization that is given, with what is this scenario's own. */
  async customize(
    folder: string,
    { kind, env = {}, patches = [], ...changes }: Omit<Installation, "resources" | "components">,
    given: { patches?: object[]; [field: string]: unknown },
  ): Promise<void> {
    const files = Object.entries(changes.hosts ?? this.hosts ?? this.registry.hosts);
    // A key of a ConfigMap holds no slash.
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

  /** What kubectl makes of a kustomization, from the root of the repository. */
  async kustomize(folder: string): Promise<string> {
    return this.$`kubectl kustomize --load-restrictor LoadRestrictionsNone ${folder}`.text();
  }

  async finished(job: string): Promise<Run> {
    await eventually(async () => {
      const { status } = await this.get<V1Job>("job", job);
      const ended = status?.conditions?.find((each) => /^(Complete|Failed)$/.test(each.type) && each.status === "True");
      assert(ended, `job ${job} has not ended`);
    });
    const { items } = await this.get<{ items: V1Pod[] }>("pods", "--selector", `job-name=${job}`);
    assert.equal(items.length, 1, `job ${job} should have made one pod`);
    const exitCode = items[0]?.status?.containerStatuses?.[0]?.state?.terminated?.exitCode ?? -1;
    const log = await this.kubectl("logs", `job/${job}`);
    return this.record({ exitCode, log, output: log });
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

  /** What figwasp's Jobs asked of the API server in this scenario. */
  async audit(): Promise<AuditEvent[]> {
    return this.environment.readAudit(`system:serviceaccount:${this.#namespace}:figwasp`);
  }

  // --- Servers and credentials ---

  /** Starts a server that the scenario alone has. */
  async startServer(name: string, options: Omit<ServerOptions, "name" | "network">): Promise<Server> {
    const { id, network } = this.environment;
    const server = await Server.start({ ...options, name: `${id}-${this.#namespace}-${name}`, network });
    this.atTheEnd(() => server.stop());
    return server;
  }

  /** A credential that `leaks` will look for. */
  plantCredential(): Credential {
    const credential = createCredential();
    this.#credentials.push(credential);
    return credential;
  }

  /** As `kubectl create secret docker-registry` does, or in place of the one of that name. */
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

  /** figwasp's questions for Secrets, except those that it may ask: `get` for a pull secret that a pod names, and where
   *  that was denied a `list` of just that one, which is what figwasp v1's Role grants. */
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

  /** Where a credential of the scenario stands that should not stand there. */
  async leaks(): Promise<string[]> {
    if (this.#credentials.length === 0) return [];
    const places = new Map<string, string>();
    for (const [at, { log }] of this.runs.entries()) places.set(`what run ${at + 1} printed`, log);
    const asked = (await this.audit()).map(({ requestURI, requestObject }) => ({ requestURI, requestObject }));
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
      places.set(`the namespace's ${kind}`, await this.kubectl("get", kind, "--output", "json"));
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
    const words = [
      ["get", "deployments,statefulsets,daemonsets,replicasets,jobs,pods", "-o", "wide"],
      ["get", "events"],
    ];
    for (const what of [...words, ["get", "pods", "-o", "yaml"]]) {
      const { stdall } = await this.$`kubectl --namespace ${this.#namespace} ${what}`.nothrow();
      this.attach(stdall, { mediaType: "text/plain", fileName: `${what.join("-")}.txt` });
    }
  }
}

/** What a user adds to our Job or CronJob. The CronJob starts none by itself: the scenario does. */
function settingsOf(kind: "Job" | "CronJob", env: Record<string, string>, items: { key: string; path: string }[]) {
  const variables = Object.entries({ FIGWASP_CERTS_DIR: "/hosts", ...env }).map(([name, value]) => ({ name, value }));
  const volumeMounts = [{ name: "hosts", mountPath: "/hosts" }];
  const containers = [{ name: "figwasp", env: variables, volumeMounts }];
  const volumes = [{ name: "hosts", configMap: { name: "figwasp-hosts", items } }];
  const job = { template: { spec: { containers, volumes } } };
  const spec = kind === "Job" ? job : { suspend: true, jobTemplate: { spec: job } };
  return { apiVersion: "batch/v1", kind, metadata: { name: "figwasp" }, spec };
}

// Of a list of one object: the name that its field selector holds.
function selectedName(requestURI: string): string {
  const selector = new URL(requestURI, "https://api-server").searchParams.get("fieldSelector") ?? "";
  return /^metadata\.name=([^,]+)$/.exec(selector)?.[1] ?? "";
}
