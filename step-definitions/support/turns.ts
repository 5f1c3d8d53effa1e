import type { ITestCaseHookParameter } from "@cucumber/cucumber";

/** The tag of a scenario that changes or looks at more than its own. No other scenario runs beside it. */
export const exclusive = "@exclusive";

type Scenario = Pick<ITestCaseHookParameter["pickle"], "tags">;

export function isExclusive({ tags }: Scenario): boolean {
  return tags.some(({ name }) => name === exclusive);
}

/** Tells whether a scenario may begin while others run. */
export function mayBegin(scenario: Scenario, running: readonly Scenario[]): boolean {
  return running.length === 0 || !(isExclusive(scenario) || running.some(isExclusive));
}

/** Moves exclusive scenarios to the end. Cucumber offers scenarios to a worker only when it has ended one, and a worker that
 *  was refused all of them is never asked again. After an exclusive scenario only one worker would be left for the rest. */
export function inOrder<T>(scenarios: readonly T[], pickleOf: (scenario: T) => Scenario): T[] {
  const [last, first] = [true, false].map((wanted) =>
    scenarios.filter((each) => isExclusive(pickleOf(each)) === wanted),
  );
  return [...(first ?? []), ...(last ?? [])];
}
