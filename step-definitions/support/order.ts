import type { Plugin } from "@cucumber/cucumber/api";
import { inOrder } from "./turns.ts";

const order: Plugin = {
  type: "plugin",
  coordinator({ transform }) {
    transform("pickles:order", (scenarios) => inOrder(scenarios, ({ pickle }) => pickle));
  },
};

export default order;
