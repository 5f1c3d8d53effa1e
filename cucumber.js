// Scenarios mostly wait, so that two cores can feed several workers at once. A single scenario needs none: it begins in the
// main thread, before a worker would have started.
const isOne = process.argv.filter((word) => /\.feature:\d+$/.test(word)).length === 1;
const workers = process.env["WORKERS"] ?? (isOne ? "0" : "5");

export default {
  import: ["step-definitions/*.ts", "step-definitions/support/hooks.ts"],
  parallel: Number(workers),
  format: ["./step-definitions/support/blocks.ts", "html:reports/acceptance.html"],
  plugin: ["order", "timing", "tally"].map((name) => `./step-definitions/support/${name}.ts`),
};
