import { writeSync } from "node:fs";
import { Status } from "@cucumber/cucumber";
import type { Plugin } from "@cucumber/cucumber/api";

// Prints `N passed, N failed` as the last line, which programs read. A run without any scenario counts as a failure, since
// its filter was probably mistyped.
const ranks = ["PASSED", "SKIPPED", "UNKNOWN", "PENDING", "UNDEFINED", "AMBIGUOUS", "FAILED"];

const tally: Plugin = {
  type: "plugin",
  coordinator({ on, operation }) {
    if (operation !== "runCucumber") return undefined;
    const worstOf = new Map<string, number>();
    let failedHooks = 0;

    on("message", (message) => {
      if (message.testCaseStarted) worstOf.set(message.testCaseStarted.id, 0);
      const step = message.testStepFinished;
      if (step) {
        const before = worstOf.get(step.testCaseStartedId) ?? 0;
        worstOf.set(step.testCaseStartedId, Math.max(before, ranks.indexOf(step.testStepResult.status)));
      }
      if (message.testCaseFinished?.willBeRetried) worstOf.delete(message.testCaseFinished.testCaseStartedId);
      if (message.testRunHookFinished?.result.status === Status.FAILED) failedHooks++;
    });

    return () => {
      const worst = [...worstOf.values()];
      const passed = worst.filter((rank) => rank === 0).length;
      const skipped = worst.filter((rank) => rank === 1).length;
      let failed = worst.length - passed - skipped + failedHooks;
      if (worst.length === 0) {
        writeSync(1, "No scenario was run: does a tag or path match any?\n");
        failed = Math.max(failed, 1);
        process.exitCode = 1;
      }
      writeSync(1, `${passed} passed, ${failed} failed${skipped ? `, ${skipped} skipped` : ""}\n`);
    };
  },
};

export default tally;
