// Durations, as `--expires` takes them.
import * as fc from "fast-check";
import { expect, it } from "vitest";
import { parseExpiry } from "../../src/access/duration.ts";

/** Seconds of each unit from a second on, and all its names. */
const units = [
  [1, ["s", "sec", "secs", "second", "seconds"]],
  [60, ["m", "min", "mins", "minute", "minutes"]],
  [3600, ["h", "hr", "hrs", "hour", "hours"]],
  [86_400, ["d", "day", "days"]],
  [604_800, ["w", "wk", "wks", "week", "weeks"]],
  [2_630_016, ["month", "months"]],
  [31_557_600, ["y", "yr", "yrs", "year", "years"]],
] as const;
/** How many of each unit are a second. */
const smallUnits = [
  [1e9, ["ns", "nsec", "nanos"]],
  [1e6, ["us", "µs", "usec"]],
  [1e3, ["ms", "msec", "millis"]],
] as const;

const named = units.flatMap(([seconds, names]) => names.map((name) => ({ seconds, name })));
const blank = fc.stringMatching(/^[ \t]{0,2}$/);

/** One item such as `12 days`, and its seconds. */
const item = fc
  .record({ unit: fc.constantFrom(...named), count: fc.nat(100), between: blank, after: blank })
  .map(({ unit: { name, seconds }, count, between, after }) => ({
    text: `${count}${between}${name}${after}`,
    seconds: count * seconds,
  }));
const items = fc.array(item, { minLength: 1, maxLength: 4 });

it("is the sum of its items, whatever their order, names and blanks", () => {
  fc.assert(
    fc.property(items, blank, (parts, before) => {
      const text = before + parts.map((part) => part.text).join("");
      expect(parseExpiry(text)).toBe(parts.reduce((sum, { seconds }) => sum + seconds, 0));
    }),
  );
});

it("does not depend on upper and lower case", () => {
  fc.assert(
    fc.property(items, fc.func(fc.boolean()), (parts, raised) => {
      const text = parts.map((part) => part.text).join("");
      const mixed = [...text].map((letter) => (raised(letter) ? letter.toUpperCase() : letter)).join("");
      expect(parseExpiry(mixed)).toBe(parseExpiry(text));
    }),
  );
});

it("takes a fraction of any unit", () => {
  fc.assert(
    fc.property(fc.constantFrom(...named), fc.nat(999), fc.nat(999), ({ name, seconds }, whole, thousandths) => {
      const text = `${whole}.${String(thousandths).padStart(3, "0")}${name}`;
      expect(parseExpiry(text)).toBeCloseTo((whole + thousandths / 1000) * seconds, 3);
    }),
  );
});

it.each(smallUnits)("%d make a second, under each of the names %j", (count, names) => {
  for (const name of names) expect(parseExpiry(`${count}${name}`)).toBeCloseTo(1, 9);
});

it("reads 1M as a minute, as the original does, since upper case is taken as lower case", () => {
  expect(parseExpiry("1M")).toBe(60);
});

it.each(["never", "Never", "NEVER", "  never\n", "0", " 0 "])("%j never expires", (text) => {
  expect(parseExpiry(text)).toBeUndefined();
});

it("refuses an item without a unit or without a number, wherever it stands", () => {
  fc.assert(
    fc.property(items, items, fc.constantFrom("5 ", "h", ",", "-", "1..5h", ".5h", "1x", "0x1h"), (head, tail, bad) => {
      const text = [...head, { text: bad }].map((part) => part.text).join("");
      const longer = [...head, { text: ` ${bad}` }, ...tail].map((part) => part.text).join("");
      // A number alone takes the next item's number for its own, digit by digit, so it is only refused at the end.
      expect(() => parseExpiry(text)).toThrow(RangeError);
      if (bad !== "5 ") expect(() => parseExpiry(longer)).toThrow(RangeError);
    }),
  );
});

it("gives seconds that can be added to a date, or a RangeError that quotes what was typed: nothing else, for any text", () => {
  const texts = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.string({ unit: fc.constantFrom(..."0123456789. smhdwynuµeversx-,") }),
    fc
      .tuple(fc.bigInt({ min: 0n, max: 10n ** 400n }), fc.constantFrom("y", "s", "ns"))
      .map(([n, unit]) => `${n}${unit}`),
  );
  fc.assert(
    fc.property(texts, (text) => {
      try {
        const seconds = parseExpiry(text) ?? 0;
        expect(seconds).toBeGreaterThanOrEqual(0);
        expect(Number.isSafeInteger(Math.floor(Date.now() / 1000 + seconds))).toBe(true);
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
        expect(String(error)).toContain(`Invalid duration '${text}'. Use e.g. '1h', '7d', '30d', or 'never'.`);
      }
    }),
    { numRuns: 500 },
  );
});
