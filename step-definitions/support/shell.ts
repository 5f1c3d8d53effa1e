import { type Options, $ as zx } from "zx";
import { interruption } from "./interruption.ts";

/** A command line that prints nothing. Its commands end after ten minutes, or when the run is interrupted. */
export function shell(options: Partial<Options> = {}): typeof zx {
  return zx({ quiet: true, timeout: "10m", signal: interruption.signal, ...options });
}

export const $ = shell();

/** A command line for deleting what was made, whose commands an interruption does not end. */
export const $undo = shell({ signal: new AbortController().signal });
