/** The kinds of work on which a scenario spends its time. */
export type Kind =
  | "namespace"
  | "images"
  | "servers"
  | "rollouts"
  | "figwasp's installation"
  | "figwasp in the cluster"
  | "figwasp on this machine"
  | "the client"
  | "checks after the scenario"
  | "evidence";

/** The time that each kind of work took, in milliseconds. */
export type Spent = Partial<Record<Kind, number>>;

/** The media type of the attachment in which a scenario says how it has spent its time. */
export const mediaType = "application/vnd.figwasp.spent+json";

/** Measures how one scenario spends its time. Work that is part of other work counts as the latter. */
export class Stopwatch {
  readonly spent: Spent = {};
  #isRunning = false;

  async measure<T>(kind: Kind, work: () => Promise<T>): Promise<T> {
    if (this.#isRunning) return work();
    this.#isRunning = true;
    const started = performance.now();
    try {
      return await work();
    } finally {
      this.#isRunning = false;
      this.spent[kind] = (this.spent[kind] ?? 0) + performance.now() - started;
    }
  }
}
