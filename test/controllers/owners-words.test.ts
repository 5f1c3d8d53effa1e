import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import type { V1ReplicaSet } from "@kubernetes/client-node";
import { imageOf } from "../support/registry.ts";
import { changesOf, eventually, nextSecond, openOutdated, openShop, type Shop, verdictOf } from "./support/shop.ts";

const subject = "deployment shop/web";

describe("the label figwasp/paused", { concurrency: true }, () => {
  it("keeps figwasp from a workload until it is taken away", async (t) => {
    const shop = await openOutdated(t);
    await shop.kubectl("label", "deployment/web", "figwasp/paused=true");
    const paused = await shop.figwasp("deployment");
    const reason = "paused by its label figwasp/paused: kubectl label deployment/web figwasp/paused- ends that";
    assert.deepEqual([paused.code, verdictOf(paused)], [0, `skipped, ${reason}`]);
    assert.deepEqual(shop.registry.lines(), []);

    await shop.kubectl("label", "deployment/web", "figwasp/paused-");
    const run = await shop.figwasp("deployment");
    assert.deepEqual([run.code, verdictOf(run)], [0, "restarted, outdated: app"]);
  });

  it("outlives an undo", async (t) => {
    const shop = await openOutdated(t);
    await shop.figwasp("deployment");
    await shop.rollOut("deployment");
    await shop.kubectl("label", "deployment/web", "figwasp/paused=true");
    await shop.kubectl("rollout", "undo", "deployment/web");
    await shop.rollOut("deployment");
    shop.registry.put("latest", imageOf("newer"));
    assert.match(verdictOf(await shop.figwasp("deployment")), /^skipped, paused by its label /);
  });

  it("with the word false changes nothing, and with another word is a failure", async (t) => {
    const shop = await openOutdated(t);
    await shop.kubectl("label", "deployment/web", "figwasp/paused=yes");
    const failed = await shop.figwasp("deployment");
    const failure = `Cannot read ${subject}: its label figwasp/paused is "yes", true or false is needed`;
    assert.deepEqual([failed.code, verdictOf(failed)], [1, `failed, ${failure}`]);

    await shop.kubectl("label", "deployment/web", "figwasp/paused=false", "--overwrite");
    assert.equal(verdictOf(await shop.figwasp("deployment")), "restarted, outdated: app");
  });
});

/** One with two containers, whose images have both been pushed since. */
async function openTwo(t: TestContext): Promise<Shop> {
  const shop = await openShop(t);
  const { registry } = shop;
  registry.put("latest", imageOf("old"));
  registry.put("worker", imageOf("worker"));
  const app = { name: "app", image: registry.image("latest") };
  const worker = { name: "worker", image: registry.image("worker"), imagePullPolicy: "Always" };
  await shop.make("deployment", { containers: [app, worker] });
  await shop.rollOut("deployment");
  registry.put("worker", imageOf("worker 2"));
  return shop;
}

async function annotate(shop: Shop, words: string): Promise<void> {
  await shop.kubectl("annotate", "deployment/web", `figwasp/containers=${words}`, "--overwrite");
  // Its controller has to see a changed annotation too.
  await shop.rollOut("deployment");
}

describe("the annotation figwasp/containers", { concurrency: true }, () => {
  it("names the containers that count", async (t) => {
    const shop = await openTwo(t);
    await annotate(shop, "app");
    const left = await shop.figwasp("deployment");
    assert.deepEqual([left.code, verdictOf(left)], [0, "current, nothing to do"]);
    const skipped = "skipped, not among the containers that its annotation figwasp/containers names";
    const line = `${subject}, container worker (${shop.registry.image("worker")}): ${skipped}`;
    assert(left.lines.includes(line), left.lines.join("\n"));

    await annotate(shop, "app, worker");
    const run = await shop.figwasp("deployment");
    assert.deepEqual([run.code, verdictOf(run)], [0, "restarted, outdated: worker"]);
  });

  for (const [word, found] of [
    ["foo", 'names "foo", which is none of its containers: app, worker'],
    ["app,foo", 'names "foo", which is none of its containers: app, worker'],
    ["", "names no container, one of app, worker is needed"],
  ] as const) {
    it(`with the words "${word}" is a failure`, async (t) => {
      const shop = await openTwo(t);
      await annotate(shop, word);
      const run = await shop.figwasp("deployment");
      const failure = `Cannot read ${subject}: its annotation figwasp/containers ${found}`;
      assert.deepEqual([run.code, verdictOf(run)], [1, `failed, ${failure}`]);
      assert.deepEqual(changesOf(run), []);
    });
  }

  it("is lost at an undo to a revision before it, which figwasp notes", async (t) => {
    const shop = await openTwo(t);
    await nextSecond();
    await shop.kubectl("set", "env", "deployment/web", "A=1");
    await shop.rollOut("deployment");
    await annotate(shop, "app,worker");
    const key = "figwasp/containers";
    const carriers = async () => {
      const replicaSets = await shop.list<V1ReplicaSet>("replicasets", "apis/apps/v1");
      return replicaSets.filter(({ metadata }) => metadata?.annotations?.[key] === "app,worker");
    };
    await eventually(async () => assert.equal((await carriers()).length, 1));
    await shop.kubectl("rollout", "undo", "deployment/web");
    await shop.rollOut("deployment");
    assert.equal((await shop.read("deployment")).metadata?.annotations?.[key], undefined);

    const [carrier] = await carriers();
    shop.registry.put("worker", imageOf("worker 3"));
    const run = await shop.figwasp("deployment");
    assert.equal(verdictOf(run), "restarted, outdated: worker");
    const where = `its ReplicaSet ${carrier?.metadata?.name} still has "app,worker"`;
    const note = `${subject} has lost its annotation ${key} at an undo: ${where}`;
    assert(run.lines.includes(note), run.lines.join("\n"));
  });
});
