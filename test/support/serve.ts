import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";

export interface Recorded {
  method: string;
  /** Path and query. */
  path: string;
  headers: IncomingMessage["headers"];
  body: string;
}

export interface Stub {
  /** `127.0.0.1:PORT`. */
  host: string;
  requests: Recorded[];
  /** `METHOD /path` of each request, without the query. */
  lines(): string[];
}

/** A server on loopback that records what it is asked; it ends with the test. */
export async function serve(
  t: TestContext,
  answer: (request: Recorded, response: ServerResponse) => void | Promise<void>,
): Promise<Stub> {
  const requests: Recorded[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => (body += chunk.toString()));
    request.on("end", () => {
      const recorded = { method: request.method ?? "", path: request.url ?? "", headers: request.headers, body };
      requests.push(recorded);
      void answer(recorded, response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const lines = () => requests.map(({ method, path }) => `${method} ${path.split("?")[0]}`);
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, requests, lines };
}
