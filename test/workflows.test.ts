import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { promisify } from "node:util";
import { YAML } from "zx";
import { RELEASE } from "../lib/version.ts";

describe("RELEASE", () => {
  const places: [string, RegExp][] = [
    ["package.json", /^ {2}"version": "(.*)",$/gm],
    ["README.md", /figwasp:(\d+\.[^\s`]*)/g],
    ["docs/install.md", /(?:figwasp:|\?ref=v|newTag: |version=)(\d+\.[^\s`]*)/g],
    ["deploy/base/cronjob.yaml", /image: ghcr\.io\/figwasp\/figwasp:(.*)/g],
    ["deploy/base/kustomization.yaml", /app\.kubernetes\.io\/version: (.*)/g],
    ["fixtures/job.yaml", /image: ghcr\.io\/figwasp\/figwasp:(.*)/g],
    ["fixtures/figwasp-v1.yaml", /image: ghcr\.io\/figwasp\/figwasp:(.*)/g],
  ];
  for (const [file, pattern] of places) {
    it(`is the version in ${file}`, async () => {
      const found = [...(await readFile(file, "utf8")).matchAll(pattern)].map(([, version]) => version);
      assert(found.length > 0);
      assert.deepEqual([...new Set(found)], [RELEASE]);
    });
  }
});

describe(".ci/release-notes", () => {
  const changelog = `# Changelog

## [Unreleased]

- To come.

## [3.1.0] - 2026-12-01

### Added

- A thing.

## [3.0.0] - 2026-11-30

- The first.

[3.1.0]: https://example/3.1.0
`;
  const run = promisify(execFile);

  interface Versions {
    inPackage?: string;
    inCode?: string;
  }

  /** Runs the workflow's script in a repository with these versions. */
  async function notesOf(t: TestContext, tag: string, versions: Versions = {}): Promise<string> {
    const { inPackage = "3.1.0", inCode = inPackage } = versions;
    const folder = await mkdtemp(join(tmpdir(), "figwasp-release-"));
    t.after(() => rm(folder, { recursive: true }));
    await mkdir(join(folder, "lib"));
    await cp(".ci/release-notes", join(folder, ".ci/release-notes"));
    await writeFile(
      join(folder, "package.json"),
      JSON.stringify({ name: "figwasp", version: inPackage, x: 1 }, null, 2),
    );
    await writeFile(join(folder, "lib/version.ts"), `export const RELEASE = "${inCode}";\n`);
    await writeFile(join(folder, "CHANGELOG.md"), changelog);
    return (await run(join(folder, ".ci/release-notes"), [tag])).stdout;
  }

  it("prints what the changelog says of the release, and of no other", async (t) => {
    assert.equal((await notesOf(t, "v3.1.0")).trim(), "### Added\n\n- A thing.");
    assert.equal((await notesOf(t, "v3.0.0", { inPackage: "3.0.0" })).trim(), "- The first.");
  });

  const refused: [string, string, Versions, RegExp][] = [
    ["a tag of another version", "v3.1.1", {}, /package\.json says 3\.1\.0/],
    ["a tag without its v", "3.1.0", {}, /Cannot release 3\.1\.0/],
    ["a package of another version", "v3.1.0", { inPackage: "3.0.0", inCode: "3.1.0" }, /package\.json says 3\.0\.0/],
    ["a RELEASE of another version", "v3.1.0", { inCode: "3.0.0" }, /RELEASE in lib\/version\.ts says 3\.0\.0/],
    ["a version that the changelog says nothing of", "v3.2.0", { inPackage: "3.2.0" }, /no section "## \[3\.2\.0\]"/],
    ["a part of a version", "v3.1", { inPackage: "3.1" }, /no section "## \[3\.1\]"/],
  ];
  for (const [what, tag, versions, message] of refused) {
    it(`refuses ${what}`, async (t) => {
      await assert.rejects(notesOf(t, tag, versions), { code: 1, stderr: message });
    });
  }
});

interface Job {
  uses?: string;
  permissions?: Record<string, string>;
  "timeout-minutes"?: number;
  steps?: { uses?: string; run?: string; with?: Record<string, unknown> }[];
}

for (const file of await readdir(".github/workflows")) {
  describe(`.github/workflows/${file}`, async () => {
    const text = await readFile(`.github/workflows/${file}`, "utf8");
    const workflow = YAML.parse(text) as { permissions: object; concurrency?: object; jobs: Record<string, Job> };
    const jobs = Object.values(workflow.jobs);
    const steps = jobs.flatMap((job) => job.steps ?? []);

    it("names every action by its commit, with the version beside it", () => {
      const uses = [...text.matchAll(/uses: (.*)/g)].map(([, what = ""]) => what);
      assert(uses.length > 0);
      for (const what of uses) assert.match(what, /^(?:[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$|\.\/)/);
    });

    it("has no right but those that a job asks for", () => {
      assert.deepEqual(workflow.permissions, {});
      for (const job of jobs) assert(job.permissions, "a job does not say what it needs");
    });

    it("keeps no credential in the checkout", () => {
      const checkouts = steps.filter(({ uses }) => uses?.startsWith("actions/checkout@"));
      assert(checkouts.length > 0);
      for (const checkout of checkouts) assert.equal(checkout.with?.["persist-credentials"], false);
    });

    it("puts nothing into a script that somebody else may have written", () => {
      for (const { run = "" } of steps) assert(!run.includes("${{"), run);
    });

    it("has a deadline for every job", () => {
      for (const job of jobs) assert(job.uses !== undefined || (job["timeout-minutes"] ?? Infinity) <= 90);
    });
  });
}
