import { readFile } from "node:fs/promises";
import { Ajv2020 } from "ajv/dist/2020.js";

const schema = JSON.parse(await readFile(new URL("../../docs/report.schema.json", import.meta.url), "utf8")) as object;
const ajv = new Ajv2020({ allErrors: true, strict: true, strictRequired: false });
const validate = ajv.compile(schema);

/** What is wrong with a document of `-o json`, by its schema; empty if nothing is. */
export function mistakesIn(document: unknown): string {
  return validate(document) ? "" : ajv.errorsText(validate.errors);
}
