import { createServer } from "node:http";
import { connect, type Socket } from "node:net";
import { type Ending, witnessOf } from "./leaks.ts";
import { listen } from "./serve.ts";

export interface Proxy {
  /** `127.0.0.1:PORT`. */
  host: string;
  /** The requests to it: `CONNECT registry.example:443`, `HEAD http://registry.example/v2/…`. */
  lines: string[];
  /** The `Proxy-Authorization` header of each request. */
  authorizations: (string | undefined)[];
}

/** A proxy on loopback. It connects every tunnel to one stub, and answers other requests itself. With a status it
 *  refuses all requests. */
export async function serveProxy(
  t: Ending,
  { stub, status = 200 }: { stub?: string; status?: number },
): Promise<Proxy> {
  const proxy: Proxy = { host: "", lines: [], authorizations: [] };
  const sockets: Socket[] = [];
  const note = (line: string, authorization: string | undefined) => {
    proxy.lines.push(line);
    proxy.authorizations.push(authorization);
  };
  const server = createServer(({ method, url, headers }, response) => {
    note(`${method} ${url}`, headers["proxy-authorization"]);
    response.writeHead(status, { "docker-content-digest": `sha256:${"0".repeat(64)}` }).end();
  });
  server.on("connect", ({ method, url, headers }, socket: Socket) => {
    note(`${method} ${url}`, headers["proxy-authorization"]);
    sockets.push(socket.on("error", () => {}));
    if (status !== 200 || stub === undefined) return void socket.end(`HTTP/1.1 ${status} No\r\n\r\n`);
    const [host = "", port] = stub.split(":");
    const far = connect(Number(port), host, () => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      far.pipe(socket).pipe(far);
    });
    sockets.push(far.on("error", () => socket.destroy()));
  });
  witnessOf(t).endings.push(() => {
    for (const socket of sockets) socket.destroy();
    server.closeAllConnections();
    server.close();
  });
  proxy.host = await listen(server);
  return proxy;
}
