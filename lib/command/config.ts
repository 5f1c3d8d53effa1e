/**
 * Settings: the command line and the environment. One table holds the flags, which are spelled as kubectl spells them,
 * a variable for each, and their help. A setting that cannot be used is a ConfigError before any request is sent; a
 * selector is read by the API server alone.
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

/** What a run is to do. */
export interface Config extends ClusterConfig {
  kind: "config";
  /** `run` judges and restarts; `rbac` prints the Role that this needs; `doctor` checks what a run would need. */
  command: "run" | (typeof commands)[number];
  /** The workloads that are named. If none is, the selector decides. */
  targets: { kind: Kind; name: string }[];
  /** A label selector in the API's query form. Empty selects every workload. */
  selector: string;
  /** Undefined: that of the kubeconfig's context, or without a kubeconfig the pod's own, or `default`. */
  namespace: string | undefined;
  isAllNamespaces: boolean;
  /** Whether to judge and write nothing. `rbac` and `doctor` are always dry runs. */
  isDryRun: boolean;
  /** Whether to wait until everything that is restarted has rolled out. */
  isWaiting: boolean;
  output: Output;
  /** Whether to print each request and its answer. */
  isVerbose: boolean;
  /** Deadline of each request, in milliseconds. */
  clientTimeoutMs: number;
  /** Deadline of the whole run, in milliseconds. */
  runTimeoutMs: number;
  /** How long after a restart that did not bring the resolved digest another one may be made, in milliseconds.
   *  Undefined: pauses that grow. Infinity: never. */
  retryIntervalMs: number | undefined;
  /** Folder of `HOST/hosts.toml` files in containerd's format. */
  certsDir: string;
  /** Folder that holds a docker config: DOCKER_CONFIG. */
  dockerConfig: string | undefined;
  /** Further hosts, by registry host, that its credential may be sent to for a token. */
  tokenHosts: Map<string, string[]>;
  proxies: Proxies;
}

const outputs = ["text", "json"] as const;
export type Output = (typeof outputs)[number];

/** `unset` is the default, as a user would write it. */
type Setting = { variable: string; about: string; short?: string; unset?: string; isSwitch?: true };

/** Selects by the label of figwasp v2. */
export const defaultSelector = "figwasp/target=true";

const settings = {
  names: { variable: "FIGWASP_TARGET_DEPLOYMENT", about: "which: a Deployment's NAME, KIND/NAME, several by commas" },
  selector: {
    variable: "FIGWASP_TARGET_SELECTOR",
    short: "l",
    unset: defaultSelector,
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
    about: "pause before a retry, or off; else 1h, growing to 24h",
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

/** Reads arguments and variables into what a run is to do, or into a text to print (`--help`, `--version`). A flag
 *  takes precedence over its variable. If a flag says which workloads (names, --selector, --all), no variable that says
 *  which is read; likewise for where (--namespace, --all-namespaces). An empty variable counts as unset, as in figwasp
 *  v1. Throws ConfigError, which names the flag or variable. */
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
    return group.some((member) => member in flags) ? (flags[name] ?? "") : (env[settings[name].variable] ?? "");
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
  const command = commands.find((name) => name === flags["command"]) ?? "run";
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
    retryIntervalMs: readRetryInterval(given("retry-interval")),
    fieldManager: readFieldManager(given("field-manager") || settings["field-manager"].unset),
    restartAnnotation: readAnnotation(given("restart-annotation") || settings["restart-annotation"].unset),
    certsDir: given("certs-dir") || settings["certs-dir"].unset,
    dockerConfig: given("docker-config") || undefined,
    tokenHosts: readTokenHosts(given("token-hosts")),
    proxies: readProxies(env),
  };
}

