/**
 * What a user can set. Everything stands in one table: flags as kubectl spells them, a variable for each, and --help.
 * A mistake is a ConfigError, found before any request and answered with exit code 2.
 */
import { parseArgs, type ParseArgsOptionsConfig } from "node:util";
import { closest, distance } from "fastest-levenshtein";
import { ConfigError } from "../errors.ts";
import type { ClusterConfig } from "../kubernetes/connection.ts";
import { type Kind, kinds } from "../kubernetes/objects.ts";
import type { Proxies } from "../registry/hosts.ts";
import { messageOf, parseGoDuration, quote } from "../text.ts";
import { RELEASE } from "../version.ts";

const commands = ["rbac", "doctor"] as const;

export interface Config extends ClusterConfig {
  kind: "config";
  /** `run` judges and restarts; `rbac` prints the rights that it needs; `doctor` checks whether all is there. */
  command: "run" | (typeof commands)[number];
  /** The workloads that are named; none: all that the selector finds. */
  targets: { kind: Kind; name: string }[];
  /** A label selector in the API's form; empty: every workload. */
  selector: string;
  /** Absent: the pod's own namespace, else the kubeconfig context's, else `default`. */
  namespace: string | undefined;
  isAllNamespaces: boolean;
  /** Reads and judges, and writes nothing. */
  isDryRun: boolean;
  /** Follows what it restarts until it has rolled out. */
  isWaiting: boolean;
  output: Output;
  /** Tells each request and its answer. */
  isVerbose: boolean;
  /** Deadline of each request, in milliseconds. */
  clientTimeoutMs: number;
  /** Deadline of the whole run, in milliseconds. */
  runTimeoutMs: number;
  /** When a restart that did not bring the resolved digest may be tried again, in milliseconds. */
  retryIntervalMs: number | undefined;
  /** Folder of `HOST/hosts.toml` files in containerd's format. */
  certsDir: string;
  /** Folder of a docker config, as Docker's own variable names it. */
  dockerConfig: string | undefined;
  /** Further hosts, by registry host, that its credential may be sent to for a token. */
  tokenHosts: Map<string, string[]>;
  proxies: Proxies;
}

const outputs = ["text", "json"] as const;
export type Output = (typeof outputs)[number];

type Setting = { variable: string; about: string; short?: string; unset?: string; isSwitch?: true };

const settings = {
  names: { variable: "FIGWASP_TARGET_DEPLOYMENT", about: "which: a Deployment's NAME, KIND/NAME, several by commas" },
  selector: {
    variable: "FIGWASP_TARGET_SELECTOR",
    short: "l",
    unset: "figwasp/target=true",
    about: "which: by labels",
  },
  all: { variable: "FIGWASP_TARGET_ALL", isSwitch: true, about: "which: every one" },
  namespace: { variable: "FIGWASP_TARGET_NAMESPACE", short: "n", about: "where; else the pod's or context's own" },
  "all-namespaces": { variable: "FIGWASP_ALL_NAMESPACES", short: "A", isSwitch: true, about: "where: everywhere" },
  "dry-run": { variable: "FIGWASP_DRY_RUN", isSwitch: true, about: "judge, and restart nothing" },
  wait: { variable: "FIGWASP_WAIT", isSwitch: true, about: "follow the rollout, and fail where it does not complete" },
  output: { variable: "FIGWASP_OUTPUT", short: "o", unset: "text", about: "text, or json" },
  verbose: { variable: "FIGWASP_VERBOSE", short: "v", isSwitch: true, about: "tell each request and its answer" },
  kubeconfig: { variable: "KUBECONFIG", about: "the kubeconfig file, as kubectl finds it" },
  context: { variable: "FIGWASP_CONTEXT", about: "its context; else the current one" },
  "client-timeout": { variable: "FIGWASP_CLIENT_TIMEOUT", unset: "30s", about: "deadline of each request" },
  timeout: { variable: "FIGWASP_RUN_TIMEOUT", unset: "5m", about: "deadline of the whole run" },
  "retry-interval": {
    variable: "FIGWASP_RETRY_INTERVAL",
    about: "restart again for the same digest after; else never",
  },
  "field-manager": { variable: "FIGWASP_FIELD_MANAGER", unset: "figwasp", about: "who the API server notes as writer" },
  "restart-annotation": {
    variable: "FIGWASP_RESTART_ANNOTATION",
    unset: "kubectl.kubernetes.io/restartedAt",
    about: "pod-template annotation that is set",
  },
  "certs-dir": {
    variable: "FIGWASP_CERTS_DIR",
    unset: "/etc/figwasp/certs.d",
    about: "folder of HOST/hosts.toml and HOST/ca.crt",
  },
  "docker-config": { variable: "DOCKER_CONFIG", about: "folder of a config.json to take credentials from" },
  "token-hosts": { variable: "FIGWASP_TOKEN_HOSTS", about: "REGISTRY=HOST,… where its credential may go for a token" },
} as const satisfies Record<string, Setting>;

