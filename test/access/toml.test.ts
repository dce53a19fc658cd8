// TOML with places: the values of a file, and where each of them stands.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseDocument, type Path } from "../../src/access/toml.ts";

const file = `title = "x" # line 1

[owner]
name = 'a'
nested.key = 1

[[rule]]
name = "first"
list = [
  1,
  { a = 1, b = [2,
    3] },
]

[rule.rate]
burst = 1

[[rule.bounds]]
max = 1
[[rule.bounds]]

max = 2
[[rule]]
"quoted key" = 1
inline = { x = { y = 1 } }
`;

describe("a document", () => {
  it("has the values of the file", () => {
    expect(parseDocument(file).value).toEqual({
      title: "x",
      owner: { name: "a", nested: { key: 1 } },
      rule: [
        { name: "first", list: [1, { a: 1, b: [2, 3] }], rate: { burst: 1 }, bounds: [{ max: 1 }, { max: 2 }] },
        { "quoted key": 1, inline: { x: { y: 1 } } },
      ],
    });
  });

  it.each<[number, Path]>([
    [1, ["title"]],
    [3, ["owner"]],
    [4, ["owner", "name"]],
    [5, ["owner", "nested", "key"]],
    [5, ["owner", "nested"]],
    [7, ["rule", 0]],
    [8, ["rule", 0, "name"]],
    [9, ["rule", 0, "list"]],
    [10, ["rule", 0, "list", 0]],
    [11, ["rule", 0, "list", 1]],
    [11, ["rule", 0, "list", 1, "b"]],
    [11, ["rule", 0, "list", 1, "b", 0]],
    [12, ["rule", 0, "list", 1, "b", 1]],
    [15, ["rule", 0, "rate"]],
    [16, ["rule", 0, "rate", "burst"]],
    [18, ["rule", 0, "bounds", 0]],
    [19, ["rule", 0, "bounds", 0, "max"]],
    [20, ["rule", 0, "bounds", 1]],
    [22, ["rule", 0, "bounds", 1, "max"]],
    [23, ["rule", 1]],
    [24, ["rule", 1, "quoted key"]],
    [25, ["rule", 1, "inline", "x", "y"]],
  ])("knows that line %d has %j", (line, path) => {
    expect(parseDocument(file).lineOf(path)).toBe(line);
    expect(parseDocument(file.replaceAll("\n", "\r\n")).lineOf(path)).toBe(line);
  });

  it.each<[number, Path]>([
    [1, []],
    [1, ["nothing"]],
    [3, ["owner", "missing"]],
    [4, ["owner", "name", 7, "deeper"]],
    [7, ["rule", 0, "missing"]],
    [9, ["rule", 0, "list", 9]],
    [15, ["rule", 0, "rate", "missing"]],
    [23, ["rule", 1, "missing", "deeper"]],
    [25, ["rule", 1, "inline", "missing"]],
  ])("names line %d, the nearest above, for %j, which is not there", (line, path) => {
    expect(parseDocument(file).lineOf(path)).toBe(line);
  });

  it("does not take a key for a place in an array, or one that has dots for several", () => {
    const { lineOf } = parseDocument('a = 1\n"a.b" = 2\n[c]\n0 = 3\n[[d]]\nx = 1');
    expect(lineOf(["a.b"])).toBe(2);
    expect(lineOf(["a", "b"])).toBe(1);
    expect(lineOf(["c", "0"])).toBe(4);
    expect(lineOf(["c", 0])).toBe(3);
    expect(lineOf(["d", 0, "x"])).toBe(6);
    expect(lineOf(["d", "0", "x"])).not.toBe(6);
  });

  it.each(["constructor", "toString", "hasOwnProperty"])("may have a key that every object has: %s", (key) => {
    const { value, lineOf } = parseDocument(`a = 1\n${key} = 2\n[b.${key}]\nx = 3`);
    expect(value).toEqual({ a: 1, [key]: 2, b: { [key]: { x: 3 } } });
    expect(lineOf([key])).toBe(2);
    expect(lineOf(["b", key, "x"])).toBe(4);
    expect(lineOf(["valueOf"])).toBe(1);
  });

  it("is TOML 1.0 and nothing newer, for which there is no second reader", () => {
    for (const newer of ["a = { b = 1, }", "a = {\nb = 1 }", String.raw`a = "\e"`, String.raw`a = "\x41"`, "a = 12:30"])
      expect(() => parseDocument(newer)).toThrow(SyntaxError);
  });
});

it("what is no TOML is a SyntaxError with its line", () => {
  for (const [text, lineNumber] of [
    ["=", 1],
    ["a = 1\n\nb", 3],
    ["a = 1\na = 2", 2],
    ["[a]\n[a]", 2],
  ] as const)
    expect(catchError(() => parseDocument(text))).toMatchObject({ name: "SyntaxError", lineNumber });
});

it("what is written on any line is found on it", () => {
  const holds = fc.property(fc.array(fc.nat(3), { minLength: 1, maxLength: 30 }), fc.boolean(), (gaps, windows) => {
    const lines = gaps.flatMap((gap, index) => [
      ...Array.from({ length: gap }, () => "# gap"),
      `[[r]]`,
      `k = ${index}`,
    ]);
    const { value, lineOf } = parseDocument(lines.join(windows ? "\r\n" : "\n"));
    expect(value).toEqual({ r: gaps.map((_, index) => ({ k: index })) });
    for (const index of gaps.keys()) {
      const at = lines.indexOf(`k = ${index}`) + 1;
      expect([lineOf(["r", index]), lineOf(["r", index, "k"])]).toEqual([at - 1, at]);
    }
  });
  fc.assert(holds);
});

function catchError(attempt: () => unknown): unknown {
  try {
    return attempt();
  } catch (error) {
    return error;
  }
}
