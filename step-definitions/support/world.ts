import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import type { V1Deployment, V1Job, V1Pod } from "@kubernetes/client-node";
import { World } from "@cucumber/cucumber";
import { YAML } from "zx";
import { type Environment, root } from "./environment.ts";
import { eventually } from "./eventually.ts";
import type { LocalRegistry } from "./registry.ts";
import { shell } from "./shell.ts";

/** One run of figwasp: what it printed and how it ended. */
export interface Run {
  exitCode: number;
  log: string;
  /** Whether a step has said that this exit code is the right one. */
  isAsserted: boolean;
}

/** What one scenario has: a namespace, a repository, a Deployment with its client, the runs of figwasp. */
export class FigwaspWorld extends World {
  #environment: Environment | undefined;
  #namespace = "";
  /** The registry of the scenario's repository. */
  registry!: LocalRegistry;
  /** `NAMESPACE/echo`, and the tag that the Deployment follows. */
  repository = "";
  tag = "latest";
  /** What of the Deployment's container is not as in fixtures/echo.yaml. */
  container: Record<string, unknown> = {};
  readonly runs: Run[] = [];
  /** As found when the scenario's own part began. */
  #podsBefore: string[] = [];
  #revisionBefore = 0;
  readonly #undo: (() => Promise<unknown>)[] = [];

