import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { type DataTable, Given, Then, When } from "@cucumber/cucumber";
import type { KubernetesObject, V1ClusterRoleBinding, V1CronJob, V1PolicyRule, V1Role } from "@kubernetes/client-node";
import { YAML } from "zx";
import { RELEASE } from "../lib/version.ts";
import { root, temporaryFolder } from "./support/environment.ts";
import type { FigwaspWorld } from "./support/world.ts";

// --- What is made of what is shipped ---

When("figwasp is installed from each of these folders:", async function (this: FigwaspWorld, table: DataTable) {
  for (const [folder = ""] of table.raw()) await tryToInstall(this, join(root, folder));
});

When("figwasp is installed by the guide's {string}", async function (this: FigwaspWorld, heading: string) {
  await tryToInstall(this, await guided(this, heading));
});

// The API server checks everything, as for an installation, and stores nothing.
async function tryToInstall(world: FigwaspWorld, folder: string): Promise<void> {
  const manifests = await world.kustomize(folder);
  world.installed.push(...YAML.parseAllDocuments(manifests).map((each) => each.toJSON() as KubernetesObject));
  // The manifests name namespaces that this cluster does not have.
  const input = manifests.replaceAll(/^( +)namespace: .*/gm, `$1namespace: ${world.namespace}`);
  await world.$({ input })`kubectl apply --dry-run=server -f -`;
}

/** Copies the kustomization under a heading of docs/install.md into a folder. There it refers to this repository instead
 *  of the public address, and to the given namespaces instead of those of the guide. */
