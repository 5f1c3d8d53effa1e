/** Parses the pages of the documentation into code blocks and the code spans in running text. */
import { readdir, readFile } from "node:fs/promises";

const docs = (await readdir("docs")).filter((file) => file.endsWith(".md")).map((file) => `docs/${file}`);
export const pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md", ...docs];

/** A fenced code block. */
export interface Block {
  page: string;
  /** The number of the first line inside. */
  line: number;
  /** The heading above it. */
  section: string;
  /** `sh`, `yaml`; empty if none is given. */
  language: string;
  lines: string[];
}

/** A command as a reader would type it. */
export interface Command {
  page: string;
  section: string;
  line: number;
  text: string;
}

/** The blocks of a page, in order. */
export async function readBlocks(page: string): Promise<Block[]> {
  return (await readParts(page)).blocks;
}

/** The code spans in running text; `\|`, as tables write it, is read as `|`. */
export async function readSpans(page: string): Promise<Command[]> {
  return (await readParts(page)).spans;
}

/** The commands of an `sh` block, without comments; a line that ends with a backslash continues on the next. */
export function commandsOf({ page, section, line, lines }: Block): Command[] {
  const commands: Command[] = [];
  let begun = "";
  for (const [at, each] of lines.entries()) {
    const text = `${begun}${each.replace(/(?:^|\s+)#.*$/, "")}`.trim();
    begun = text.endsWith("\\") ? text.slice(0, -1) : "";
    if (begun === "" && text !== "") commands.push({ page, section, line: line + at, text });
  }
  return commands;
}

/** The commands under a heading of a page: those in its `sh` blocks, and those in code spans with `&&`. */
export async function commandsUnder(section: string, page: string): Promise<Command[]> {
  const { blocks, spans } = await readParts(page);
  const shown = blocks.filter(({ language }) => language === "sh").flatMap(commandsOf);
  const told = spans.filter(({ text }) => text.includes(" && "));
  const all = [...shown, ...told].toSorted((a, b) => a.line - b.line);
  return all.filter((command) => command.section === section);
}

async function readParts(page: string): Promise<{ blocks: Block[]; spans: Command[] }> {
  const blocks: Block[] = [];
  const spans: Command[] = [];
  let open: Block | undefined;
  let section = "";
  for (const [at, text] of (await readFile(page, "utf8")).split("\n").entries()) {
    const [, fence] = /^```(.*)$/.exec(text) ?? [];
    if (open && fence === undefined) open.lines.push(text);
    else if (open) open = undefined;
    else if (fence !== undefined) blocks.push((open = { page, line: at + 2, section, language: fence, lines: [] }));
    else {
      section = /^#+ (.*)$/.exec(text)?.[1] ?? section;
      for (const [, span = ""] of text.matchAll(/`([^`]+)`/g)) {
        spans.push({ page, section, line: at + 1, text: span.replaceAll("\\|", "|") });
      }
    }
  }
  return { blocks, spans };
}
