import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Config, readConfig } from "../lib/command/config.ts";
import { ConfigError } from "../lib/errors.ts";
import { parseGoDuration } from "../lib/text.ts";
import { RELEASE } from "../lib/version.ts";

function read(variables: Record<string, string>, ...argv: string[]): Config {
  const config = readConfig(argv, variables);
  assert(config.kind === "config");
  return config;
}

describe("readConfig()", () => {
  it("fills in the defaults", () => {
    assert.deepEqual(read({}), {
      kind: "config",
      command: "run",
      targets: [],
      selector: "figwasp/target=true",
      namespace: undefined,
      isAllNamespaces: false,
      isDryRun: false,
      isWaiting: false,
      output: "text",
      isVerbose: false,
      kubeconfig: undefined,
      context: undefined,
      clientTimeoutMs: 30_000,
      runTimeoutMs: 300_000,
      retryIntervalMs: undefined,
      fieldManager: "figwasp",
      restartAnnotation: "kubectl.kubernetes.io/restartedAt",
      certsDir: "/etc/figwasp/certs.d",
      dockerConfig: undefined,
      tokenHosts: new Map(),
      proxies: { httpProxy: "", httpsProxy: "", noProxy: "" },
    });
  });

  const taken: [string, string[], Record<string, string>, Partial<Config>][] = [
    [
      "a Deployment, as v1",
      [],
      { FIGWASP_TARGET_DEPLOYMENT: "api" },
      { targets: [{ kind: "deployment", name: "api" }] },
    ],
    [
      "a kind and its names, as kubectl",
      ["sts", "db", "cache"],
      {},
      {
        targets: [
          { kind: "statefulset", name: "db" },
          { kind: "statefulset", name: "cache" },
        ],
      },
    ],
    [
      "a Deployment of that name by variable, as v1",
      [],
      { FIGWASP_TARGET_DEPLOYMENT: "deploy" },
      { targets: [{ kind: "deployment", name: "deploy" }] },
    ],
    ["a namespace", [], { FIGWASP_TARGET_NAMESPACE: "shop" }, { namespace: "shop" }],
    ["a namespace by flag", ["-n", "shop"], { FIGWASP_TARGET_NAMESPACE: "other" }, { namespace: "shop" }],
    ["all namespaces", [], { FIGWASP_ALL_NAMESPACES: "true" }, { isAllNamespaces: true }],
    ["-A over a variable that names one", ["-A"], { FIGWASP_TARGET_NAMESPACE: "shop" }, { isAllNamespaces: true }],
    ["a selector", [], { FIGWASP_TARGET_SELECTOR: "tier in (a,b)" }, { selector: "tier in (a,b)" }],
    [
      "-l over a variable that names one",
      ["-l", "a=b"],
      { FIGWASP_TARGET_DEPLOYMENT: "api" },
      { targets: [], selector: "a=b" },
    ],
    ["every workload", [], { FIGWASP_TARGET_ALL: "1" }, { selector: "" }],
    ["--all", ["--all"], {}, { selector: "" }],
    ["-v", ["-v"], {}, { isVerbose: true }],
    ["-v with a number, as kubectl has it", ["-v=6"], {}, { isVerbose: true }],
    ["--verbose by variable", [], { FIGWASP_VERBOSE: "true" }, { isVerbose: true }],
    ["a deadline of a request", [], { FIGWASP_CLIENT_TIMEOUT: "1m30s" }, { clientTimeoutMs: 90_000 }],
    ["a deadline by flag", ["--timeout=10s"], { FIGWASP_RUN_TIMEOUT: "2h" }, { runTimeoutMs: 10_000 }],
    ["a deadline beyond what a timer can hold", [], { FIGWASP_RUN_TIMEOUT: "10000h" }, { runTimeoutMs: 2 ** 31 - 1 }],
    ["a deadline of a fraction", [], { FIGWASP_CLIENT_TIMEOUT: "2.01s" }, { clientTimeoutMs: 2010 }],
    ["a retry interval beyond it", [], { FIGWASP_RETRY_INTERVAL: "1000h" }, { retryIntervalMs: 3_600_000_000 }],
    ["a retry interval", [], { FIGWASP_RETRY_INTERVAL: "1h" }, { retryIntervalMs: 3_600_000 }],
    ["no retry at all", ["--retry-interval=off"], { FIGWASP_RETRY_INTERVAL: "1h" }, { retryIntervalMs: Infinity }],
    ["an empty retry interval as unset", ["--retry-interval="], {}, { retryIntervalMs: undefined }],
    ["a hosts folder", [], { FIGWASP_CERTS_DIR: "/hosts" }, { certsDir: "/hosts" }],
    ["a command", ["rbac", "api"], {}, { command: "rbac", targets: [{ kind: "deployment", name: "api" }] }],
    ["a workload of a command's name", ["deploy/rbac"], {}, { command: "run" }],
    ["a dry run", ["--dry-run"], {}, { isDryRun: true }],
    ["a dry run as kubectl has it", ["--dry-run=client"], {}, { isDryRun: true }],
    ["no dry run as kubectl has it", ["--dry-run=none"], {}, { isDryRun: false }],
    ["no dry run by flag over its variable", ["--dry-run=none"], { FIGWASP_DRY_RUN: "true" }, { isDryRun: false }],
    ["a dry run by variable", [], { FIGWASP_DRY_RUN: "true" }, { isDryRun: true }],
    ["an output", ["-o", "json"], {}, { output: "json" }],
    ["a kubeconfig and a context", ["--kubeconfig=k", "--context", "c"], {}, { kubeconfig: "k", context: "c" }],
    ["KUBECONFIG not as a file, since it may be several", [], { KUBECONFIG: "a:b" }, { kubeconfig: undefined }],
    ["a field manager", [], { FIGWASP_FIELD_MANAGER: "flux" }, { fieldManager: "flux" }],
    [
      "a field manager of 128 bytes",
      [`--field-manager=${"ä ".repeat(42)}ab`],
      {},
      { fieldManager: `${"ä ".repeat(42)}ab` },
    ],
    ["another annotation", ["--restart-annotation=a.example/at"], {}, { restartAnnotation: "a.example/at" }],
    ["a docker config", [], { DOCKER_CONFIG: "/docker" }, { dockerConfig: "/docker" }],
    [
      "hosts of tokens",
      ["--token-hosts", "r.example:5000=auth.example, r.example:5000=[::1]:8443"],
      {},
      { tokenHosts: new Map([["r.example:5000", ["auth.example", "[::1]:8443"]]]) },
    ],
    [
      "hosts of tokens in whatever spelling",
      ["--token-hosts=R.example:443=Auth.example:443"],
      {},
      { tokenHosts: new Map([["r.example", ["auth.example"]]]) },
    ],
    [
      "the proxy variables, in lower case first",
      [],
      { HTTP_PROXY: "proxy:3128", https_proxy: "https://a.example", HTTPS_PROXY: "http://b.example", NO_PROXY: "x" },
      { proxies: { httpProxy: "http://proxy:3128", httpsProxy: "https://a.example", noProxy: "x" } },
    ],
    ["an empty variable as unset, as v1", [], { FIGWASP_CLIENT_TIMEOUT: "" }, { clientTimeoutMs: 30_000 }],
  ];
  for (const [what, argv, variables, expected] of taken) {
    it(`takes ${what}`, () => {
      const config = read(variables, ...argv);
      assert.deepEqual({ ...config, ...expected }, config);
    });
  }

  const kinds: [string, string][] = [
    ["api", "deployment"],
    ["deployment/api", "deployment"],
    ["deploy/api", "deployment"],
    ["deployment.apps/api", "deployment"],
    ["sts/api", "statefulset"],
    ["StatefulSets/api", "statefulset"],
    ["ds/api", "daemonset"],
    ["daemonset.apps/api", "daemonset"],
  ];
  for (const [argument, kind] of kinds) {
    it(`takes ${argument} as a ${kind}`, () => assert.deepEqual(read({}, argument).targets, [{ kind, name: "api" }]));
  }

  it("takes several names, as arguments and in the variable", () => {
    const expected = [
      { kind: "deployment", name: "a" },
      { kind: "statefulset", name: "b" },
    ];
    assert.deepEqual(read({}, "a", "sts/b").targets, expected);
    assert.deepEqual(read({ FIGWASP_TARGET_DEPLOYMENT: "a, sts/b" }).targets, expected);
    assert.deepEqual(read({}, "a", "sts/b", "deploy/a").targets, expected, "twice is once");
  });

  const mistakes: [string, string[], Record<string, string>, RegExp][] = [
    ["a name that is none", ["a/b/c"], {}, /"a" is not one of|"b\/c": an object's name/],
    [
      "a name in upper case",
      ["Api"],
      {},
      /name \(FIGWASP_TARGET_DEPLOYMENT\) "Api": an object's name, such as my-app, is/,
    ],
    [
      "a kind that does not roll",
      ["cronjob/a"],
      {},
      /"cronjob\/a": "cronjob" is not one of deployment, statefulset, daemon/,
    ],
    ["a kind without a name", ["sts/"], {}, /"": an object's name/],
    ["a namespace in upper case", [], { FIGWASP_TARGET_NAMESPACE: "Shop" }, /\(FIGWASP_TARGET_NAMESPACE\) "Shop"/],
    ["a bad duration", [], { FIGWASP_CLIENT_TIMEOUT: "30" }, /\(FIGWASP_CLIENT_TIMEOUT\) "30": a positive Go duration/],
    ["no time at all", [], { FIGWASP_RUN_TIMEOUT: "0s" }, /\(FIGWASP_RUN_TIMEOUT\) "0s": a positive Go duration/],
    [
      "a retry interval that is none",
      [],
      { FIGWASP_RETRY_INTERVAL: "never" },
      /"never": a positive Go .* 6h, or off, is/,
    ],
    [
      "a retry interval of no time",
      ["--retry-interval=0"],
      {},
      /\(FIGWASP_RETRY_INTERVAL\) "0": a positive Go duration/,
    ],
    ["a switch that is neither", [], { FIGWASP_ALL_NAMESPACES: "yes" }, /"yes": true or false is needed/],
    ["an unknown flag", ["--watch-all"], {}, /Unknown option '--watch-all', --help lists the flags/],
    ["a flag with a typing mistake", ["--namespcae=x"], {}, /Unknown option '--namespcae', did you mean --namespace\?/],
    ["a short flag that is none", ["-x"], {}, /Unknown option '-x', --help lists the flags/],
    ["an annotation's key that is none", ["--restart-annotation=a/b/c"], {}, /"a\/b\/c": an annotation's key/],
    ["a field manager on two lines", ["--field-manager=a\nb"], {}, /\(FIGWASP_FIELD_MANAGER\) "a\\nb": a name of at/],
    ["a field manager that is too long", [`--field-manager=${"ä".repeat(65)}`], {}, /ä": a name of at most 128 bytes/],
    ["an output that is none", ["-o", "yaml"], {}, /--output \(FIGWASP_OUTPUT\) "yaml": one of text, json is needed/],
    ["a flag without its value", ["-n"], {}, /-n, --namespace <value>' argument missing/],
    [
      "a kind alone",
      ["deployments"],
      {},
      /Cannot use "deployments": a name is needed, such as deployments\/my-app, or --all/,
    ],
    [
      "names and a selector",
      ["api", "-l", "a=b"],
      {},
      /a name \(FIGWASP_TARGET_DEPLOYMENT\) and --selector \(FIGWASP_TARGET_SELECTOR\) exclude each other/,
    ],
    [
      "a selector and all",
      ["--all", "-l", "a=b"],
      {},
      /--selector \([A-Z_]+\) and --all \(FIGWASP_TARGET_ALL\) exclude each other/,
    ],
    [
      "a namespace and all of them",
      ["-A", "-n", "shop"],
      {},
      /--namespace \([A-Z_]+\) and --all-namespaces \([A-Z_]+\) exclude/,
    ],
    ["names in all namespaces", ["api", "-A"], {}, /a name \([A-Z_]+\) and --all-namespaces \([A-Z_]+\) exclude/],
    ["a doctor in JSON", ["doctor", "-o", "json"], {}, /doctor and --output=json exclude each other$/],
  ];
  for (const [what, argv, variables, message] of mistakes) {
    it(`refuses ${what}`, () => {
      assert.throws(
        () => readConfig(argv, variables),
        (error) => {
          assert(error instanceof ConfigError);
          assert.match(error.message, message);
          assert.doesNotMatch(error.message, /\n/);
          return true;
        },
      );
    });
  }

  it("answers --help with every flag and variable, and --version", () => {
    const help = readConfig(["--help"], {});
    assert(help.kind === "text");
    for (const name of ["DEPLOYMENT", "NAMESPACE", "SELECTOR", "ALL"])
      assert(help.text.includes(`FIGWASP_TARGET_${name} `));
    assert.match(help.text, /--client-timeout +FIGWASP_CLIENT_TIMEOUT .*\(30s\)/);
    assert.match(help.text, /-A, --all-namespaces +FIGWASP_ALL_NAMESPACES /);
    assert.deepEqual(readConfig(["--version"], {}), { kind: "text", text: `figwasp ${RELEASE}` });
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
    it(`refuses ${JSON.stringify(text)}`, () => assert.equal(parseGoDuration(text), NaN));
  }

  it("refuses many digits without a unit, in no more time than it takes to read them", () => {
    for (const start of ["", "1."]) assert.equal(parseGoDuration(start + "1".repeat(200_000)), NaN);
  });
});
