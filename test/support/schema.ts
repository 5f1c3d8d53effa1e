import { readFile } from "node:fs/promises";
import { Ajv2020 } from "ajv/dist/2020.js";

const ajv = new Ajv2020({ allErrors: true, strict: true, strictRequired: false });

async function compile(file: string) {
  const schema = JSON.parse(await readFile(new URL(`../../docs/${file}`, import.meta.url), "utf8")) as object;
  return ajv.compile(schema);
}

/** By `schemaVersion`. */
const validators = { 1: await compile("report.v1.schema.json"), 2: await compile("report.schema.json") };

/** The errors of a `-o json` document against the schema of a version; empty if it is valid. */
export function mistakesIn(document: unknown, version: keyof typeof validators = 2): string {
  const validate = validators[version];
  return validate(document) ? "" : ajv.errorsText(validate.errors);
}
