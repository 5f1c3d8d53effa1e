import type { FormatterPlugin } from "@cucumber/cucumber/api";
import { PrettyPrinter } from "@cucumber/pretty-formatter";
import { interruption } from "./interruption.ts";

type Envelope = Parameters<PrettyPrinter["update"]>[0];

// Scenarios run side by side, and cucumber's own printer would mix their steps. This one prints a scenario when it has
// ended, as one block.
const blocks: FormatterPlugin = {
  type: "formatter",
  formatter({ on, stream }) {
    const options = { includeAttachments: false, includeFeatureLine: false, includeRuleLine: false, summarise: true };
    const printer = new PrettyPrinter({ stream, options });
    const print = inBlocks((message) => printer.update(message));
    // What fails in a run that was interrupted fails for that reason alone.
    on("message", (message) => {
      if (!interruption.signal.aborted) print(message);
    });
  },
};

/** Hands on the messages of a scenario when it has ended, one after the other, and every other message at once. */
export function inBlocks(handOn: (message: Envelope) => void): (message: Envelope) => void {
  const held = new Map<string, Envelope[]>();
  return (message) => {
    const scenario = scenarioOf(message);
    if (scenario === undefined) {
      handOn(message);
      return;
    }
    const block = [...(held.get(scenario) ?? []), message];
    held.set(scenario, block);
    if (!message.testCaseFinished) return;
    held.delete(scenario);
    for (const each of block) handOn(each);
  };
}

function scenarioOf(message: Envelope): string | undefined {
  const { testCaseStarted, testStepStarted, testStepFinished, testCaseFinished, attachment } = message;
  if (testCaseStarted) return testCaseStarted.id;
  return (testStepStarted ?? testStepFinished ?? testCaseFinished ?? attachment)?.testCaseStartedId;
}

export default blocks;