  async open(environment: Environment, namespace: string): Promise<void> {
    this.#environment = environment;
    this.#namespace = namespace;
    this.registry = environment.registry;
    this.repository = `${namespace}/echo`;
    // The strictest Pod Security Standard, so that what deploy/ ships is known to pass it.
    const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
    await this.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace, labels } });
  }

  async close(): Promise<void> {
    for (const undo of this.#undo.toReversed()) await undo();
    if (!process.env["KEEP"]) await this.$`kubectl delete namespace ${this.#namespace} --wait=false`;
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

  get image(): string {
    return `${this.registry.host}/${this.repository}:${this.tag}`;
  }

  /** The command line, with the run's cluster. */
  get $() {
    return shell({ env: { ...process.env, KUBECONFIG: this.environment.kubeconfig }, cwd: root });
  }

  // --- The cluster ---

  async apply(...objects: object[]): Promise<void> {
    const input = objects.map((object) => YAML.stringify(object)).join("---\n");
    const namespace = this.#namespace === "" ? [] : ["--namespace", this.#namespace];
    await this.$({ input })`kubectl apply ${namespace} -f -`;
  }

  async get<T>(...what: string[]): Promise<T> {
    return (await this.$`kubectl get ${what} --namespace ${this.#namespace} --output json`).json<T>();
  }

  /** Deploys fixtures/echo.yaml with the scenario's image, and waits until it has rolled out. */
  async deploy(): Promise<void> {
    const text = await this.$`cat fixtures/echo.yaml`.text();
    const objects = YAML.parseAllDocuments(text).map((document) => document.toJSON() as V1Deployment);
    const [deployment] = objects;
    const container = deployment?.spec?.template.spec?.containers[0];
    assert(container, "fixtures/echo.yaml has no container");
    Object.assign(container, { image: this.image, ...this.container });
    await this.apply(...objects);
    await this.rolledOut();
  }

  /** Waits until the Deployment's newest template runs everywhere and its older pods are gone. */
  async rolledOut(): Promise<void> {
    await this.$`kubectl rollout status deployment/my-app --namespace ${this.#namespace} --timeout 90s`;
    await eventually(async () => {
      const pods = await this.#pods();
      assert(
        pods.length === 2 && pods.every(({ metadata }) => !metadata?.deletionTimestamp),
        "old pods are still ending",
      );
    });
  }

  async remember(): Promise<void> {
    this.#podsBefore = await this.podUids();
    this.#revisionBefore = await this.#revision();
  }

  get podsBefore(): string[] {
    return this.#podsBefore;
  }

  async podUids(): Promise<string[]> {
    return (await this.#pods()).map(({ metadata }) => metadata?.uid ?? "").toSorted();
  }

  /** Rollouts of the Deployment since `remember`. */
  async rollouts(): Promise<number> {
    return (await this.#revision()) - this.#revisionBefore;
  }

  async #pods(): Promise<V1Pod[]> {
    return (await this.get<{ items: V1Pod[] }>("pods", "--selector", "app=my-app")).items;
  }

  async #revision(): Promise<number> {
    const { metadata } = await this.get<V1Deployment>("deployment", "my-app");
    return Number(metadata?.annotations?.["deployment.kubernetes.io/revision"] ?? "0");
  }

  // --- The client ---

  /** What a client of the Service hears. */
  async hear(): Promise<string> {
    return this.$`kubectl get --raw /api/v1/namespaces/${this.#namespace}/services/my-app:80/proxy/`.text();
  }

  // --- Runs of figwasp ---

  /** Applies fixtures/job.yaml and waits for its end. */
  async runJob(env: Record<string, string> = {}): Promise<Run> {
    await this.$`kubectl delete job figwasp --namespace ${this.#namespace} --ignore-not-found`;
    await this.applyFigwasp(["deploy/rbac.yaml", "fixtures/job.yaml"], "Job", env);
    return this.#finished("figwasp");
  }

  /** Applies deploy/ as it is shipped, and starts a Job from its CronJob's template. */
  async runCronJob(): Promise<Run> {
    await this.applyFigwasp(["deploy"], "CronJob", {});
    await this.$`kubectl create job figwasp-now --from cronjob/figwasp --namespace ${this.#namespace}`;
    return this.#finished("figwasp-now");
  }

  /** As a user would, in the root of the repository. */
  async runLocally(env: Record<string, string> = {}): Promise<Run> {
    const variables = { FIGWASP_TARGET_DEPLOYMENT: "my-app", FIGWASP_TARGET_NAMESPACE: this.#namespace, ...env };
    const $ = this.$({ env: { ...process.env, KUBECONFIG: this.environment.kubeconfig, ...variables } });
    const { exitCode, stdall } = await $`npx tsx figwasp.ts`.nothrow();
    return this.#record({ exitCode: exitCode ?? -1, log: stdall });
  }

  // What a user's own kustomization adds to ours: namespace, image, settings, and how the registry is reached.
  async applyFigwasp(resources: string[], kind: "Job" | "CronJob", env: Record<string, string>): Promise<void> {
    const folder = await mkdtemp(join(tmpdir(), "figwasp-overlay-"));
    const [newName, newTag] = `${this.environment.registry.host}/${this.environment.figwaspImage}`.split(
      /:(?=[^:/]+$)/,
    );
    const pod = kind === "Job" ? "/spec/template/spec" : "/spec/jobTemplate/spec/template/spec";
    const { FIGWASP_TARGET_DEPLOYMENT = "my-app", ...others } = env;
    const variables = Object.entries({ FIGWASP_CERTS_DIR: "/hosts", ...others }).map(([name, value]) => ({
      name,
      value,
    }));
    const items = [{ key: "hosts.toml", path: `${this.registry.host}/hosts.toml` }];
    const patch = [
      { op: "replace", path: `${pod}/containers/0/env/0/value`, value: FIGWASP_TARGET_DEPLOYMENT },
      ...variables.map((value) => ({ op: "add", path: `${pod}/containers/0/env/-`, value })),
      { op: "add", path: `${pod}/containers/0/volumeMounts`, value: [{ name: "hosts", mountPath: "/hosts" }] },
      { op: "add", path: `${pod}/volumes`, value: [{ name: "hosts", configMap: { name: "figwasp-hosts", items } }] },
    ];
    const kustomization = {
      namespace: this.#namespace,
      resources: resources.map((resource) => relative(folder, join(root, resource))),
      images: [{ name: "ghcr.io/figwasp/figwasp", newName, newTag }],
      configMapGenerator: [{ name: "figwasp-hosts", files: ["hosts.toml"], options: { disableNameSuffixHash: true } }],
      patches: [{ target: { kind }, patch: JSON.stringify(patch) }],
    };
    await writeFile(join(folder, "hosts.toml"), this.registry.hostsToml);
    await writeFile(join(folder, "kustomization.yaml"), YAML.stringify(kustomization));
    try {
      const input = await this.$`kubectl kustomize --load-restrictor LoadRestrictionsNone ${folder}`.text();
      await this.$({ input })`kubectl apply -f -`;
    } finally {
      await rm(folder, { recursive: true });
    }
  }

  async #finished(job: string): Promise<Run> {
    await eventually(async () => {
      const { status } = await this.get<V1Job>("job", job);
      const isOver = status?.conditions?.some(
        ({ type, status: value }) => /^(Complete|Failed)$/.test(type) && value === "True",
      );
      assert(isOver, `job ${job} has not ended`);
    });
    const { items } = await this.get<{ items: V1Pod[] }>("pods", "--selector", `job-name=${job}`);
    assert.equal(items.length, 1, `job ${job} should have made one pod`);
    const exitCode = items[0]?.status?.containerStatuses?.[0]?.state?.terminated?.exitCode ?? -1;
    const log = await this.$`kubectl logs job/${job} --namespace ${this.#namespace}`.text();
    return this.#record({ exitCode, log });
  }

  #record(run: Omit<Run, "isAsserted">): Run {
    const recorded = { ...run, isAsserted: false };
    this.runs.push(recorded);
    return recorded;
  }

  get lastRun(): Run {
    const run = this.runs.at(-1);
    assert(run, "figwasp has not run in this scenario");
    return run;
  }

  // --- When it failed ---

  async attachEvidence(): Promise<void> {
    for (const [at, run] of this.runs.entries()) {
      this.attach(`exit code ${run.exitCode}\n${run.log}`, {
        mediaType: "text/plain",
        fileName: `figwasp-run-${at + 1}.txt`,
      });
    }
    for (const what of ["deployments,replicasets,jobs,pods", "events"]) {
      const { stdall } = await this.$`kubectl get ${what} --namespace ${this.#namespace} --output wide`.nothrow();
      this.attach(stdall, { mediaType: "text/plain", fileName: `${what}.txt` });
    }
    const { stdall } = await this.$`kubectl get pods --namespace ${this.#namespace} --output yaml`.nothrow();
    this.attach(stdall, { mediaType: "text/plain", fileName: "pods.yaml" });
  }
}
