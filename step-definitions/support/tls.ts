import { generate } from "selfsigned";

/** A certificate with its private key, both in PEM. */
export interface KeyPair {
  key: string;
  certificate: string;
}

const settings = { keyType: "ec", algorithm: "sha256" } as const;

/** Makes a certificate authority, which no machine trusts until it is told to. */
export async function createAuthority(): Promise<KeyPair> {
  const { private: key, cert } = await generate([{ name: "commonName", value: "figwasp acceptance" }], {
    ...settings,
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, critical: true },
    ],
  });
  return { key, certificate: cert };
}

/** Issues a certificate for a server of that name, as the files that the servers of fixtures/ and a registry read. */
export async function keyPairFiles(authority: KeyPair, host: string): Promise<Record<string, string>> {
  const { key, certificate } = await issue(authority, host);
  return { "/server/key.pem": key, "/server/certificate.pem": certificate };
}

async function issue(authority: KeyPair, host: string): Promise<KeyPair> {
  const { private: key, cert } = await generate([{ name: "commonName", value: host }], {
    ...settings,
    ca: { key: authority.key, cert: authority.certificate },
    extensions: [
      { name: "basicConstraints", cA: false, critical: true },
      { name: "keyUsage", digitalSignature: true, critical: true },
      { name: "extKeyUsage", serverAuth: true },
      { name: "subjectAltName", altNames: [{ type: 2, value: host }] },
    ],
  });
  return { key, certificate: cert };
}
