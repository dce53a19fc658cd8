// Powers and clocks as a person writes them.
import { InvalidArgumentError } from "commander";
import { expect, it } from "vitest";
import { parseClocks, parsePower } from "../../src/cli/units.ts";

it.each([
  ["250W", 250_000],
  ["250 W", 250_000],
  ["250.5W", 250_500],
  ["250.50W", 250_500],
  ["250.0W", 250_000],
  // 250.1 times 1000 is 250100.00000000003.
  ["250.1W", 250_100],
  ["0.001W", 1],
  ["250000mW", 250_000],
  ["250000.0mW", 250_000],
  ["4294967.295W", 4_294_967_295],
])("a power of %j is %i mW", (text, power_mw) => {
  expect(parsePower(text)).toBe(power_mw);
});

it.each([
  "",
  "W",
  "250w",
  "250kW",
  "250MW",
  "250mw",
  "-250W",
  "+250W",
  "2e2W",
  ".5W",
  "250,5W",
  "250.W",
  "0x10W",
  "250W ",
  "25 0W",
])("a power of %j is not understood, and an example shows how to write one", (text) => {
  expect(() => parsePower(text)).toThrow(InvalidArgumentError);
  expect(() => parsePower(text)).toThrow(/such as 250W/);
});

it("a power without a unit is refused, with what to write instead", () => {
  expect(() => parsePower("250")).toThrow("It needs a unit: write 250W, or 250mW if that is what you mean.");
  expect(() => parsePower("250.5")).toThrow(/write 250\.5W/);
});

it.each([
  ["0.0001W", /nothing between/],
  ["0.5mW", /nothing between/],
  ["4294967.296W", /must not be above 4294967295mW/],
  ["99999999999999999999W", /must not be above/],
])("a power of %j cannot be sent", (text, message) => {
  expect(() => parsePower(text)).toThrow(message);
});

it.each([
  ["1400MHz", 1400, 1400],
  ["1400 MHz", 1400, 1400],
  ["1.4GHz", 1400, 1400],
  ["1.395GHz", 1395, 1395],
  ["1200-1500MHz", 1200, 1500],
  ["1200MHz-1500MHz", 1200, 1500],
  ["1200 - 1500 MHz", 1200, 1500],
  ["1.2-1.5GHz", 1200, 1500],
  ["1200MHz-1.5GHz", 1200, 1500],
  ["1500-1500MHz", 1500, 1500],
])("clocks of %j are from %i to %i MHz", (text, min_clock_mhz, max_clock_mhz) => {
  expect(parseClocks(text)).toEqual({ min_clock_mhz, max_clock_mhz });
});

it.each([
  "",
  "MHz",
  "1400mhz",
  "1400Hz",
  "-1400MHz",
  "1200-MHz",
  "1200-1300-1400MHz",
  "1200..1500MHz",
  "1e3MHz",
  "1400MHz ",
])("clocks of %j are not understood, and an example shows how to write them", (text) => {
  expect(() => parseClocks(text)).toThrow(InvalidArgumentError);
  expect(() => parseClocks(text)).toThrow(/such as 1400MHz/);
});

it.each([
  ["1400", /write 1400MHz/],
  ["1200-1500", /write 1200-1500MHz/],
  ["1200MHz-1500", /needs a unit/],
  ["1500-1200MHz", /first clock must not be above the second/],
  ["1400.5MHz", /nothing between/],
  ["1.0005GHz", /nothing between/],
  ["4294967296MHz", /must not be above/],
])("clocks of %j are refused in words that say why", (text, message) => {
  expect(() => parseClocks(text)).toThrow(InvalidArgumentError);
  expect(() => parseClocks(text)).toThrow(message);
});
