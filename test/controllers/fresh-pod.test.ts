import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import type { V1PodSpec } from "@kubernetes/client-node";
import { imageOf, serveRegistry, sha256, type StubRegistry } from "../support/registry.ts";
import type { Report } from "./support/nodes.ts";
import { changesOf, eventually, nextSecond, openShop, pulled, type Run, type Shop, verdictOf } from "./support/shop.ts";
import { type WorkloadKind, workloadKinds } from "./support/workloads.ts";
import { admit } from "./support/webhook.ts";

/** One with a second registry, from which nodes can pull too; both have the old image. */
async function openWithMirror(t: TestContext): Promise<{ shop: Shop; mirror: StubRegistry }> {
  const shop = await openShop(t);
  const mirror = await serveRegistry(t);
  for (const registry of [shop.registry, mirror]) registry.put("latest", imageOf("old"));
  shop.nodes.pull = (image) => pulled(image.startsWith(mirror.host) ? mirror : shop.registry, image);
  return { shop, mirror };
}

/** Lets admission write the image of each pod's first container. */
function writeImage(t: TestContext, shop: Shop, image: () => string): Promise<void> {
  return admit<V1PodSpec>(t, shop, "pods", ({ containers: [container] }) => {
    if (container) container.image = image();
  });
}

function lineOf({ lines }: Run, container = "app"): string {
  return lines.find((line) => line.includes(`, container ${container} (`)) ?? lines.join("\n");
}

const current = "current, nothing to do";
const restarted = "restarted, outdated: app";
const movedDigest = sha256(imageOf("new").body);

async function assertRestarts(shop: Shop, kind: WorkloadKind): Promise<void> {
  const run = await shop.figwasp(kind);
  assert.deepEqual([run.code, verdictOf(run), run.strangers], [0, restarted, []], run.lines.join("\n"));
  await shop.rollOut(kind);
  assert.deepEqual(await shop.running(), [movedDigest, movedDigest]);
  assert.equal(verdictOf(await shop.figwasp(kind)), current);
}

describe("pods whose image admission has written", { concurrency: true }, () => {
  for (const kind of workloadKinds) {
    it(`from another registry are compared with that one, for a ${kind}`, async (t) => {
      const { shop, mirror } = await openWithMirror(t);
      await writeImage(t, shop, () => mirror.image("latest"));
      await shop.make(kind);
      await shop.rollOut(kind);

      shop.registry.put("latest", imageOf("new"));
      const run = await shop.figwasp(kind);
      assert.equal(verdictOf(run), current);
      const asked = `${shop.registry.image("latest")}, asked about ${mirror.image("latest")}`;
      const resolved = sha256(imageOf("old").body);
      assert.equal(lineOf(run), `${kind} shop/web, container app (${asked}): current, resolved ${resolved}`);
      assert.deepEqual(shop.registry.lines(), []);

      mirror.put("latest", imageOf("new"));
      await assertRestarts(shop, kind);
      assert.deepEqual(shop.registry.lines(), []);
    });
  }

  it("in place of a placeholder are compared with what it stands for", async (t) => {
    const { shop } = await openWithMirror(t);
    await writeImage(t, shop, () => shop.registry.image("latest"));
    await shop.make("deployment", { containers: [{ name: "app", image: "auto" }] });
    await shop.rollOut("deployment");
    const run = await shop.figwasp("deployment");
    assert.deepEqual([verdictOf(run), run.strangers], [current, []]);
    shop.registry.put("latest", imageOf("new"));
    await assertRestarts(shop, "deployment");
  });

  for (const [form, between] of [
    ["with its tag", ":latest"],
    ["without its tag", ""],
  ]) {
    for (const policy of ["Always", "IfNotPresent"]) {
      it(`as a digest ${form} follow the template's tag, with the pull policy ${policy}`, async (t) => {
        const { shop } = await openWithMirror(t);
        const { registry } = shop;
        const image = registry.image("latest");
        await writeImage(t, shop, () => `${registry.host}/app${between}@${pulled(registry, image)}`);
        const containers = [{ name: "app", image, imagePullPolicy: policy }];
        await shop.make("deployment", { containers });
        await shop.rollOut("deployment");
        assert.equal(verdictOf(await shop.figwasp("deployment")), current);
        shop.registry.put("latest", imageOf("new"));
        await assertRestarts(shop, "deployment");
      });
    }
  }

  it("as a digest of another repository are unknown, and nobody is asked", async (t) => {
    const { shop, mirror } = await openWithMirror(t);
    await writeImage(t, shop, () => `${mirror.host}/app@${pulled(mirror, mirror.image("latest"))}`);
    await shop.make("deployment");
    await shop.rollOut("deployment");
    for (const registry of [shop.registry, mirror]) registry.put("latest", imageOf("new"));
    const run = await shop.figwasp("deployment");
    const pinned = `its pods are pinned to ${mirror.host}/app, another repository than the template's`;
    assert(lineOf(run).includes("): unknown, "), lineOf(run));
    assert(lineOf(run).endsWith(`${pinned}: what resolved it there is not asked`), lineOf(run));
    assert.deepEqual([run.code, verdictOf(run), changesOf(run)], [0, "unknown, cannot tell for app", []]);
    assert.deepEqual([...shop.registry.lines(), ...mirror.lines()], []);
  });

  it("that differ from pod to pod are compared with the youngest pod's", async (t) => {
    const { shop, mirror } = await openWithMirror(t);
    let image = shop.registry.image("latest");
    await writeImage(t, shop, () => image);
    shop.nodes.isMakingReady = false;
    await shop.make("statefulset");
    await eventually(async () => assert.equal((await shop.running()).length, 1));
    await nextSecond();
    image = mirror.image("latest");
    shop.nodes.isMakingReady = true;
    await shop.rollOut("statefulset");

    shop.registry.put("latest", imageOf("new"));
    const run = await shop.figwasp("statefulset");
    assert.deepEqual([run.code, verdictOf(run), changesOf(run)], [0, current, []], run.lines.join("\n"));
    mirror.put("latest", imageOf("new"));
    await assertRestarts(shop, "statefulset");
  });

  it("are told of too, where admission has added the container", async (t) => {
    const { shop, mirror } = await openWithMirror(t);
    const proxy = { name: "proxy", image: mirror.image("latest") };
    await admit<V1PodSpec>(t, shop, "pods", ({ containers }) => void containers.push(proxy));
    await shop.make("deployment");
    await shop.rollOut("deployment");
    mirror.put("latest", imageOf("new"));
    const run = await shop.figwasp("deployment");
    assert.deepEqual([run.code, verdictOf(run)], [0, current]);
    const skipped = "skipped, not in the pod template: what injects it decides about its image";
    assert.equal(lineOf(run, "proxy"), `deployment shop/web, container proxy (${proxy.image}): ${skipped}`);
    assert.deepEqual(mirror.lines(), []);
  });
});

