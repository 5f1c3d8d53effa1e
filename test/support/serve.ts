import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { TLSSocket, type TlsOptions } from "node:tls";
import { type Ending, witnessOf } from "./leaks.ts";
import type { Recorded, Stub } from "./stub.ts";

export type { Recorded, Stub };

export type Answer = (request: Recorded, response: ServerResponse) => unknown;

/** A server on loopback that records its requests; it ends with the test. With a certificate it uses https. */
export async function serve(t: Ending, answer: Answer, tls?: TlsOptions): Promise<Stub> {
  const requests: Recorded[] = [];
  const listener: RequestListener = (request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => (body += chunk.toString()));
    request.on("end", () => {
      const { method = "", url: path = "", headers, socket } = request;
      const recorded = { method, path, headers, body, client: nameOfClient(socket) };
      requests.push(recorded);
      // Registries send a length too. Without it, the answer to a HEAD ends the connection.
      if (method === "HEAD") response.setHeader("content-length", "1");
      void answer(recorded, response);
    });
  };
  const server = tls ? createTlsServer(tls, listener) : createServer(listener);
  // By default Node ends a connection that was idle for 5 s, which a busy machine may take between two requests.
  server.keepAliveTimeout = 60_000;
  let made = 0;
  server.on(tls ? "secureConnection" : "connection", () => (made += 1));
  const lines = () => requests.map(({ method, path }) => `${method} ${path.split("?")[0]}`);
  const witness = witnessOf(t);
  witness.endings.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const host = await listen(server);
  const stub = { host, name: host, requests, lines, connections: () => made };
  witness.stubs.push(stub);
  return stub;
}

/** Lets a server listen on loopback; returns its `127.0.0.1:PORT`. */
export async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function nameOfClient(socket: IncomingMessage["socket"]): string | undefined {
  const name = socket instanceof TLSSocket ? socket.getPeerCertificate().subject?.CN : undefined;
  return Array.isArray(name) ? name.join() : name;
}
