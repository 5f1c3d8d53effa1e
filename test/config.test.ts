import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, it } from "node:test";
import { type Config, ConfigError, parseGoDuration, readConfig, RELEASE } from "../figwasp.ts";

const env = { FIGWASP_TARGET_DEPLOYMENT: "my-app" };

function read(variables: Record<string, string>): Config {
  const config = readConfig([], { ...env, ...variables });
  assert(!("print" in config));
  return config;
}

describe("readConfig()", () => {
  it("fills in the defaults", () => {
    assert.deepEqual(read({}), {
      deployment: "my-app",
      namespace: undefined,
      clientTimeoutMs: 30_000,
      runTimeoutMs: 300_000,
      certsDir: "/etc/figwasp/certs.d",
    });
  });

  it("takes every variable", () => {
    const variables = {
      FIGWASP_TARGET_NAMESPACE: "shop",
      FIGWASP_CLIENT_TIMEOUT: "1m30s",
      FIGWASP_RUN_TIMEOUT: "2h",
      FIGWASP_CERTS_DIR: "/hosts",
    };
    assert.deepEqual(read(variables), {
      deployment: "my-app",
      namespace: "shop",
      clientTimeoutMs: 90_000,
      runTimeoutMs: 7_200_000,
      certsDir: "/hosts",
    });
  });

  it("takes an empty variable as unset, as figwasp v1 did", () => {
    assert.equal(read({ FIGWASP_CLIENT_TIMEOUT: "", FIGWASP_TARGET_NAMESPACE: "" }).clientTimeoutMs, 30_000);
  });

  it("keeps a deadline within what a timer of Node can hold", () => {
    assert.equal(read({ FIGWASP_RUN_TIMEOUT: "10000h" }).runTimeoutMs, 2 ** 31 - 1);
  });

  const mistakes: [string, string[], Record<string, string>, RegExp][] = [
    ["no Deployment", [], { FIGWASP_TARGET_DEPLOYMENT: "" }, /FIGWASP_TARGET_DEPLOYMENT is not set/],
    ["a Deployment with a slash", [], { FIGWASP_TARGET_DEPLOYMENT: "a/b" }, /FIGWASP_TARGET_DEPLOYMENT "a\/b"/],
    ["a namespace in upper case", [], { FIGWASP_TARGET_NAMESPACE: "Shop" }, /FIGWASP_TARGET_NAMESPACE "Shop"/],
    ["a bad duration", [], { FIGWASP_CLIENT_TIMEOUT: "30" }, /FIGWASP_CLIENT_TIMEOUT "30": a positive Go duration/],
    ["no time at all", [], { FIGWASP_RUN_TIMEOUT: "0s" }, /FIGWASP_RUN_TIMEOUT "0s": a positive Go duration/],
    ["an unknown flag", ["--dry"], {}, /Unknown option '--dry'/],
    ["an argument", ["my-app"], {}, /Unexpected argument 'my-app'/],
  ];
  for (const [what, argv, variables, message] of mistakes) {
    it(`refuses ${what}`, () => {
      assert.throws(
        () => readConfig(argv, { ...env, ...variables }),
        (error) => {
          assert(error instanceof ConfigError);
          assert.match(error.message, message);
          assert.doesNotMatch(error.message, /\n/);
          return true;
        },
      );
    });
  }

  it("answers --help with every variable, and --version, without needing any", () => {
    const help = readConfig(["--help"], {});
    assert("print" in help);
    for (const name of ["DEPLOYMENT", "NAMESPACE"]) assert.match(help.print, new RegExp(`FIGWASP_TARGET_${name} `));
    assert.match(help.print, /FIGWASP_CLIENT_TIMEOUT .*default 30s/);
    assert.deepEqual(readConfig(["--version"], {}), { print: `figwasp ${RELEASE}` });
  });
});

describe("RELEASE", () => {
  it("is the version of the package and of the shipped manifests", async () => {
    const { version } = JSON.parse(await readFile("package.json", "utf8")) as { version: string };
    assert.equal(RELEASE, version);
    for (const file of ["deploy/cronjob.yaml", "fixtures/job.yaml"]) {
      assert.match(await readFile(file, "utf8"), new RegExp(`image: ghcr.io/figwasp/figwasp:${RELEASE}\n`));
    }
  });
});

describe("parseGoDuration()", () => {
  const durations: [string, number][] = [
    ["0", 0],
    ["30s", 30_000],
    ["1h30m", 5_400_000],
    ["1.5h", 5_400_000],
    [".5s", 500],
    ["1.s", 1000],
    ["100ms", 100],
    ["1500us", 1.5],
    ["1µs", 0.001],
    ["1μs", 0.001],
    ["2h45m30.5s", 9_930_500],
  ];
  for (const [text, ms] of durations) {
    it(`reads ${text}`, () => assert.equal(parseGoDuration(text), ms));
  }

  for (const text of ["", "30", "s", "-5s", "1d", "1 s", "1s ", ".s", "1h-3m", "١s", "1e3s", "0x1s"]) {
    it(`refuses ${JSON.stringify(text)}`, () => assert.throws(() => parseGoDuration(text), SyntaxError));
  }
});