/** The name by which CRI-O knows a short name that it took from another registry. */
const asCrio =
  (repository: string): Report =>
  (_image, digest) => ({
    imageID: repository === "" ? digest : `${repository}@${digest}`,
    containerID: "cri-o://0123456789abcdef",
  });

/** One of the image `app:latest`, which CRI-O nodes pull from the shop's registry. */
async function openShortName(t: TestContext, report: (shop: Shop) => Report): Promise<Shop> {
  const shop = await openShop(t);
  shop.registry.put("latest", imageOf("old"));
  shop.nodes.report = report(shop);
  await shop.make("deployment", { containers: [{ name: "app", image: "app:latest" }] });
  await shop.rollOut("deployment");
  return shop;
}

describe("a short name on a CRI-O node", { concurrency: true }, () => {
  it("is looked for where the node found it", async (t) => {
    const shop = await openShortName(t, ({ registry }) => asCrio(`${registry.host}/app`));
    const run = await shop.figwasp("deployment");
    assert.deepEqual([verdictOf(run), run.strangers], [current, []]);
    assert(lineOf(run).includes(`(app:latest, asked about ${shop.registry.image("latest")})`), lineOf(run));
    shop.registry.put("latest", imageOf("new"));
    await assertRestarts(shop, "deployment");
  });

  it("is unknown, where that repository does not have what runs", async (t) => {
    const shop = await openShortName(t, ({ registry }) => asCrio(`${registry.host}/app`));
    shop.registry.manifests.delete(sha256(imageOf("old").body));
    shop.registry.put("latest", imageOf("a stranger's"));
    const run = await shop.figwasp("deployment");
    const from = `its node took the short name "app:latest" from ${shop.registry.host}/app`;
    assert(lineOf(run).includes(`${from}, and that repository does not have what runs`), lineOf(run));
    assert.deepEqual([run.code, changesOf(run), run.strangers], [0, [], []]);
    assert.match(verdictOf(run), /^unknown, /);
  });

  it("is unknown, where the node does not tell where it found it", async (t) => {
    const shop = await openShortName(t, () => asCrio(""));
    shop.registry.put("latest", imageOf("new"));
    const run = await shop.figwasp("deployment");
    const reason = 'its node does not tell from which registry it took the short name "app:latest"';
    assert(lineOf(run).includes(reason), lineOf(run));
    assert.deepEqual([run.code, changesOf(run), run.strangers], [0, [], []]);
  });

  it("is one of Docker Hub on a containerd node", async (t) => {
    const shop = await openShortName(t, ({ nodes }) => nodes.report);
    const run = await shop.figwasp("deployment");
    assert.deepEqual([run.code, verdictOf(run)], [1, "failed, no answer for app"]);
    assert.deepEqual(new Set(run.strangers), new Set(["registry-1.docker.io"]));
  });
});
