import { generate } from "selfsigned";
import type { Ending } from "./leaks.ts";
import { type Answer, serve, type Stub } from "./serve.ts";

/** A certificate and its key, in PEM. */
export interface Certificate {
  cert: string;
  key: string;
}

/** A new CA, which no trust store contains. */
export interface Authority extends Certificate {
  /** Issues a certificate for a server on loopback, for a host under another name, or for a client. */
  issue(name: string): Promise<Certificate>;
}

const keys = { keyType: "ec", algorithm: "sha256" } as const;

export async function newAuthority(name: string): Promise<Authority> {
  const { cert, private: key } = await generate([{ name: "commonName", value: name }], {
    ...keys,
    extensions: [
      { name: "basicConstraints", cA: true, critical: true },
      { name: "keyUsage", keyCertSign: true, critical: true },
    ],
  });
  const issue = async (subject: string): Promise<Certificate> => {
    const altNames = [{ type: 2, value: subject } as const];
    const onLoopback = [{ type: 2, value: "localhost" } as const, { type: 7, ip: "127.0.0.1" } as const];
    const issued = await generate([{ name: "commonName", value: subject }], {
      ...keys,
      ca: { cert, key },
      extensions: [
        { name: "basicConstraints", cA: false },
        { name: "subjectAltName", altNames: subject === "localhost" ? onLoopback : altNames },
      ],
    });
    return { cert: issued.cert, key: issued.private };
  };
  return { cert, key, issue };
}

/** A server on loopback over https. With a CA for clients it requests a certificate, and refuses clients without one
 *  from that CA, unless `isCurious` is set. */
export function serveTls(
  t: Ending,
  { cert, key }: Certificate,
  answer: Answer,
  { clientCa, isCurious = false }: { clientCa?: string; isCurious?: boolean } = {},
): Promise<Stub> {
  const client = { requestCert: true, rejectUnauthorized: !isCurious, ca: clientCa };
  return serve(t, answer, { cert, key, ...(clientCa !== undefined && client) });
}