type Name = keyof typeof settings;
export type Env = Readonly<Record<string, string | undefined>>;

/** What the arguments and variables ask for: a run, or a text to print (`--help`, `--version`). A flag beats its
 *  variable, and what says which or where by flag beats all that says it by variable; an empty variable counts as
 *  unset, as in figwasp v1. Throws ConfigError, which names the flag or variable. */
export function readConfig(argv: readonly string[], env: Env): Config | { kind: "text"; text: string } {
  const flags = parseFlags(argv);
  if (flags["help"] !== undefined) return { kind: "text", text: helpText() };
  if (flags["version"] !== undefined) return { kind: "text", text: `figwasp ${RELEASE}` };

  const groups: Name[][] = [
    ["names", "selector", "all"],
    ["namespace", "all-namespaces"],
  ];
  const given = (name: Name): string => {
    const group = groups.find((names) => names.includes(name)) ?? [name];
    return group.some((each) => each in flags) ? (flags[name] ?? "") : (env[settings[name].variable] ?? "");
  };
  const named = given("names")
    .split(/[\s,]+/)
    .flatMap((name) => (name === "" ? [] : [parseTarget(name)]));
  const targets = [...new Map(named.map((target) => [`${target.kind}/${target.name}`, target])).values()];
  const isAll = readSwitch("all", given("all"));
  const isAllNamespaces = readSwitch("all-namespaces", given("all-namespaces"));
  refuseTogether({ names: targets.length > 0, selector: given("selector") !== "", all: isAll });
  refuseTogether({ namespace: given("namespace") !== "", "all-namespaces": isAllNamespaces });
  refuseTogether({ names: targets.length > 0, "all-namespaces": isAllNamespaces });
  const command = commands.find((each) => each === flags["command"]) ?? "run";
  const isTextAlone = command !== "run" && flags["output"] === "json";
  if (isTextAlone) throw new ConfigError(`Cannot start: ${command} and --output=json exclude each other`);
  return {
    kind: "config",
    command,
    targets,
    selector: isAll ? "" : given("selector") || settings.selector.unset,
    namespace: given("namespace") ? checkName("namespace", given("namespace")) : undefined,
    isAllNamespaces,
    isDryRun: readSwitch("dry-run", given("dry-run")) || command !== "run",
    isWaiting: readSwitch("wait", given("wait")),
    isVerbose: readSwitch("verbose", given("verbose")),
    output: readOutput(given("output") || settings.output.unset),
    kubeconfig: flags["kubeconfig"] || undefined,
    context: given("context") || undefined,
    clientTimeoutMs: readTimeout("client-timeout", given("client-timeout")),
    runTimeoutMs: readTimeout("timeout", given("timeout")),
    retryIntervalMs: given("retry-interval") ? readDuration("retry-interval", given("retry-interval")) : undefined,
    fieldManager: given("field-manager") || settings["field-manager"].unset,
    restartAnnotation: readAnnotation(given("restart-annotation") || settings["restart-annotation"].unset),
    certsDir: given("certs-dir") || settings["certs-dir"].unset,
    dockerConfig: given("docker-config") || undefined,
    tokenHosts: readTokenHosts(given("token-hosts")),
    proxies: readProxies(env),
  };
}

