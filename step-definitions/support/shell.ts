import { type Options, $ as zx } from "zx";

/** Ends every command that is under way, for a run that is interrupted. */
export const interruption = new AbortController();

/** A command line with the suite's settings: quiet, bounded in time, ended with the suite. */
export function shell(options: Partial<Options> = {}): typeof zx {
  return zx({ quiet: true, timeout: "10m", signal: interruption.signal, ...options });
}

export const $ = shell();

/** For deleting what was made: an interruption does not end it. */
export const $undo = shell({ signal: new AbortController().signal });
