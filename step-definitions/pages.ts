import assert from "node:assert/strict";
import { cp, mkdir, readFile, rm, symlink } from "node:fs/promises";
import { basename, join } from "node:path";
import { When } from "@cucumber/cucumber";
import { YAML } from "zx";
import { RELEASE } from "../lib/version.ts";
import { commandsUnder } from "../test/support/pages.ts";
import { root, temporaryFolder } from "./support/environment.ts";
import { shell } from "./support/shell.ts";
import type { FigwaspWorld } from "./support/world.ts";

When(
  "somebody runs the commands of {string} under {string}",
  async function (this: FigwaspWorld, page: string, section: string) {
    const { folder, bin, $ } = await newOperator(this);
    const commands = await commandsUnder(section, page);
    assert(commands.length > 0, `${page} shows no command under "${section}"`);
    // An image that the page builds is the scenario's own, since other scenarios go on with the image of the run.
    const isBuilt = commands.some(({ text }) => text.includes("docker push"));
    if (isBuilt) this.ownFigwaspImage = `${this.environment.registry.host}/${this.namespace}/figwasp:${RELEASE}`;
    const ours = { [`registry.example/figwasp:${RELEASE}`]: this.figwaspImage, "/usr/local/bin": bin };
    const texts = commands.map(({ text }) =>
      Object.entries(ours).reduce((rest, [shown, own]) => rest.replaceAll(shown, own), text),
    );
    for (const text of texts) {
      const [, kustomization] = /kubectl apply -k (\S+)/.exec(text) ?? [];
      if (kustomization !== undefined) await editKustomization(this, join(folder, kustomization));
    }
    this.operator = $;
    if (isBuilt) this.atTheEnd(() => this.$`docker image rm --force ${this.figwaspImage}`);
    for (const text of texts) await $`bash -c ${text}`;
  },
);

When("figwasp runs as kubectl's plugin", async function (this: FigwaspWorld) {
  assert(this.operator, "nobody has installed it in this scenario");
  const { exitCode, stdall, stdout } = await this.operator`kubectl figwasp my-app`.nothrow();
  this.record({ exitCode: exitCode ?? -1, log: stdall, output: stdout });
});

When("figwasp's CronJob is due", async function (this: FigwaspWorld) {
  await this.runNow();
});

// The operator has a clone after `npm ci`, and a kubectl that looks into the namespace of the workloads and finds plugins.
async function newOperator(world: FigwaspWorld): Promise<{ folder: string; bin: string; $: ReturnType<typeof shell> }> {
  const home = await temporaryFolder("operator");
  world.atTheEnd(() => rm(home, { recursive: true }));
  const [folder, bin, kubeconfig] = [join(home, "figwasp"), join(home, "bin"), join(home, "kubeconfig")];
  const others = new Set(["node_modules", ".git", "dist", "reports"]);
  await cp(root, folder, { recursive: true, filter: (file) => !others.has(basename(file)) });
  await symlink(join(root, "node_modules"), join(folder, "node_modules"));
  await mkdir(bin);
  await cp(world.environment.kubeconfig, kubeconfig);
  const PATH = `${bin}:${process.env["PATH"]}`;
  const env = { ...process.env, PATH, KUBECONFIG: kubeconfig, BUILDX_NO_DEFAULT_ATTESTATIONS: "1" };
  const $ = shell({ cwd: folder, env });
  await $`kubectl config set-context --current --namespace ${world.namespace}`;
  return { folder, bin, $ };
}

// Does what the page says is to be done by hand: it sets where the workloads are and where the image was pushed. Beyond that
// it tells figwasp how to reach the registry of the run.
async function editKustomization(world: FigwaspWorld, folder: string): Promise<void> {
  const given = YAML.parse(await readFile(join(folder, "kustomization.yaml"), "utf8")) as object;
  await world.customize(folder, { kind: "CronJob" }, { ...given });
}
