import assert from "node:assert/strict";
import { Given, Then, When } from "@cucumber/cucumber";
import { startBefore } from "./support/faulty-registry.ts";
import { ofFigwasp } from "./support/server.ts";
import type { FigwaspWorld } from "./support/world.ts";

Given("a Deployment of that image and of seven more in the same registry", async function (this: FigwaspWorld) {
  const tags = ["a", "b", "c", "d", "e", "f", "g"];
  for (const tag of tags) await this.pushServer(`${this.repository}:${tag}`, "v1");
  const command = ["/nodejs/bin/node", "--eval", "0"];
  await this.deploy({
    pod: (spec) => {
      const { readinessProbe: _none, ...container } = structuredClone(spec.containers[0] ?? { name: "" });
      spec.initContainers = tags.map((tag) => {
        const image = `${this.registry.host}/${this.repository}:${tag}`;
        return Object.assign({}, container, { name: tag, image, command });
      });
    },
  });
});

When("figwasp runs as a Job, and the registry goes down after its first answer", async function (this: FigwaspWorld) {
  await runWithFault(this, "gone after the first answer");
});

When("figwasp runs as a Job, and the registry first answers with an error", async function (this: FigwaspWorld) {
  await runWithFault(this, "error first");
});

When("figwasp runs as a Job, and the registry never answers", async function (this: FigwaspWorld) {
  await runWithFault(this, "never answers", { FIGWASP_CLIENT_TIMEOUT: "2s" });
});

When("figwasp runs as a Job, and the registry does not answer in the run's time", async function (this: FigwaspWorld) {
  await runWithFault(this, "never answers", { FIGWASP_RUN_TIMEOUT: "4s" });
});

When("figwasp runs as a Job, and the registry asks it to come back later", async function (this: FigwaspWorld) {
  await runWithFault(this, "too many requests");
});

// Only figwasp asks the faulty registry: the nodes go on asking the registry itself.
async function runWithFault(world: FigwaspWorld, fault: string, env: Record<string, string> = {}): Promise<void> {
  const { server, url } = await startBefore(world, fault);
  world.faulty = server;
  world.strangers.add(server);
  await world.runJob({ env, hosts: { [`${world.registry.host}/hosts.toml`]: `server = "${url}"\n` } });
}

Then("the registry was asked no more than {int} times", async function (this: FigwaspWorld, limit: number) {
  assert(this.faulty, "the scenario has no faulty registry");
  const asked = ofFigwasp(await this.faulty.log());
  assert(asked.length > 0 && asked.length <= limit, asked.join("\n"));
});
