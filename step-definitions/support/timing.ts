import { writeSync } from "node:fs";
import type { Plugin } from "@cucumber/cucumber/api";
import { steps } from "./lifecycle.ts";
import { type Ended, summarize } from "./summary.ts";
import { mediaType, type Spent } from "./waits.ts";

interface Timestamp {
  seconds: number;
  nanos: number;
}

// Prints where the time of the run went.
const timing: Plugin = {
  type: "plugin",
  coordinator({ on, operation }) {
    if (operation !== "runCucumber") return undefined;
    const names = new Map<string, { name: string; place: string }>();
    const pickleOf = new Map<string, string>();
    const begun = new Map<string, { pickle: string; at: number }>();
    const spent = new Map<string, Spent>();
    const workers = new Set<string>();
    const ended: (Ended & { endedAt: number })[] = [];

    on("message", ({ pickle, testCase, testCaseStarted, testCaseFinished, attachment }) => {
      if (pickle) names.set(pickle.id, { name: pickle.name, place: `${pickle.uri}:${pickle.location?.line ?? "?"}` });
      if (testCase) pickleOf.set(testCase.id, testCase.pickleId);
      if (testCaseStarted) {
        const { id, testCaseId, workerId = "", timestamp } = testCaseStarted;
        begun.set(id, { pickle: pickleOf.get(testCaseId) ?? "", at: inSeconds(timestamp) });
        workers.add(workerId);
      }
      if (attachment?.mediaType === mediaType) {
        spent.set(attachment.testCaseStartedId ?? "", JSON.parse(attachment.body) as Spent);
      }
      if (testCaseFinished) {
        const { testCaseStartedId: id, timestamp } = testCaseFinished;
        const { pickle: pickleId = "", at = NaN } = begun.get(id) ?? {};
        const { name = "", place = "" } = names.get(pickleId) ?? {};
        const endedAt = inSeconds(timestamp);
        ended.push({ name, place, seconds: endedAt - at, spent: spent.get(id) ?? {}, endedAt });
      }
    });

    return () => {
      const first = Math.min(...[...begun.values()].map(({ at }) => at));
      const scenariosSeconds = ended.length > 0 ? Math.max(...ended.map(({ endedAt }) => endedAt)) - first : 0;
      const runSeconds = performance.now() / 1000;
      const lines = summarize({ steps, scenarios: ended, scenariosSeconds, runSeconds, workers: workers.size });
      writeSync(1, `\n${lines.join("\n")}\n\n`);
    };
  },
};

function inSeconds({ seconds, nanos }: Timestamp): number {
  return seconds + nanos / 1e9;
}

export default timing;
