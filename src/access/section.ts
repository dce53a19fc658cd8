// A table of a file, read key by key. What is wrong is noted with its line and key, and reading goes on.
import { U32_MAX } from "../contract/field.ts";
import type { Document, Path, Table } from "./toml.ts";

export interface Problem {
  readonly line: number;
  /** For example `rule.rate.burst`; empty for the file itself. */
  readonly key: string;
  readonly text: string;
}

/** What a number may be. */
interface Range {
  readonly least: number;
  readonly most: number;
  readonly whole?: boolean;
}

export class Section {
  readonly #document: Document;
  readonly #problems: Problem[];
  readonly #path: Path;
  readonly #fields: Table;
  readonly #asked = new Set<string>();

  constructor(document: Document, problems: Problem[], path: Path = [], fields: Table = document.value) {
    this.#document = document;
    this.#problems = problems;
    this.#path = path;
    this.#fields = fields;
  }

  get line(): number {
    return this.#document.lineOf(this.#path);
  }

  /** Notes what is wrong with the value of a key, with one part of it, or, without a key, with the whole. */
  problem(key: string | Path, text: string): void {
    const path = [...this.#path, ...(key === "" ? [] : [key].flat())];
    const names = path.filter((part) => typeof part === "string");
    this.#problems.push({ line: this.#document.lineOf(path), key: names.join("."), text });
  }

  has(key: string): boolean {
    this.#asked.add(key);
    return Object.hasOwn(this.#fields, key);
  }

  /** A text that must be there and not be empty. */
  text(key: string): string {
    const value = this.#take(key);
    if (typeof value === "string" && value !== "") return value;
    this.problem(key, value === undefined ? "it is missing" : "it must be a text that is not empty");
    return "";
  }

  /** False if it is not there. */
  flag(key: string): boolean {
    const value = this.#take(key);
    if (value !== undefined && value !== true) this.problem(key, "it can only be true; leave it out otherwise");
    return value === true;
  }

  /** Undefined if it is not there, or neither true nor false. */
  truth(key: string): boolean | undefined {
    const value = this.#take(key);
    if (value === undefined || typeof value === "boolean") return value;
    this.problem(key, "it must be true or false");
    return undefined;
  }

  /** Undefined if it is not there, or none of the words. */
  word<Word extends string>(key: string, words: readonly Word[]): Word | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    const known = words.find((word) => word === value);
    if (known === undefined) this.problem(key, `it must be one of ${words.map((word) => `"${word}"`).join(", ")}`);
    return known;
  }

  /** Undefined if it is not there, or no such number. */
  number(key: string, { least, most, whole = true }: Range = { least: 0, most: U32_MAX }): number | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    const fits = typeof value === "number" && value >= least && value <= most && (!whole || Number.isInteger(value));
    if (fits) return value;
    this.problem(key, `it must be a ${whole ? "whole " : ""}number from ${least} to ${most}`);
    return undefined;
  }

  /** Empty if it is not there; a list that is there must not be empty. */
  list(key: string): readonly unknown[] {
    const value = this.#take(key);
    if (value === undefined) return [];
    if (Array.isArray(value) && value.length > 0) return value;
    this.problem(key, "it must be a list that is not empty");
    return [];
  }

  texts(key: string): readonly string[] {
    return this.list(key).filter((value, index): value is string => {
      if (typeof value === "string" && value !== "") return true;
      this.problem([key, index], "it must be a text that is not empty");
      return false;
    });
  }

  ids(key: string): readonly number[] {
    return this.list(key).filter((value, index): value is number => {
      if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value < U32_MAX) return true;
      this.problem([key, index], `it must be a whole number from 0 to ${U32_MAX - 1}`);
      return false;
    });
  }

  /** `example` shows how it is written. */
  table(key: string, example: string): Section | undefined {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    if (isTable(value)) return this.#inner([key], value);
    this.problem(key, `it must be a table, as in ${example}`);
    return undefined;
  }

  /** What is written as `[[key]]`, once for each. */
  tables(key: string): readonly Section[] {
    const value = this.#take(key);
    if (value === undefined) return [];
    if (Array.isArray(value) && value.length > 0 && value.every(isTable))
      return value.map((each, index) => this.#inner([key, index], each));
    this.problem(
      key,
      `it must be written as [[${[...this.#path, key].filter((part) => typeof part === "string").join(".")}]]`,
    );
    return [];
  }

  /** A key that nobody asked for is likely a misspelt one, and to ignore it would change what the file says. */
  refuseOthers(): void {
    for (const key of Object.keys(this.#fields)) {
      if (!this.#asked.has(key)) this.problem(key, `it is not known here; there are ${[...this.#asked].join(", ")}`);
    }
  }

  #take(key: string): unknown {
    return this.has(key) ? this.#fields[key] : undefined;
  }

  #inner(path: Path, fields: Table): Section {
    return new Section(this.#document, this.#problems, [...this.#path, ...path], fields);
  }
}

function isTable(value: unknown): value is Table {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}
