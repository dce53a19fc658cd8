// TOML with places: the values of a file, and the line on which each of them stands.
import { parseTOML, type AST } from "toml-eslint-parser";

export interface Document {
  readonly value: Table;
  /** The line of the value at a path, or of what is nearest above it. */
  lineOf(path: Path): number;
}

/** Has no prototype: a key may be called `__proto__`. */
export type Table = Readonly<Record<string, unknown>>;

/** Keys and indexes, from the outermost to the innermost. */
export type Path = readonly (string | number)[];

/** Throws a SyntaxError with `lineNumber` for what is no TOML 1.0, and whatever the parser throws where it gives up. */
export function parseDocument(text: string): Document {
  const reading = new Reading();
  for (const node of parseTOML(text, { tomlVersion: "1.0" }).body[0].body) {
    if (node.type === "TOMLKeyValue") {
      reading.take([], node);
      continue;
    }
    reading.open(node.resolvedKey, node);
    for (const pair of node.body) reading.take(node.resolvedKey, pair);
  }
  return { value: reading.value, lineOf: (path) => reading.lineOf(path) };
}

/** How deep tables and lists may lie in each other: deeper ones would take memory by the square of their depth. */
const deepest = 32;

/** What has been read so far. That no key is given twice, the parser has seen to. */
class Reading {
  readonly value = createTable();
  readonly #lines = new Map<string, number>();

  lineOf(path: Path): number {
    for (let length = path.length; length > 0; length -= 1) {
      const line = this.#lines.get(keyOf(path.slice(0, length)));
      if (line !== undefined) return line;
    }
    return 1;
  }

  /** Takes in a table, by its head. */
  open(path: Path, node: AST.TOMLNode): void {
    this.#note(path, node);
    this.#containerAt(path);
  }

  take(above: Path, { key, value }: AST.TOMLKeyValue): void {
    const names = key.keys.map((part) => (part.type === "TOMLBare" ? part.name : part.value));
    const path = [...above, ...names];
    this.#note(path, key);
    this.#put(path, value);
  }

  #put(path: Path, node: AST.TOMLContentNode): void {
    if (node.type === "TOMLInlineTable") {
      this.#containerAt(path);
      for (const pair of node.body) this.take(path, pair);
    } else if (node.type === "TOMLArray") {
      this.#set(path, []);
      for (const [index, element] of node.elements.entries()) {
        this.#note([...path, index], element);
        this.#put([...path, index], element);
      }
    } else {
      this.#set(path, node.value);
    }
  }

  /** Notes the line of a value, and of the tables around it that have no line of their own. */
  #note(path: Path, { loc }: AST.TOMLNode): void {
    if (path.length > deepest) {
      const tooDeep = new SyntaxError(`Tables and lists may lie ${deepest} deep in each other, and not deeper`);
      throw Object.assign(tooDeep, { lineNumber: loc.start.line });
    }
    for (let length = path.length; length > 0; length -= 1) {
      const key = keyOf(path.slice(0, length));
      if (this.#lines.has(key)) return;
      this.#lines.set(key, loc.start.line);
    }
  }

  #set(path: Path, value: unknown): void {
    const name = path.at(-1);
    if (name !== undefined) this.#containerAt(path.slice(0, -1))[name] = value;
  }

  /** The table or list at a path; tables that are not there yet are made. */
  #containerAt(path: Path): Record<string | number, unknown> {
    let container: Record<string | number, unknown> = this.value;
    for (const [index, name] of path.entries()) {
      // An array of tables has numbers in its path, and nothing else is followed by one.
      container[name] ??= typeof path[index + 1] === "number" ? [] : createTable();
      container = container[name] as Record<string | number, unknown>;
    }
    return container;
  }
}

function createTable(): Record<string, unknown> {
  return Object.create(null) as Record<string, unknown>;
}

function keyOf(path: Path): string {
  return JSON.stringify(path);
}
