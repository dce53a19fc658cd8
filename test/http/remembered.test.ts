// Texts that were decoded before.
import { expect, it } from "vitest";
import { remembered } from "../../src/http/wire/remembered.ts";

function counting(): { readonly decode: (text: string) => string; readonly decoded: string[] } {
  const decoded: string[] = [];
  const decode = remembered((text) => {
    decoded.push(text);
    if (text === "bad") throw new SyntaxError("bad");
    return text.toUpperCase();
  });
  return { decode, decoded };
}

it("decodes a text once", () => {
  const { decode, decoded } = counting();
  expect([decode("a"), decode("b"), decode("a")]).toEqual(["A", "B", "A"]);
  expect(decoded).toEqual(["a", "b"]);
});

it("says again what is wrong with a text", () => {
  const { decode } = counting();
  expect(() => decode("bad")).toThrow(SyntaxError);
  expect(() => decode("bad")).toThrow(SyntaxError);
});

it("remembers neither long texts nor many, so that nobody can fill it", () => {
  const { decode, decoded } = counting();
  const long = "x".repeat(257);
  decode(long);
  decode(long);
  expect(decoded).toHaveLength(2);
  decode("a");
  for (let count = 0; count < 128; count += 1) decode(`other ${count}`);
  const before = decoded.length;
  decode("a");
  expect(decoded).toHaveLength(before + 1);
});

it("remembers 128 texts of 256 characters, whatever they are made of", () => {
  const { decode, decoded } = counting();
  const texts = Array.from({ length: 128 }, (_, index) => `é😀 %${index}`.padEnd(256, "x"));
  const results = texts.map(decode);
  expect(texts.map(decode)).toEqual(results);
  expect(decoded).toEqual(texts);
});
