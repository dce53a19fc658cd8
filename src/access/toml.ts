// TOML with places: the values of a file, and the line on which each of them stands.
import { getStaticTOMLValue, parseTOML, type AST } from "toml-eslint-parser";

export interface Document {
  readonly value: Readonly<Record<string, unknown>>;
  /** The line of the value at a path, or of what is nearest above it. */
  lineOf(path: Path): number;
}

/** Keys and indexes, from the outermost to the innermost. */
export type Path = readonly (string | number)[];

/** Throws a SyntaxError with `lineNumber` for what is no TOML 1.0. */
export function parseDocument(text: string): Document {
  const tree = parseTOML(text, { tomlVersion: "1.0" });
  const lines = new Map<string, number>();
  for (const node of tree.body[0].body) {
    if (node.type === "TOMLTable") note(lines, node.resolvedKey, node);
    for (const pair of node.type === "TOMLTable" ? node.body : [node]) {
      notePair(lines, node.type === "TOMLTable" ? node.resolvedKey : [], pair);
    }
  }
  return {
    value: getStaticTOMLValue(tree),
    lineOf(path) {
      for (let length = path.length; length > 0; length -= 1) {
        const line = lines.get(keyOf(path.slice(0, length)));
        if (line !== undefined) return line;
      }
      return 1;
    },
  };
}

function notePair(lines: Map<string, number>, above: Path, { key, value }: AST.TOMLKeyValue): void {
  const names = key.keys.map((part) => (part.type === "TOMLBare" ? part.name : part.value));
  const path = [...above, ...names];
  note(lines, path, key);
  noteValue(lines, path, value);
}

function noteValue(lines: Map<string, number>, path: Path, value: AST.TOMLContentNode): void {
  if (value.type === "TOMLInlineTable") for (const pair of value.body) notePair(lines, path, pair);
  if (value.type !== "TOMLArray") return;
  for (const [index, element] of value.elements.entries()) {
    note(lines, [...path, index], element);
    noteValue(lines, [...path, index], element);
  }
}

function note(lines: Map<string, number>, path: Path, { loc }: AST.TOMLNode): void {
  const key = keyOf(path);
  if (!lines.has(key)) lines.set(key, loc.start.line);
}

function keyOf(path: Path): string {
  return JSON.stringify(path);
}