// The flags that are given, by name. The value of a switch is "true". The names of workloads, which are arguments, are
// joined by commas.
function parseFlags(argv: readonly string[]): Partial<Record<string, string>> {
  const options: ParseArgsOptionsConfig = { help: { type: "boolean", short: "h" }, version: { type: "boolean" } };
  for (const [name, { short, isSwitch }] of settingRows()) {
    options[name] = { type: isSwitch ? "boolean" : "string", ...(short && { short }) };
  }
  // kubectl takes these forms too: `--dry-run=client`, `--dry-run=none`, `-v=6`.
  const args = argv.map((word) => word.replace(/^(--dry-run)=(?:client|server)$|^(-v)=?\d+$/, "$1$2"));
  const isNone = args.includes("--dry-run=none");
  const known = args.filter((word) => word !== "--dry-run=none");
  const { values, positionals } = parseWords(known, options);
  if (isNone) values["dry-run"] = false;
  // A Deployment that has the name of a command is written with its kind: `deployment/rbac`.
  const command = commands.some((name) => name === positionals[0]) ? positionals.shift() : undefined;
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

// kubectl takes `deployment my-app web` as well as `deployment/my-app`. A Deployment that has the name of a kind is
// written with its kind: `deployment/sts`.
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

// The forms that kubectl takes and prints: `deployment/api`, `sts/db`, `deployment.apps/api`. Without a kind, `api` is
// a Deployment.
function parseTarget(text: string): { kind: Kind; name: string } {
  const [, word = "deployment", name = ""] = /^(?:([^/]*)\/)?(.*)$/s.exec(text) ?? [];
  const kind = kinds.find((candidate) => kindWords[candidate].test(word));
  if (kind) return { kind, name: checkName("names", name) };
  throw new ConfigError(`Cannot use ${quote(text)}: ${quote(word)} is not one of ${kinds.join(", ")}`);
}

function refuseTogether(given: Partial<Record<Name, boolean>>): void {
  const set = (Object.keys(given) as Name[]).filter((name) => given[name]);
  const words = set.map(spell).join(" and ");
  if (set.length > 1) throw new ConfigError(`Cannot start: ${words} exclude each other, keep one of them`);
}

// Names the flag and the variable, since a user may have set either.
function spell(setting: Name): string {
  return `${setting === "names" ? "a name" : `--${setting}`} (${settings[setting].variable})`;
}

// A name becomes a part of a URL. For a malformed one the API server would answer 404, which explains nothing.
function checkName(setting: Name, name: string): string {
  return /^[a-z0-9][a-z0-9.-]{0,252}$/.test(name) ? name : refuse(setting, name, "an object's name, such as my-app,");
}

function readSwitch(setting: Name, text: string): boolean {
  if (["", "false", "0"].includes(text)) return false;
  return ["true", "1"].includes(text) || refuse(setting, text, "true or false");
}

// `registry.example=tokens.example.net`, several separated by commas. A URL, a path or a glob is refused, since it
// would match no host.
function readTokenHosts(text: string): Map<string, string[]> {
  const hosts = new Map<string, string[]>();
  for (const pair of text.split(/[\s,]+/).filter((word) => word !== "")) {
    const [, registry = "", host = ""] = /^([a-z0-9.:[\]-]+)=([a-z0-9.:[\]-]+)$/i.exec(pair) ?? [];
    const [from, to] = [`https://${registry}`, `https://${host}`];
    if (!URL.canParse(from) || !URL.canParse(to)) {
      refuse("token-hosts", pair, "REGISTRY=HOST, such as r.example=auth.example,");
    }
    // Hosts are compared in lower case and without the default port of https.
    const key = new URL(from).host;
    hosts.set(key, [...(hosts.get(key) ?? []), new URL(to).host]);
  }
  return hosts;
}

// The variables that curl, Docker and Go programs read; the lower-case spelling takes precedence. No message shows a
// value, since it may hold a password.
function readProxies(env: Env): Proxies {
  const read = (name: string) => env[name.toLowerCase()] || env[name] || "";
  const readUrl = (name: string) => {
    const url = read(name).replace(/^(?=[^:/]+(?::\d+)?$)/, "http://"); // `proxy.example:3128`, as in Go
    if (url === "" || (URL.canParse(url) && /^https?:$/.test(new URL(url).protocol))) return url;
    throw new ConfigError(`Cannot use ${name}: an http:// or https:// URL is needed`);
  };
  return { httpProxy: readUrl("HTTP_PROXY"), httpsProxy: readUrl("HTTPS_PROXY"), noProxy: read("NO_PROXY") };
}

// Without this check, the API server would refuse a malformed key only when a workload is restarted.
function readAnnotation(text: string): string {
  const isKey = /^(?:[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?$/.test(text);
  return isKey ? text : refuse("restart-annotation", text, "an annotation's key, such as example.org/restartedAt,");
}

// Without this check, the API server would refuse it only when a workload is restarted. Its limit is in bytes, and what
// is printable is what Go's unicode.IsPrint says. See apimachinery, ValidateFieldManager.
function readFieldManager(text: string): string {
  const isPrintable = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]+$/u.test(text);
  if (isPrintable && Buffer.byteLength(text) <= 128) return text;
  return refuse("field-manager", text, "a name of at most 128 bytes, all of them printable,");
}

function readOutput(text: string): Output {
  return outputs.find((output) => output === text) ?? refuse("output", text, `one of ${outputs.join(", ")}`);
}

// In whole milliseconds, since timers take no fractions.
function readDuration(setting: Name, text: string, needed: string): number {
  const ms = Math.round(parseGoDuration(text));
  return ms >= 1 ? ms : refuse(setting, text, needed);
}

function readRetryInterval(text: string): number | undefined {
  if (text === "") return undefined;
  return text === "off" ? Infinity : readDuration("retry-interval", text, "a positive Go duration such as 6h, or off,");
}

// A timer of Node takes at most 2^31-1 ms, which is 24 days. A longer one would fire at once.
function readTimeout(setting: "client-timeout" | "timeout", text: string): number {
  const needed = "a positive Go duration, such as 30s or 1m30s,";
  return Math.min(readDuration(setting, text || settings[setting].unset, needed), 2 ** 31 - 1);
}

function refuse(setting: Name, found: string, needed: string): never {
  throw new ConfigError(`Cannot use ${spell(setting)} ${quote(found)}: ${needed} is needed`);
}
