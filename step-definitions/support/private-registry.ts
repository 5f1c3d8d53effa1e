import { type Credential, htpasswd } from "./credentials.ts";
import { type HostsFolder, registrySettings, storagePath } from "./registry.ts";
import type { ContainerOptions } from "./containers.ts";
import { nodeImage, scriptOf, type Server } from "./server.ts";
import { createAuthority, type KeyPair, keyPairFiles } from "./tls.ts";

/** The scenario that a private registry is for. */
interface Scenario {
  namespace: string;
  environment: { volume: string };
  plantCredential: () => Credential;
  startServer: (
    name: string,
    options: Omit<ContainerOptions, "name" | "network" | "labels" | "port">,
  ) => Promise<Server>;
}

/** A registry behind TLS that asks for a credential. What is pushed to the registry of the run can be pulled here. */
export interface PrivateRegistry {
  /** The host as the names of the images have it. */
  host: string;
  server: Server;
  credential: Credential;
  /** The certificate, in PEM, of the authority that has issued the certificate of the registry. */
  authority: string;
  tokenServer?: TokenServer;
}

export interface TokenServer {
  host: string;
  server: Server;
}

/** Starts a registry that asks for user name and password itself. */
export async function startWithPasswords(scenario: Scenario): Promise<PrivateRegistry> {
  const credential = scenario.plantCredential();
  const authority = await createAuthority();
  const name = `registry.${scenario.namespace}.test`;
  const environment = {
    REGISTRY_AUTH: "htpasswd",
    REGISTRY_AUTH_HTPASSWD_REALM: "acceptance",
    REGISTRY_AUTH_HTPASSWD_PATH: "/server/htpasswd",
  };
  const files = { "/server/htpasswd": await htpasswd(credential) };
  const server = await startRegistry(scenario, { name, port: 5000, authority, environment, files });
  return { host: `${name}:5000`, server, credential, authority: authority.certificate };
}

/** Starts a registry that asks for a token, and a token server to which it sends its clients. */
export async function startWithTokens(scenario: Scenario, tokenHost: string): Promise<PrivateRegistry> {
  const credential = scenario.plantCredential();
  const authority = await createAuthority();
  const host = `registry.${scenario.namespace}.test`;
  const issuer = "acceptance";
  const environment = {
    REGISTRY_AUTH: "token",
    REGISTRY_AUTH_TOKEN_REALM: `https://${tokenHost}/token`,
    REGISTRY_AUTH_TOKEN_SERVICE: host,
    REGISTRY_AUTH_TOKEN_ISSUER: issuer,
    // The registry accepts tokens that are signed with a certificate of this authority.
    REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE: "/server/authority.pem",
  };
  const files = { "/server/authority.pem": authority.certificate };
  const server = await startRegistry(scenario, { name: host, port: 443, authority, environment, files });
  const tokens = await startTokenServer(scenario, { host: tokenHost, authority, credential, issuer });
  return {
    host,
    server,
    credential,
    authority: authority.certificate,
    tokenServer: { host: tokenHost, server: tokens },
  };
}

interface RegistryPart {
  name: string;
  port: number;
  authority: KeyPair;
  environment: Record<string, string>;
  files: Record<string, string>;
}

async function startRegistry(scenario: Scenario, part: RegistryPart): Promise<Server> {
  const tls = await keyPairFiles(part.authority, part.name);
  return scenario.startServer("private", {
    hosts: [part.name],
    image: "registry:3",
    environment: {
      ...registrySettings,
      REGISTRY_HTTP_ADDR: `:${part.port}`,
      REGISTRY_HTTP_TLS_KEY: "/server/key.pem",
      REGISTRY_HTTP_TLS_CERTIFICATE: "/server/certificate.pem",
      ...part.environment,
    },
    files: { ...tls, ...part.files },
    volume: { name: scenario.environment.volume, path: storagePath },
    ready: /listening on/,
  });
}

async function startTokenServer(
  scenario: Scenario,
  part: { host: string; authority: KeyPair; credential: Credential; issuer: string },
): Promise<Server> {
  const { username, password } = part.credential;
  const { files, command } = await scriptOf("token-server");
  return scenario.startServer("tokens", {
    hosts: [part.host],
    image: nodeImage,
    environment: { ISSUER: part.issuer, USERNAME: username, PASSWORD: password },
    files: { ...files, ...(await keyPairFiles(part.authority, part.host)) },
    command,
    ready: /listening/,
  });
}

// --- What a hosts folder says of its certificate ---

/** Places the authority as `ca.crt` into the folder of the host, where Docker and containerd look for it. */
export function authorityBeside({ host, authority }: PrivateRegistry): HostsFolder {
  return { [`${host}/ca.crt`]: authority };
}

export function authorityInHostsToml({ host, authority }: PrivateRegistry): HostsFolder {
  const hostsToml = `server = "https://${host}"\n\n[host."https://${host}"]\nca = "our-own-authority.pem"\n`;
  return { [`${host}/hosts.toml`]: hostsToml, [`${host}/our-own-authority.pem`]: authority };
}

/** Names a mirror that is asked first, over plain http. */
export function behindMirror({ host, authority }: PrivateRegistry, mirror: string): HostsFolder {
  const server = `server = "https://${host}"\nca = "our-own-authority.pem"\n`;
  const hostsToml = `${server}\n[host."${mirror}"]\ncapabilities = ["pull", "resolve"]\n`;
  return { [`${host}/hosts.toml`]: hostsToml, [`${host}/our-own-authority.pem`]: authority };
}

export function unverified({ host }: PrivateRegistry): HostsFolder {
  const hostsToml = `server = "https://${host}"\n\n[host."https://${host}"]\nskip_verify = true\n`;
  return { [`${host}/hosts.toml`]: hostsToml };
}
