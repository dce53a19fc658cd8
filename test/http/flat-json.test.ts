// The JSON wire's reader: it agrees with JSON.parse, and sees in addition what is there twice and how a number was written.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { describeRaw, isInteger, parseFlatJson } from "../../src/http/wire/flat-json.ts";

const blank = fc.stringMatching(/^[ \t\r\n]{0,2}$/);
const anyText = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: fc.constantFrom(...'{}[]:,"\\ \n/aé\u2028') }),
  fc.constantFrom("__proto__", "power_limit_mw", ""),
);
/** A string as JSON, with some characters escaped that need not be. */
const quoted = fc
  .tuple(anyText, fc.boolean())
  .map(([text, escaped]) =>
    escaped ? `"${[...text].map((unit) => toEscapes(unit)).join("")}"` : JSON.stringify(text),
  );
const number = fc.oneof(
  fc.integer().map(String),
  fc.bigInt({ min: -(10n ** 25n), max: 10n ** 25n }).map(String),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => JSON.stringify(value)),
  fc.constantFrom("0", "-0", "200000.0", "2e5", "2E+5", "1.50", "1e-7", "-0.0"),
);
const scalar = fc.oneof(number, quoted, fc.constantFrom("true", "false", "null"));

function toEscapes(character: string): string {
  return [...Array(character.length).keys()]
    .map((index) => `\\u${character.charCodeAt(index).toString(16).padStart(4, "0")}`)
    .join("");
}

interface Written {
  readonly key: string;
  readonly raw: string;
  readonly blanks: readonly [string, string, string, string];
}

function entry(raw: fc.Arbitrary<string>, key = quoted): fc.Arbitrary<Written> {
  return fc.record({ key, raw, blanks: fc.tuple(blank, blank, blank, blank) });
}

function objectText(entries: readonly Written[]): string {
  const inner = entries.map(({ key, raw, blanks: [a, b, c, d] }) => `${a}${key}${b}:${c}${raw}${d}`);
  return `{${inner.join(",")}}`;
}

