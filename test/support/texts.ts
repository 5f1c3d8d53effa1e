/** The texts that a program can print, read from its source. */
import { readFile } from "node:fs/promises";
import type { ParserOptions } from "prettier";
import { parsers } from "prettier/plugins/typescript";
import { isObject } from "../../lib/text.ts";

/** The texts in a TypeScript file, with `…` for each inserted value. A text with a choice is listed once per choice:
 *  `${isGone ? "asked" : "refused"} with ${source}` is `asked with …` and `refused with …`. */
export async function textsOf(file: string): Promise<string[]> {
  const options = { filepath: file } as ParserOptions;
  const program: unknown = await parsers.typescript.parse(await readFile(file, "utf8"), options);
  return textsIn(program).map((text) => text.replaceAll(/…+/g, "…"));
}

function textsIn(node: unknown): string[] {
  if (Array.isArray(node)) return node.flatMap(textsIn);
  if (!isObject(node)) return [];
  const others: unknown[] = [];
  const texts = spell(node, others);
  return texts ? [...texts, ...others.flatMap(textsIn)] : Object.values(node).flatMap(textsIn);
}

// Undefined if the node is not a text. Expressions inside it that are not texts are added to `others`.
function spell(node: unknown, others: unknown[]): string[] | undefined {
  if (!isObject(node)) return undefined;
  switch (node["type"]) {
    case "Literal":
      return typeof node["value"] === "string" ? [node["value"]] : undefined;
    case "ConditionalExpression": {
      const choices = [spell(node["consequent"], others), spell(node["alternate"], others)];
      return choices.every((choice) => choice !== undefined) ? choices.flat() : undefined;
    }
    case "BinaryExpression":
      return node["operator"] === "+" ? join([node["left"], node["right"]], others) : undefined;
    case "TemplateLiteral": {
      const [quasis, holes] = [node["quasis"], node["expressions"]] as [{ value: { cooked: string } }[], unknown[]];
      const literals = quasis.map(({ value: { cooked } }) => ({ type: "Literal", value: cooked }));
      return join(
        literals.flatMap((literal, at) => [literal, holes.slice(at, at + 1)].flat()),
        others,
      );
    }
    default:
      return undefined;
  }
}

function join(parts: unknown[], others: unknown[]): string[] | undefined {
  const spelled = parts.map((part) => {
    const texts = spell(part, others);
    if (!texts) others.push(part);
    return texts;
  });
  if (spelled.every((texts) => texts === undefined)) return undefined;
  return spelled.reduce<string[]>(
    (starts, texts = ["…"]) => starts.flatMap((start) => texts.map((text) => start + text)),
    [""],
  );
}
