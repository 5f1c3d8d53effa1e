import { once } from "node:events";
import { connect } from "node:net";
import { Worker } from "node:worker_threads";
import { type Ending, witnessOf } from "./leaks.ts";

// Listens with the shortest queue and accepts nothing, so that the system refuses further connections.
const listener = `
  const { parentPort } = require("node:worker_threads");
  const server = require("node:net").createServer();
  server.listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
    parentPort.postMessage(server.address().port);
    setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0));
  });
`;

/** The address `127.0.0.1:PORT` that answers no connection attempt, like a host that is down. */
export async function serveNobody(t: Ending): Promise<string> {
  const worker = new Worker(listener, { eval: true });
  const [port] = (await once(worker, "message")) as [number];
  const callers = Array.from({ length: 8 }, () => connect(port, "127.0.0.1").on("error", () => {}));
  witnessOf(t).endings.push(async () => {
    for (const caller of callers) caller.destroy();
    await worker.terminate();
  });
  await Promise.any(callers.map((caller) => once(caller, "connect")));
  return `127.0.0.1:${port}`;
}
