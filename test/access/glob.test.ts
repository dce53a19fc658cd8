// Patterns with `*`: what they match, and that no text makes them slow.
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { glob } from "../../src/access/glob.ts";

it.each([
  ["", "", true],
  ["", "a", false],
  ["*", "", true],
  ["*", "any\nthing at all", true],
  ["**", "", true],
  ["alice", "alice", true],
  ["alice", "Alice", false],
  ["alice", "alice ", false],
  ["alice", " alice", false],
  ["a*", "a", true],
  ["a*", "ba", false],
  ["*a", "a", true],
  ["*a", "ab", false],
  ["a*a", "a", false],
  ["a*a", "aa", true],
  ["ab*bc", "abc", false],
  ["ab*bc", "abbc", true],
  ["*ab*", "xaby", true],
  ["*ab*", "ba", false],
  ["*ab*ab*", "abab", true],
  ["*aba*aba*", "ababa", false],
  ["*a*a", "a", false],
  ["a*b*c", "abcbc", true],
  ["a*b*c", "acb", false],
  ["job-*@lab", "job-@lab", true],
  ["job-*@lab", "job-1@lab@lab", true],
  ["*H100*", "NVIDIA H100 80GB HBM3", true],
  ["*h100*", "NVIDIA H100 80GB HBM3", false],
  [".*", "x", false],
  [".*", ".x", true],
  ["?", "a", false],
  ["?", "?", true],
  ["[a-z]", "b", false],
  [String.raw`\*`, "*", false],
  [String.raw`\*`, String.raw`\x`, true],
  ["zoë*", "zoë 日本", true],
])("%j and %j: does it match? %j", (pattern, text, matches) => {
  expect(glob(pattern)(text)).toBe(matches);
});

it("any pattern matches what it is with any texts for its stars", () => {
  const holds = fc.property(fc.array(fc.string(), { minLength: 1 }), fc.array(fc.string()), (parts, fillers) => {
    const literal = parts.map((part) => part.replaceAll("*", ""));
    const text = literal.map((part, index) => (index === 0 ? part : (fillers[index] ?? "") + part)).join("");
    expect(glob(literal.join("*"))(text)).toBe(true);
  });
  fc.assert(holds, { numRuns: 2000 });
});

it("any pattern matches exactly what a regular expression with the same meaning does", () => {
  // Two letters, so that what a star may stand for is often found in more than one place.
  const patterns = fc.string({ unit: fc.constantFrom("a", "b", "*"), maxLength: 8 });
  const texts = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 12 });
  const holds = fc.property(patterns, texts, (pattern, text) => {
    expect(glob(pattern)(text)).toBe(new RegExp(`^${pattern.replaceAll("*", ".*")}$`).test(text));
  });
  fc.assert(holds, { numRuns: 20_000 });
});

it("a text is looked through no more than once, however the pattern is made", () => {
  const text = "a".repeat(10_000);
  for (const pattern of [
    "*a".repeat(2000),
    `${"*a".repeat(2000)}*b`,
    `${"*".repeat(5000)}b*`,
    "*aa*ab*",
    "a*".repeat(20_000),
  ]) {
    const watched = watch(text);
    const matches = glob(pattern);
    expect(matches(watched.text)).toBe(pattern === "*a".repeat(2000));
    const parts = pattern.split("*").length;
    expect(watched.lookedAt()).toBeLessThanOrEqual(text.length + pattern.length + parts);
  }
});

/** A text that counts how many letters a search through it goes past. */
function watch(text: string): { readonly text: string; lookedAt(): number } {
  let count = 0;
  const counting = {
    length: text.length,
    startsWith: (part: string) => text.startsWith(part),
    endsWith: (part: string) => text.endsWith(part),
    indexOf(part: string, from = 0) {
      const found = text.indexOf(part, from);
      count += (found < 0 ? text.length : found + part.length) - from;
      return found;
    },
  };
  return { text: counting as unknown as string, lookedAt: () => count };
}
