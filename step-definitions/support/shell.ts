import { type Options, $ as zx } from "zx";
import { interruption } from "./interruption.ts";

/** A command line that prints nothing. Its commands end after ten minutes, or when the run is interrupted. */
export function shell(options: Partial<Options> = {}): typeof zx {
  return zx({ quiet: true, timeout: "10m", signal: interruption.signal, ...options });
}

export const $ = shell();

/** A command line for deleting what was made. An interruption does not end its commands: they are of a process group of their
 *  own, since a terminal sends the signal to every process of the suite's. */
export const $undo = shell({ signal: new AbortController().signal, detached: true });
