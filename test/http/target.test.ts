// The request target: split into path and query, the path decoded once and for good.
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { parseTarget } from "../../src/http/target.ts";

/** What a target can be made of, whole and broken. */
const escapes = "%74 %2F %2f %25 %252f %2B %2b %3F %00 %C3%A9 %C3 %FF % %2 %zz %% %u0074".split(" ");
const pieces = [..."/az09_.-~!$&'()*+,;=:@? \"<>\\^`{|}é", ...escapes];
const path = fc.array(fc.constantFrom(...pieces.filter((piece) => piece !== "?"))).map((parts) => `/${parts.join("")}`);
const query = fc.array(fc.constantFrom(...pieces)).map((parts) => parts.join(""));
const plainPath = fc.stringMatching(/^(\/[a-z0-9_]{0,8}){1,4}$/);

/** Some of the characters as escapes, in upper or lower case. */
function escaped(text: string, how: readonly number[]): string {
  const letters = [...text].map((letter, index) => {
    const escape = `%${letter.charCodeAt(0).toString(16)}`;
    if (letter === "/") return letter;
    return [letter, escape.toUpperCase(), escape][(how[index % how.length] ?? 0) % 3];
  });
  return letters.join("");
}

it("a path without escapes is what was sent", () => {
  fc.assert(
    fc.property(
      path.filter((text) => !text.includes("%")),
      (text) => {
        expect(parseTarget(text)).toEqual({ path: text, query: "" });
      },
    ),
  );
});

it("escapes of ordinary characters change nothing: /%74ime is /time", () => {
  expect(parseTarget("/%74ime").path).toBe("/time");
  fc.assert(
    fc.property(plainPath, fc.array(fc.nat(2), { minLength: 1 }), (text, how) => {
      expect(parseTarget(escaped(text, how)).path).toBe(text);
    }),
  );
});

it("what follows the first question mark is the query, untouched", () => {
  fc.assert(
    fc.property(path, query, (text, rest) => {
      expect(parseTarget(`${text}?${rest}`)).toEqual({ path: parseTarget(text).path, query: rest });
    }),
  );
});

it("a fragment is no part of either", () => {
  expect(parseTarget("/time#x")).toEqual({ path: "/time", query: "" });
  expect(parseTarget("/a?b#c?d")).toEqual({ path: "/a", query: "b" });
  expect(parseTarget("/a%23b").path).toBe("/a#b");
});

it("an escaped question mark belongs to the path", () => {
  expect(parseTarget("/a%3Fb?c")).toEqual({ path: "/a?b", query: "c" });
});

it("an escaped slash does not make a new segment: as many as were sent are there", () => {
  fc.assert(
    fc.property(path, (text) => {
      expect(parseTarget(text).path.split("/")).toHaveLength(text.split("/").length);
    }),
  );
});

it("is decoded once and for good: to decode the result once more changes nothing", () => {
  expect(parseTarget("/%2574ime").path).not.toBe("/time");
  fc.assert(
    fc.property(
      path.filter((text) => !/%3f/i.test(text)),
      (text) => {
        const once = parseTarget(text).path;
        expect(parseTarget(once).path).toBe(once);
      },
    ),
  );
});

it("a path with an escape that is none stays as it was sent", () => {
  for (const text of ["/%74ime%", "/%zz%74ime", "/%C3", "/%FF%74"]) expect(parseTarget(text).path).toBe(text);
});

it("the absolute form, of whatever host, is the path that it ends with", () => {
  const host = fc.stringMatching(/^[a-z0-9.-]{1,9}(:[0-9]{1,4})?$/);
  const scheme = fc.constantFrom("http://", "https://", "HTTP://");
  fc.assert(
    fc.property(scheme, host, path, query, (start, name, text, rest) => {
      expect(parseTarget(`${start}${name}${text}?${rest}`)).toEqual(parseTarget(`${text}?${rest}`));
      expect(parseTarget(start + name)).toEqual({ path: "/", query: "" });
    }),
  );
});

it("takes any text at all", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      expect(typeof parseTarget(text).path).toBe("string");
    }),
  );
});
