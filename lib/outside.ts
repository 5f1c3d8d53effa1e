/**
 * The real world, for the entry point of figwasp.ts.
 */
import { writeFile } from "node:fs/promises";
import { fetch } from "undici";
import type { Outside } from "../figwasp.ts";
import { messageOf } from "./transport.ts";

/** SIGTERM and SIGINT end the run, with the report so far. */
export function realOutside(connect: Outside["connect"]): Outside {
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.once(name, () => stop.abort(new Error(`${name} was received`)));
  }
  return {
    fetch,
    connect,
    now: () => new Date(),
    log: (line) => console.log(line),
    logError: (line) => console.error(line),
    end: leaveMessage,
    stop: stop.signal,
  };
}

// Where the kubelet mounts a file for it; elsewhere there is none.
async function leaveMessage(message: string): Promise<void> {
  try {
    await writeFile("/dev/termination-log", message, { flag: "r+" });
  } catch (error) {
    const isElsewhere = ["ENOENT", "EACCES", "EPERM", "EROFS"].includes((error as NodeJS.ErrnoException).code ?? "");
    if (!isElsewhere) console.error(`figwasp: Cannot leave its last words: ${messageOf(error)}`);
  }
}
