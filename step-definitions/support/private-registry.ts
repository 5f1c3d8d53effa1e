import { type Credential, htpasswd } from "./credentials.ts";
import { type HostsFolder, registrySettings, storagePath } from "./registry.ts";
import { nodeImage, scriptOf, type Server } from "./server.ts";
import { createAuthority, issue, type KeyPair } from "./tls.ts";
import type { FigwaspWorld } from "./world.ts";

/** A registry in front of the images of the run's own, behind TLS, that asks for a credential. What is pushed to the
 *  run's own can be pulled here. */
export interface PrivateRegistry {
  /** As in the images' names. */
  host: string;
  server: Server;
  credential: Credential;
  /** The certificate, in PEM, of the authority that its own certificate comes from. */
  authority: string;
  tokenServer?: TokenServer;
}

export interface TokenServer {
  host: string;
  server: Server;
}

/** It asks for user name and password itself. */
export async function startWithPasswords(world: FigwaspWorld): Promise<PrivateRegistry> {
  const credential = world.plantCredential();
  const authority = await createAuthority();
  const name = `registry.${world.namespace}.test`;
  const environment = {
    REGISTRY_AUTH: "htpasswd",
    REGISTRY_AUTH_HTPASSWD_REALM: "acceptance",
    REGISTRY_AUTH_HTPASSWD_PATH: "/server/htpasswd",
  };
  const files = { "/server/htpasswd": await htpasswd(credential) };
  const server = await startRegistry(world, { name, port: 5000, authority, environment, files });
  return { host: `${name}:5000`, server, credential, authority: authority.certificate };
}

/** It asks for a token, and sends its clients to a token server for it. */
export async function startWithTokens(world: FigwaspWorld, tokenHost: string): Promise<PrivateRegistry> {
  const credential = world.plantCredential();
  const authority = await createAuthority();
  const host = `registry.${world.namespace}.test`;
  const issuer = "acceptance";
  const environment = {
    REGISTRY_AUTH: "token",
    REGISTRY_AUTH_TOKEN_REALM: `https://${tokenHost}/token`,
    REGISTRY_AUTH_TOKEN_SERVICE: host,
    REGISTRY_AUTH_TOKEN_ISSUER: issuer,
    // It believes what is signed with a certificate of this authority.
    REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE: "/server/authority.pem",
  };
  const files = { "/server/authority.pem": authority.certificate };
  const server = await startRegistry(world, { name: host, port: 443, authority, environment, files });
  const tokens = await startTokenServer(world, { host: tokenHost, authority, credential, issuer });
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

async function startRegistry(world: FigwaspWorld, part: RegistryPart): Promise<Server> {
  const tls = await keyPairFiles(part.authority, part.name);
  return world.startServer("private", {
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
    volume: { name: world.environment.volume, path: storagePath },
    ready: /listening on/,
  });
}

async function startTokenServer(
  world: FigwaspWorld,
  part: { host: string; authority: KeyPair; credential: Credential; issuer: string },
): Promise<Server> {
  const { username, password } = part.credential;
  const { files, command } = await scriptOf("token-server");
  return world.startServer("tokens", {
    hosts: [part.host],
    image: nodeImage,
    environment: { ISSUER: part.issuer, USERNAME: username, PASSWORD: password },
    files: { ...files, ...(await keyPairFiles(part.authority, part.host)) },
    command,
    ready: /listening/,
  });
}

async function keyPairFiles(authority: KeyPair, host: string): Promise<Record<string, string>> {
  const { key, certificate } = await issue(authority, host);
  return { "/server/key.pem": key, "/server/certificate.pem": certificate };
}

// --- What a hosts folder says of its certificate ---

/** As Docker and containerd have it: a certificate authority beside where hosts.toml would be. */
export function authorityBeside({ host, authority }: PrivateRegistry): HostsFolder {
  return { [`${host}/ca.crt`]: authority };
}

export function authorityInHostsToml({ host, authority }: PrivateRegistry): HostsFolder {
  const hostsToml = `server = "https://${host}"\n\n[host."https://${host}"]\nca = "our-own-authority.pem"\n`;
  return { [`${host}/hosts.toml`]: hostsToml, [`${host}/our-own-authority.pem`]: authority };
}

/** With a mirror before it, which has a certificate of nobody. */
export function behindMirror({ host, authority }: PrivateRegistry, mirror: string): HostsFolder {
  const server = `server = "https://${host}"\nca = "our-own-authority.pem"\n`;
  const hostsToml = `${server}\n[host."${mirror}"]\ncapabilities = ["pull", "resolve"]\n`;
  return { [`${host}/hosts.toml`]: hostsToml, [`${host}/our-own-authority.pem`]: authority };
}

export function unverified({ host }: PrivateRegistry): HostsFolder {
  const hostsToml = `server = "https://${host}"\n\n[host."https://${host}"]\nskip_verify = true\n`;
  return { [`${host}/hosts.toml`]: hostsToml };
}
