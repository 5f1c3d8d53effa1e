/**
 * Calls that share their answer, and calls that wait for one another.
 */

/** Makes a call once for each key and gives every caller the same promise, also while the call is still under way. */
export function shareCall<T>(answers: Map<string, Promise<T>>, key: string, call: () => Promise<T>): Promise<T> {
  const answer = answers.get(key) ?? call();
  answers.set(key, answer);
  return answer;
}

/** Runs the calls of one key one after another, in the order in which they were made. A call that fails does not stop
 *  the next one. */
export function oneAtATime<T>(
  lastCalls: Map<string, Promise<unknown>>,
  key: string,
  call: () => Promise<T>,
): Promise<T> {
  const result = (lastCalls.get(key) ?? Promise.resolve()).then(call);
  const settled = result.catch(() => undefined);
  lastCalls.set(key, settled);
  return result;
}

/** Makes a call for each item, at most `max` at a time. Resolves to the results in the order of the items. */
export async function mapConcurrently<Item, Result>(
  items: readonly Item[],
  max: number,
  call: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const queue = items.entries();
  const results = new Map<number, Result>();
  const work = async () => {
    for (const [index, item] of queue) results.set(index, await call(item));
  };
  await Promise.all(Array.from({ length: max }, work));
  return items.map((_item, index) => results.get(index) as Result);
}
