/**
 * What a stub server records.
 */
import type { IncomingMessage } from "node:http";

export interface Recorded {
  method: string;
  /** The path with its query. */
  path: string;
  headers: IncomingMessage["headers"];
  body: string;
  /** The common name in the client's certificate. */
  client: string | undefined;
}

export interface Stub {
  /** `127.0.0.1:PORT`. */
  host: string;
  /** The name under which clients reach it; by default the host. */
  name: string;
  requests: Recorded[];
  /** `METHOD /path` of each request, without the query. */
  lines(): string[];
  /** How many connections clients made; over TLS, each took a handshake. */
  connections(): number;
}