// The flags that are there, by name, with switches as "true"; the arguments, which are names, with commas.
function parseFlags(argv: readonly string[]): Partial<Record<string, string>> {
  const options: ParseArgsOptionsConfig = { help: { type: "boolean", short: "h" }, version: { type: "boolean" } };
  for (const [name, { short, isSwitch }] of settingRows()) {
    options[name] = { type: isSwitch ? "boolean" : "string", ...(short && { short }) };
  }
  // As kubectl has it: `--dry-run=client`, `--dry-run=none`, `-v=6`.
  const args = argv.map((word) => word.replace(/^(--dry-run)=(?:client|server)$|^(-v)=?\d+$/, "$1$2"));
  const isNone = args.includes("--dry-run=none");
  const known = args.filter((word) => word !== "--dry-run=none");
  const { values, positionals } = parseWords(known, options);
  if (isNone) values["dry-run"] = false;
  // A workload of such a name is told apart by its kind: `deployment/rbac`.
  const command = commands.some((each) => each === positionals[0]) ? positionals.shift() : undefined;
  const names = positionals.length > 0 ? { names: readNames(positionals).join(",") } : {};
  const flags = Object.fromEntries(Object.entries(values).map(([name, value]) => [name, String(value)]));
  return { ...flags, ...names, ...(command !== undefined && { command }) };
}

function parseWords(args: string[], options: ParseArgsOptionsConfig) {
  try {
    return parseArgs({ args, options, allowPositionals: true });
  } catch (error) {
    const [, wrong] = /^Unknown option '(-[^']*)'/.exec(messageOf(error)) ?? [];
    const flags = Object.keys(options).map((name) => `--${name}`);
    const nearest = wrong?.startsWith("--") ? closest(wrong, flags) : "";
    const hint =
      wrong && nearest && distance(wrong, nearest) <= 3 ? `did you mean ${nearest}?` : "--help lists the flags";
    throw new ConfigError(`Cannot start: ${messageOf(error).split(/[.\n]/)[0]}, ${hint}`);
  }
}

// `deployment my-app web`, as kubectl has it beside `deployment/my-app`; a Deployment of such a name has to be told so.
function readNames([first = "", ...rest]: string[]): string[] {
  if (!kinds.some((kind) => kindWords[kind].test(first))) return [first, ...rest];
  if (rest.length > 0) return rest.map((name) => (name.includes("/") ? name : `${first}/${name}`));
  throw new ConfigError(`Cannot use ${quote(first)}: a name is needed, such as ${first}/my-app, or --all`);
}

function settingRows(): [string, Setting][] {
  return Object.entries(settings).filter(([name]) => name !== "names");
}

function code(text: string): string {
  return `\`${text.replaceAll("|", "\\|")}\``;
}