async function guided(world: FigwaspWorld, heading: string, namespaces: Record<string, string> = {}): Promise<string> {
  const guide = await readFile(join(root, "docs/install.md"), "utf8");
  const section = guide.split(/^## /m).find((each) => each.startsWith(`${heading}\n`)) ?? "";
  const kustomization = /^```yaml\n(.*?)^```$/ms.exec(section)?.[1];
  assert(kustomization, `docs/install.md has no kustomization under "${heading}"`);
  const folder = await temporaryFolder("guide");
  world.atTheEnd(() => rm(folder, { recursive: true }));
  const address = /https:\/\/github\.com\/figwasp\/figwasp\/\/(.*)\?ref=v.*/g;
  let text = kustomization.replaceAll(address, (_, path: string) => relative(folder, join(root, path)));
  for (const [name, other] of Object.entries(namespaces))
    text = text.replaceAll(new RegExp(`\\b${name}\\b`, "g"), other);
  await writeFile(join(folder, "kustomization.yaml"), text);
  return folder;
}

Then(
  "all that was installed carries the recommended labels, with the version of its image",
  function (this: FigwaspWorld) {
    for (const { kind, metadata } of this.installed) assertLabels(kind, metadata?.labels);
    for (const { spec } of cronJobsOf(this)) {
      const { metadata, spec: pod } = spec?.jobTemplate.spec?.template ?? {};
      assert.equal(metadata?.labels?.["app.kubernetes.io/name"], "figwasp");
      assert.equal(pod?.containers[0]?.image, `ghcr.io/figwasp/figwasp:${RELEASE}`);
    }
  },
);

function assertLabels(kind: string | undefined, labels: Record<string, string> | undefined): void {
  const recommended = {
    "app.kubernetes.io/name": "figwasp",
    "app.kubernetes.io/version": RELEASE,
    "app.kubernetes.io/component": "restarter",
    "app.kubernetes.io/part-of": "figwasp",
    "app.kubernetes.io/managed-by": "kustomize",
  };
  assert.deepEqual(labels, recommended, `the labels of the ${kind} are others`);
}

function cronJobsOf({ installed }: FigwaspWorld): V1CronJob[] {
  const cronJobs = installed.filter(({ kind }) => kind === "CronJob") as V1CronJob[];
  assert(cronJobs.length > 0, "no CronJob was installed");
  return cronJobs;
}

Then("its image, its schedule, its namespace and its setting are the guide's", function (this: FigwaspWorld) {
  const [{ metadata, spec } = {}] = cronJobsOf(this);
  const [{ image, env } = {}] = spec?.jobTemplate.spec?.template.spec?.containers ?? [];
  assert.equal(metadata?.namespace, "shop");
  assert.equal(image, `registry.example/figwasp:${RELEASE}`);
  assert.deepEqual([spec?.schedule, spec?.timeZone], ["*/15 6-20 * * 1-5", "Europe/Berlin"]);
  assert.deepEqual(env, [{ name: "FIGWASP_RETRY_INTERVAL", value: "6h" }]);
});

Then("no rule of its rights is about Secrets, and a docker config is mounted", function (this: FigwaspWorld) {
  const rights = rightsOf(this.installed);
  assert(rights.includes("list pods") && !rights.some((right) => right.endsWith(" secrets")), rights.join(", "));
  const [{ spec } = {}] = cronJobsOf(this);
  const { volumes } = spec?.jobTemplate.spec?.template.spec ?? {};
  assert.deepEqual(volumes, [{ name: "docker-config", secret: { secretName: "figwasp-docker-config" } }]);
});

Then("a ClusterRole and its binding let it get nodes, and no more", function (this: FigwaspWorld) {
  const clusterRoles = this.installed.filter(({ kind }) => kind === "ClusterRole");
  assert.deepEqual(rightsOf(clusterRoles), ["get nodes"]);
  const bindings = this.installed.filter(({ kind }) => kind === "ClusterRoleBinding") as V1ClusterRoleBinding[];
  const account = { kind: "ServiceAccount", name: "figwasp", namespace: "shop" };
  assert.deepEqual(
    bindings.map(({ roleRef, subjects }) => [roleRef.name, subjects]),
    [["figwasp-nodes", [account]]],
  );
});

/** The rights that the Role or ClusterRole among the objects grants, such as `list pods`. */
function rightsOf(objects: KubernetesObject[]): string[] {
  const role: V1Role | undefined = objects.find(({ kind }) => kind === "Role" || kind === "ClusterRole");
  return role?.rules?.flatMap(rightsBy) ?? [];
}

function rightsBy({ resources = [], verbs }: V1PolicyRule): string[] {
  return resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`));
}

// --- What runs ---

When(
  "figwasp runs in a namespace of its own, by the guide's {string}",
  async function (this: FigwaspWorld, heading: string) {
    const folder = await guided(this, heading, { ops: this.namespace, shop: `${this.namespace}-other` });
    await this.runCronJob({ resources: [folder], kind: "CronJob", hasNamespaces: true });
  },
);

When("figwasp runs as its CronJob, without rights on Secrets", async function (this: FigwaspWorld) {
  await this.runCronJob({ resources: ["deploy/no-secrets"], kind: "CronJob" });
});

When(
  "figwasp runs as its CronJob, with a docker config and without rights on Secrets",
  async function (this: FigwaspWorld) {
    const { host = "", credential } = this.privateRegistry ?? {};
    assert(credential, "the scenario has no private registry");
    await this.putPullSecret("figwasp-docker-config", host, credential);
    await this.runCronJob({
      resources: ["deploy/no-secrets"],
      components: ["deploy/components/docker-config"],
      kind: "CronJob",
      env: { FIGWASP_TARGET_DEPLOYMENT: "my-app" },
    });
  },
);

Then("figwasp may read no Secret", async function (this: FigwaspWorld) {
  const user = `system:serviceaccount:${this.namespace}:figwasp`;
  for (const verb of ["get", "list"]) {
    const { stdout } = await this.$`kubectl auth can-i ${verb} secrets --as ${user} -n ${this.namespace}`.nothrow();
    assert.equal(stdout.trim(), "no");
  }
});

// --- In place of figwasp v1 ---

Given("the manifests of figwasp v1 are applied, for that Deployment", async function (this: FigwaspWorld) {
  await this.enforce("baseline"); // these manifests are older than Pod Security Standards
  const image = { op: "replace", path: "/spec/jobTemplate/spec/template/spec/containers/0/image", value: "figwasp:v1" };
  // The old figwasp never runs here, so that its image need not exist.
  const patches = [{ target: { kind: "CronJob" }, patch: JSON.stringify([image]) }];
  await this.install({ resources: ["fixtures/figwasp-v1.yaml"], kind: "CronJob", patches });
  this.installed.push(...(await objectsOf(this)));
});

When("figwasp is applied over them, and runs as its CronJob", async function (this: FigwaspWorld) {
  await this.enforce("restricted");
  await this.runCronJob({ resources: ["deploy/v1"], kind: "CronJob" });
});

Then("every object of figwasp v1 was replaced in place, and none is left", async function (this: FigwaspWorld) {
  const objects = await objectsOf(this);
  assert.equal(objects.length, 4);
  assert.deepEqual(objects.map(identityOf), this.installed.map(identityOf));
  for (const { kind, metadata } of objects) assertLabels(kind, metadata?.labels);
  const rights = rightsOf(objects);
  assert(rights.includes("patch deployments"), rights.join(", "));
  assert(!rights.includes("update deployments") && !rights.includes("list secrets"), rights.join(", "));
});

function identityOf({ kind, metadata }: KubernetesObject): string {
  return `${kind} ${metadata?.name} ${metadata?.uid}`;
}

// Leaves out the objects that every namespace has, and the ConfigMap by which the suite tells figwasp of registries.
async function objectsOf(world: FigwaspWorld): Promise<KubernetesObject[]> {
  const kinds = "serviceaccounts,roles,rolebindings,cronjobs,configmaps,secrets";
  // kubectl names the kind of each object in a list, which the API server does not.
  const { items } = JSON.parse(await world.kubectl("get", kinds, "--output", "json")) as { items: KubernetesObject[] };
  const others = new Set(["default", "kube-root-ca.crt", "figwasp-hosts"]);
  return items.filter(({ metadata }) => !others.has(metadata?.name ?? ""));
}