describe("a flat object", () => {
  it("gives each key and each value as written, in their order, duplicates included", () => {
    fc.assert(
      fc.property(fc.array(entry(scalar)), blank, blank, (entries, before, after) => {
        expect(parseFlatJson(before + objectText(entries) + after)).toEqual({
          kind: "object",
          entries: entries.map(({ key, raw }) => [JSON.parse(key), raw]),
        });
      }),
    );
  });

  it("agrees with JSON.parse, which keeps the last of what is there twice", () => {
    fc.assert(
      fc.property(fc.array(entry(scalar, fc.constantFrom('"a"', '"\\u0061"', '"b"', '"__proto__"'))), (entries) => {
        const text = objectText(entries);
        const parsed = parseFlatJson(text);
        const pairs = parsed.kind === "object" ? parsed.entries : [];
        const read = new Map(pairs.map(([key, raw]) => [key, JSON.parse(raw) as unknown]));
        expect(read).toEqual(new Map(Object.entries(JSON.parse(text) as object)));
        expect(pairs).toHaveLength(entries.length);
      }),
    );
  });

  it("shows of what is nested the bracket that it begins with, so that its keys are not taken for the object's own", () => {
    fc.assert(
      fc.property(fc.array(entry(fc.json())), (entries) => {
        const parsed = parseFlatJson(objectText(entries));
        const expected = entries.map(({ key, raw }) => [JSON.parse(key), /^[[{]/.test(raw) ? raw.charAt(0) : raw]);
        expect(parsed).toEqual({ kind: "object", entries: expected });
      }),
    );
  });
});

it("an array gives its items as written", () => {
  fc.assert(
    fc.property(fc.array(scalar), fc.array(blank), (items, blanks) => {
      const text = `[${items.map((raw, index) => (blanks[index] ?? "") + raw).join(",")}]`;
      expect(parseFlatJson(text)).toEqual({ kind: "array", items });
    }),
  );
});

it("anything else is a scalar, without the blanks around it", () => {
  fc.assert(
    fc.property(scalar, blank, blank, (raw, before, after) => {
      expect(parseFlatJson(before + raw + after)).toEqual({ kind: "scalar", raw });
    }),
  );
});

describe("what is no JSON", () => {
  const brackets = fc.string({ unit: fc.constantFrom(...'{}[]:,"\\ tnu01.e-') });
  const broken = fc
    .tuple(fc.json(), fc.nat(), fc.constantFrom("", ",", "}", '"', "x", "\\", "\n"))
    .map(([text, at, put]) => text.slice(0, at % text.length) + put + text.slice((at % text.length) + 1));

  it("is refused with a SyntaxError exactly where JSON.parse refuses it", () => {
    fc.assert(
      fc.property(fc.oneof(brackets, broken, anyText, fc.json()), (text) => {
        if (isJson(text)) expect(() => parseFlatJson(text)).not.toThrow();
        else expect(() => parseFlatJson(text)).toThrow(SyntaxError);
      }),
      { numRuns: 1_000 },
    );
  });

  it.each([
    ["", "EOF while parsing a value"],
    [" \n", "EOF while parsing a value"],
    ["{", "EOF while parsing"],
    ["[1", "EOF while parsing"],
    ['{"block":true', "EOF while parsing"],
    ['{"block"', "EOF while parsing"],
    ['{"bl', "EOF while parsing"],
    ['{"block":true} x', "trailing characters"],
    ["{}{}", "trailing characters"],
    ["{block:true}", "key must be a string"],
    ['{"block":}', "expected value"],
    ["nonsense", "expected"],
  ])("%j is refused in the words of the original: %s", (text, words) => {
    expect(() => parseFlatJson(text)).toThrow(words);
  });
});

describe("a heavy text", () => {
  const heavy = (count: number): string => `[${",".repeat(count)}]`;

  it("is refused before it is parsed: whether it is JSON at all is not looked at", () => {
    expect(() => parseFlatJson(heavy(10_001))).toThrow("too many values");
    expect(() => parseFlatJson(heavy(9_000))).toThrow("expected value");
    for (const separator of [",", ":", "[", "{"]) {
      expect(() => parseFlatJson(separator.repeat(10_001))).toThrow("too many values");
    }
  });

  it("with few values is taken, however long it is", () => {
    const long = `{"power_limit_mw":1,"note":"${"x".repeat(1_000_000)}"}`;
    const note = expect.stringMatching(/^"x+"$/);
    expect(parseFlatJson(long)).toEqual({
      kind: "object",
      entries: [
        ["power_limit_mw", "1"],
        ["note", note],
      ],
    });
    expect(parseFlatJson(`[${Array(9_000).fill(1).join(",")}]`)).toMatchObject({ kind: "array" });
  });
});

describe("the type of a value", () => {
  it("is an integer where it is written as one and fits in 64 bits", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 66n), max: 2n ** 66n }), (value) => {
        expect(isInteger(String(value))).toBe(value >= -(2n ** 63n) && value < 2n ** 64n);
        for (const more of [".0", "e0", "E5", "e-1"]) expect(isInteger(`${value}${more}`)).toBe(false);
      }),
    );
    const edges = [-(2n ** 63n) - 1n, -(2n ** 63n), 2n ** 64n - 1n, 2n ** 64n];
    expect(edges.map((value) => isInteger(String(value)))).toEqual([false, true, true, false]);
  });

  it.each([
    ["1", "integer `1`"],
    ["-1", "integer `-1`"],
    ["18446744073709551615", "integer `18446744073709551615`"],
    ["1.5", "floating point `1.5`"],
    ["200000.0", "floating point `200000.0`"],
    ["2e5", "floating point `200000.0`"],
    ["-0", "floating point `-0.0`"],
    ['"200000"', 'string "200000"'],
    ["true", "boolean `true`"],
    ["false", "boolean `false`"],
    ["null", "null"],
    ["{", "map"],
    ["[", "sequence"],
  ])("%s is called %s", (raw, words) => {
    expect(describeRaw(raw)).toBe(words);
  });

  it("of a long text repeats its beginning only", () => {
    expect(describeRaw(JSON.stringify("x".repeat(200)))).toBe(`string "${"x".repeat(200)}"`);
    expect(describeRaw(JSON.stringify("x".repeat(100_000)))).toBe(`string "${"x".repeat(200)}…"`);
  });

  it("of a number is integer or floating point, never both", () => {
    fc.assert(
      fc.property(number, (raw) => {
        expect(describeRaw(raw)).toMatch(isInteger(raw) ? /^integer `-?\d+`$/ : /^floating point `-?\d.*`$/);
      }),
    );
  });
});

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
