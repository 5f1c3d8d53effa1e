import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { chmod, readdir, readFile } from "node:fs/promises";
import { describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { YAML } from "zx";
import { commandsOf, readBlocks } from "./support/pages.ts";
import { folderOf } from "./support/registry.ts";

// How the stage starts and ends, without the programs that it needs: what stands in for them are scripts.

const names = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];

/** A folder of these programs; etcd does as it is told, and the others are never started. */
async function assetsOf(t: TestContext, etcd: string, present = names): Promise<string> {
  const folder = await folderOf(t, Object.fromEntries(present.map((name) => [name, `#!/bin/sh\n${etcd}\n`])));
  for (const name of present) await chmod(`${folder}/${name}`, 0o755);
  return folder;
}

interface Started {
  child: ChildProcess;
  /** Where it keeps its files. */
  folder: string;
  ended: Promise<{ code: number | null; stdout: string; stderr: string }>;
}

async function start(t: TestContext, env: Record<string, string>): Promise<Started> {
  const folder = await folderOf(t, {});
  const child = spawn(process.execPath, ["test/controllers/run.ts"], { env: { TMPDIR: folder, ...env } });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
  const ended = new Promise<Awaited<Started["ended"]>>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, stdout, stderr }));
  });
  return { child, folder, ended };
}

describe("npm run test:controllers", () => {
  const needed =
    "a folder with etcd, kube-apiserver, kube-controller-manager and kubectl is needed " +
    "(test/controllers/README.md tells how to get it)\n";

  it("ends with one sentence where KUBEBUILDER_ASSETS is not set", async (t) => {
    const { ended } = await start(t, {});
    const stderr = `Cannot start a control plane: KUBEBUILDER_ASSETS is not set, ${needed}`;
    assert.deepEqual(await ended, { code: 1, stdout: "", stderr });
  });

  it("ends with one sentence where a program is missing", async (t) => {
    const KUBEBUILDER_ASSETS = await assetsOf(t, "exit 0", ["etcd", "kubectl"]);
    const { ended } = await start(t, { KUBEBUILDER_ASSETS });
    const lacking = "no kube-apiserver and no kube-controller-manager";
    const found = `KUBEBUILDER_ASSETS is ${KUBEBUILDER_ASSETS}, where there is ${lacking}`;
    const stderr = `Cannot start a control plane: ${found}, ${needed}`;
    assert.deepEqual(await ended, { code: 1, stdout: "", stderr });
  });

  it("tells the end of the log of a program that does not start, and leaves no file", async (t) => {
    const KUBEBUILDER_ASSETS = await assetsOf(t, "seq 1 100; echo no space left >&2; exit 3");
    const { folder, ended } = await start(t, { KUBEBUILDER_ASSETS, PATH: process.env["PATH"] ?? "" });
    const log = [...Array.from({ length: 19 }, (_each, at) => `${at + 82}`), "no space left"].join("\n");
    const stderr = `Cannot start a control plane: etcd ended with exit code 3; the end of its log:\n${log}\n`;
    assert.deepEqual(await ended, { code: 1, stdout: "", stderr });
    assert.deepEqual(await readdir(folder), []);
  });

  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    it(`ends what it has started on ${signal}, and leaves no file`, async (t) => {
      const KUBEBUILDER_ASSETS = await assetsOf(t, 'echo $$ > "$TMPDIR/pid"; exec sleep 600');
      const { child, folder, ended } = await start(t, { KUBEBUILDER_ASSETS, PATH: process.env["PATH"] ?? "" });
      let pid = 0;
      while (!pid && child.exitCode === null) {
        await sleep(20);
        pid = Number(await readFile(`${folder}/pid`, "utf8").catch(() => ""));
      }
      child.kill(signal);
      const { code, stderr } = await ended;
      assert.equal(code, 1);
      assert.match(stderr, new RegExp(`^Cannot start a control plane: etcd was not ready, ${signal} was received; `));
      assert.throws(() => process.kill(pid, 0), { code: "ESRCH" });
      assert.deepEqual(await readdir(folder), ["pid"]);
    });
  }
});

describe("test/controllers/README.md", () => {
  it("shows how to get the programs as the workflow gets them", async () => {
    const block = (await readBlocks("test/controllers/README.md")).find(({ language }) => language === "sh");
    assert(block);
    const workflow = YAML.parse(await readFile(".github/workflows/ci.yaml", "utf8")) as {
      jobs: { everything: { steps: { run?: string }[] } };
    };
    const lines = new Set(workflow.jobs.everything.steps.flatMap(({ run = "" }) => run.split("\n")));
    for (const { text } of commandsOf(block)) {
      if (/^(?:export|npm) /.test(text)) continue;
      assert(lines.has(text), `no step runs ${text}`);
    }
  });
});