/** The settings as a table of Markdown, for docs/configuration.md. */
export function settingsTable(): string {
  const rows = Object.entries<Setting>(settings).map(([name, { short, variable, about, unset }]) => {
    const spellings = name === "names" ? ["[KIND/]NAME…"] : [...(short ? [`-${short}`] : []), `--${name}`];
    return [spellings.map(code).join(", "), code(variable), unset ? code(unset) : "", about.replaceAll("|", "\\|")];
  });
  const head = ["flag", "variable", "default", "meaning"];
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

function helpText(): string {
  const rows = Object.entries<Setting>(settings).map(([name, { short, variable, about, unset }]) => {
    const flag = name === "names" ? "[KIND/]NAME…" : `${short ? `-${short}, ` : "    "}--${name}`;
    return `  ${flag.padEnd(22)} ${variable.padEnd(25)} ${about}${unset ? ` (${unset})` : ""}`;
  });
  return `Usage: figwasp [[KIND/]NAME… | -l SELECTOR | --all] [-n NAMESPACE | -A]
       figwasp rbac [the same]      print the smallest Role for these workloads
       figwasp doctor [the same]    check rights, registries and pull policies, and change nothing

Restarts Deployments, StatefulSets and DaemonSets when their image tag has moved in the registry.
${rows.join("\n")}

Durations are Go's, such as 30s or 1m30s. The exit code is 0 when all was judged and acted on, 1 when something
failed or did not converge, 2 for a bad flag or variable, or without a cluster to ask.`;
}

const kindWords: Record<Kind, RegExp> = {
  deployment: /^(?:deployments?|deploy)(?:\.apps)?$/i,
  statefulset: /^(?:statefulsets?|sts)(?:\.apps)?$/i,
  daemonset: /^(?:daemonsets?|ds)(?:\.apps)?$/i,
};

// As kubectl takes and prints them: `deployment/api`, `sts/db`, `deployment.apps/api`; `api` is a Deployment.
function parseTarget(text: string): { kind: Kind; name: string } {
  const [, word = "deployment", name = ""] = /^(?:([^/]*)\/)?(.*)$/s.exec(text) ?? [];
  const kind = kinds.find((each) => kindWords[each].test(word));
  if (kind) return { kind, name: checkName("names", name) };
  throw new ConfigError(`Cannot use ${quote(text)}: ${quote(word)} is not one of ${kinds.join(", ")}`);
}

function refuseTogether(given: Partial<Record<Name, boolean>>): void {
  const set = (Object.keys(given) as Name[]).filter((name) => given[name]);
  const words = set.map(spell).join(" and ");
  if (set.length > 1) throw new ConfigError(`Cannot start: ${words} exclude each other, keep one of them`);
}

// A user may have set either.
function spell(setting: Name): string {
  return `${setting === "names" ? "a name" : `--${setting}`} (${settings[setting].variable})`;
}

// Names go into URLs; the API server would answer a wrong one with a puzzling 404.
function checkName(setting: Name, name: string): string {
  return /^[a-z0-9][a-z0-9.-]{0,252}$/.test(name) ? name : refuse(setting, name, "an object's name, such as my-app,");
}

function readSwitch(setting: Name, text: string): boolean {
  if (["", "false", "0"].includes(text)) return false;
  return ["true", "1"].includes(text) || refuse(setting, text, "true or false");
}

// `registry.example=tokens.example.net`, several by commas. A URL, a path or a glob would match nothing.
function readTokenHosts(text: string): Map<string, string[]> {
  const hosts = new Map<string, string[]>();
  for (const pair of text.split(/[\s,]+/).filter((word) => word !== "")) {
    const [, registry = "", host = ""] = /^([a-z0-9.:[\]-]+)=([a-z0-9.:[\]-]+)$/i.exec(pair) ?? [];
    const [from, to] = [`https://${registry}`, `https://${host}`];
    if (!URL.canParse(from) || !URL.canParse(to)) {
      refuse("token-hosts", pair, "REGISTRY=HOST, such as r.example=auth.example,");
    }
    // As they are compared: in lower case, and without the port that https has anyway.
    const key = new URL(from).host;
    hosts.set(key, [...(hosts.get(key) ?? []), new URL(to).host]);
  }
  return hosts;
}

// The variables that curl, Docker and Go programs take, in lower case first. They may hold a password: no message
// shows them.
function readProxies(env: Env): Proxies {
  const read = (name: string) => env[name.toLowerCase()] || env[name] || "";
  const readUrl = (name: string) => {
    const url = read(name).replace(/^(?=[^:/]+(?::\d+)?$)/, "http://"); // `proxy.example:3128`, as in Go
    if (url === "" || (URL.canParse(url) && /^https?:$/.test(new URL(url).protocol))) return url;
    throw new ConfigError(`Cannot use ${name}: an http:// or https:// URL is needed`);
  };
  return { httpProxy: readUrl("HTTP_PROXY"), httpsProxy: readUrl("HTTPS_PROXY"), noProxy: read("NO_PROXY") };
}

// The API server would refuse another one only when a workload is to be restarted.
function readAnnotation(text: string): string {
  const isKey = /^(?:[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?$/.test(text);
  return isKey ? text : refuse("restart-annotation", text, "an annotation's key, such as example.org/restartedAt,");
}

function readOutput(text: string): Output {
  return outputs.find((each) => each === text) ?? refuse("output", text, `one of ${outputs.join(", ")}`);
}

// In whole milliseconds, as timers want them.
function readDuration(setting: Name, text: string): number {
  const ms = Math.round(parseGoDuration(text));
  return ms >= 1 ? ms : refuse(setting, text, "a positive Go duration, such as 30s or 1m30s,");
}

// Node's timers end at 2^31-1 ms, 24 days; a longer one would fire at once.
function readTimeout(setting: "client-timeout" | "timeout", text: string): number {
  return Math.min(readDuration(setting, text || settings[setting].unset), 2 ** 31 - 1);
}

function refuse(setting: Name, found: string, needed: string): never {
  throw new ConfigError(`Cannot use ${spell(setting)} ${quote(found)}: ${needed} is needed`);
}
