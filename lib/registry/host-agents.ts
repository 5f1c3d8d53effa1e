/**
 * How connections to a registry's host are made: which CAs are trusted, which client certificates are shown, and
 * through which proxy.
 */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { AgentOptions } from "node:https";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { type Agents, isUntrusted, newAgents } from "../http/fetch.ts";
import { codeOf } from "../http/transport.ts";
import { messageOf } from "../text.ts";

/** The proxy variables. An empty text means that the variable is not set. */
export interface Proxies {
  /** HTTP_PROXY. */
  httpProxy: string;
  /** HTTPS_PROXY. */
  httpsProxy: string;
  /** NO_PROXY. */
  noProxy: string;
}

/** A certificate with its key, both in PEM, that is shown to a server that asks for one. */
export interface ClientCertificate {
  cert: string;
  key: string;
}

/** What sets a host's connections apart from those of any other host. */
export interface ConnectionSettings {
  /** CAs in PEM that are trusted beside Node's own. */
  cas?: string[];
  clients?: ClientCertificate[];
  /** Whether any certificate is accepted. */
  isUnverified?: boolean;
  dialTimeoutMs?: number | undefined;
}

/** Agents for a host. The system's trust store is read only when a certificate is not trusted without it, since reading
 *  it takes longer than a request. Throws Error for certificates that OpenSSL does not load. */
export function newHostAgents(proxies: Proxies, settings: ConnectionSettings): Agents {
  const { cas = [], clients = [], isUnverified = false, dialTimeoutMs } = settings;
  const options: AgentOptions = { rejectUnauthorized: !isUnverified };
  if (proxies.httpProxy !== "" || proxies.httpsProxy !== "") options.proxyEnv = toProxyEnv(proxies);
  // Without CAs or client certificates of its own, a host is reached by Node's default context, which is made already.
  const hasOwnCertificates = cas.length > 0 || clients.length > 0;
  if (hasOwnCertificates) options.secureContext = newSecureContext("default", cas, clients);

  const agents: Agents = { ...newAgents(options), dialTimeoutMs };
  agents.trustSystemStore = () => {
    const secureContext = newSecureContext("system", cas, clients);
    agents["https:"] = newAgents({ ...options, secureContext })["https:"];
    delete agents.trustSystemStore;
  };
  return agents;
}

// By default Node trusts the CAs that it brings along, and not those of the system. Go trusts the system's, so that
// users of figwasp v1 have mounted their CA into /etc/ssl/certs.
function newSecureContext(store: "default" | "system", cas: string[], clients: ClientCertificate[]): SecureContext {
  const systemCas = store === "system" ? getCACertificates("system") : [];
  const ca = [...new Set([...getCACertificates("default"), ...systemCas, ...cas])];
  const client = { cert: clients.map(({ cert }) => cert), key: clients.map(({ key }) => key) };
  return createSecureContext({ ca, ...(clients.length > 0 && client) });
}

function toProxyEnv({ httpProxy, httpsProxy, noProxy }: Proxies): NodeJS.ProcessEnv {
  return { HTTP_PROXY: httpProxy, HTTPS_PROXY: httpsProxy, NO_PROXY: toNodeNoProxy(noProxy) };
}

// NO_PROXY as Go and curl read it → as Node reads it. A name stands for itself and all names below it:
// `example.org` → `example.org,*.example.org`; a network is a range: `10.0.0.0/8` → `10.0.0.0-10.255.255.255`.
function toNodeNoProxy(noProxy: string): string {
  const entries = noProxy.split(/[\s,]+/).filter((entry) => entry !== "");
  return entries
    .flatMap((entry) => {
      const [, address = "", bits] = /^((?:\d{1,3}\.){3}\d{1,3})\/(\d{1,2})$/.exec(entry) ?? [];
      if (bits !== undefined) return [toAddressRange(address, Number(bits))];
      if (/^[*[]|^[\d.:-]+$/.test(entry)) return [entry];
      // Older releases of Node take `.example` for the end of any name.
      return entry.startsWith(".") ? [`*${entry}`] : [entry, `*.${entry}`];
    })
    .join(",");
}

function toAddressRange(address: string, bits: number): string {
  const size = 2 ** (32 - bits);
  const number = address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
  const first = number - (number % size);
  return `${toAddress(first)}-${toAddress(first + size - 1)}`;
}

function toAddress(number: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join(".");
}

/** Reads a CA, in PEM. Throws Error where the file holds no certificate: OpenSSL would ignore it, and the connection
 *  would fail later, with a message about the server. */
export function readCa(file: string): string {
  const ca = readFileSync(file, "utf8");
  check(() => new X509Certificate(ca), `${file} is no certificate`);
  return ca;
}

/** Reads a client certificate and its key, in PEM; both may be in one file. Throws Error where they do not fit. */
export function readClientCertificate(certFile: string, keyFile: string): ClientCertificate {
  const cert = readFileSync(certFile, "utf8");
  const key = readFileSync(keyFile, "utf8");
  check(() => createSecureContext({ cert, key }), `${certFile} is no certificate with its key in ${keyFile}`);
  return { cert, key };
}

function check(load: () => unknown, whatIsWrong: string): void {
  try {
    load();
  } catch (cause) {
    throw new Error(`${whatIsWrong}: ${messageOf(cause)}`, { cause });
  }
}

/** The message of an error that a registry's host caused; where its certificate is not trusted, with what to do. */
export function describeHostFailure(error: unknown, registry: string): string {
  const hint = `: put its CA into ${registry}/ca.crt of --certs-dir (FIGWASP_CERTS_DIR), or into the system's trust store`;
  return messageOf(error) + (isUntrusted(codeOf(error)) ? hint : "");
}
