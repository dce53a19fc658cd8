// The JSON wire's bodies: flat objects of numbers and booleans, read strictly.
// JSON.parse can tell neither `200000.0` from `200000` nor a key that is there twice, so the values are taken as written.
import { excerpt } from "./excerpt.ts";

/** A value as written (`200000.0`, `"text"`, `[…`), so that its type can be told. */
export type Raw = string;

export type FlatJson =
  | { readonly kind: "object"; readonly entries: readonly (readonly [key: string, raw: Raw])[] }
  | { readonly kind: "array"; readonly items: readonly Raw[] }
  | { readonly kind: "scalar"; readonly raw: Raw };

/** Throws a SyntaxError in the words of the original's parser. */
export function parseFlatJson(text: string): FlatJson {
  refuseHeavy(text);
  try {
    JSON.parse(text);
  } catch (error) {
    throw new SyntaxError(syntaxText(text, error), { cause: error });
  }
  const values = topLevelValues(text);
  const first = text.trimStart().charAt(0);
  if (first === "[") return { kind: "array", items: values };
  if (first !== "{") return { kind: "scalar", raw: text.trim() };
  const entries: [string, Raw][] = [];
  for (let index = 0; index < values.length; index += 2) {
    entries.push([JSON.parse(values[index] ?? '""') as string, values[index + 1] ?? "null"]);
  }
  return { kind: "object", entries };
}

const token = /"(?:[^"\\]|\\.)*"|[{}[\]]|[^\s{}[\],:"]+/gs;

/** Far more than any body needs; a body of millions would hold up everybody else. */
const maxTokens = 10_000;

/** To be asked before anything else: already to parse such a body takes as long as a thousand requests. */
function refuseHeavy(text: string): void {
  let left = maxTokens;
  for (let index = 0; index < text.length; index += 1) {
    if (!separators.has(text.charCodeAt(index))) continue;
    left -= 1;
    if (left === 0) throw new SyntaxError("too many values");
  }
}

/** `,` `:` `[` `{`: no value comes without one of them. */
const separators: ReadonlySet<number> = new Set([0x2c, 0x3a, 0x5b, 0x7b]);

/** The keys and values at the first level of a text that is known to be JSON; of what is nested, the opening bracket. */
function topLevelValues(text: string): readonly Raw[] {
  const values: Raw[] = [];
  let depth = 0;
  for (const [part] of text.matchAll(token)) {
    const closes = part === "}" || part === "]";
    if (depth === 1 && !closes) values.push(part);
    if (closes) depth -= 1;
    else if (part === "{" || part === "[") depth += 1;
  }
  return values;
}

/** What JavaScript's parser says differs between versions; where it stopped does not. */
function syntaxText(text: string, error: unknown): string {
  const said = error instanceof Error ? error.message : "";
  const [, position] = /at position (\d+)/.exec(said) ?? [];
  if (text.trim() === "") return "EOF while parsing a value";
  if (/Unterminated string/.test(said)) return "EOF while parsing a string";
  if (position === undefined ? /end of JSON/.test(said) : Number(position) >= text.length) {
    return `EOF while parsing ${text.trimStart().startsWith("[") ? "a list" : "an object"}`;
  }
  if (/after JSON/.test(said)) return "trailing characters";
  if (/property name/.test(said)) return "key must be a string";
  return "expected value";
}

/** What a raw value is, in the words of the original's parser: ``integer `1` ``, ``string "a"``, `null`, … */
export function describeRaw(raw: Raw): string {
  if (raw.startsWith('"')) return `string ${JSON.stringify(excerpt(String(JSON.parse(raw))))}`;
  if (raw === "true" || raw === "false") return `boolean \`${raw}\``;
  if (raw === "null") return "null";
  if (raw.startsWith("{")) return "map";
  if (raw.startsWith("[")) return "sequence";
  return isInteger(raw) ? `integer \`${raw}\`` : `floating point \`${floatText(Number(raw))}\``;
}

/** Integers that need more than 64 bits are read as floating point, and so is `-0`. */
export function isInteger(raw: Raw): boolean {
  // 64 bits have at most 20 characters, and JSON has no leading zeros.
  if (raw.length > 20 || !/^-?\d+$/.test(raw) || raw === "-0") return false;
  const value = BigInt(raw);
  return value >= -(2n ** 63n) && value < 2n ** 64n;
}

function floatText(value: number): string {
  if (Math.abs(value) >= 1e16) return value.toExponential().replace("e+", "e");
  const text = String(value);
  return /^-?\d+$/.test(text) ? `${Object.is(value, -0) ? "-0" : text}.0` : text;
}
