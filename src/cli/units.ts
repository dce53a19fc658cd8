// Powers and clocks as a person writes them, with their units: 250 alone could be watts or milliwatts, and one of them is wrong.
import { InvalidArgumentError } from "commander";
import { U32_MAX } from "../contract/field.ts";

export interface Clocks {
  readonly min_clock_mhz: number;
  readonly max_clock_mhz: number;
}

/** How many decimal places a unit has in the unit of the wire. */
const powerUnits: Readonly<Record<string, number>> = { W: 3, mW: 0 };
const clockUnits: Readonly<Record<string, number>> = { GHz: 3, MHz: 0 };

/** Reads `250W`, `250.5W` or `250000mW`, and gives back mW. */
export function parsePower(text: string): number {
  const [, number = "", unit = ""] = /^(\d+(?:\.\d+)?) ?(\w+)?$/.exec(text) ?? [];
  if (number !== "" && unit === "") {
    throw new InvalidArgumentError(`It needs a unit: write ${number}W, or ${number}mW if that is what you mean.`);
  }
  const power_mw = scaled(number, powerUnits[unit], "mW");
  if (power_mw === undefined) throw new InvalidArgumentError("It must be a power such as 250W, 250.5W or 250000mW.");
  return power_mw;
}

/** Reads one clock, `1400MHz` or `1.4GHz`, or a range, `1200-1500MHz`. */
export function parseClocks(text: string): Clocks {
  const number = String.raw`(\d+(?:\.\d+)?) ?([A-Za-z]+)?`;
  const [, low, lowUnit, high, highUnit] = new RegExp(`^${number}(?: ?- ?${number})?$`).exec(text) ?? [];
  const unit = high === undefined ? lowUnit : highUnit;
  if (low !== undefined && unit === undefined) {
    const advice = high === undefined ? `${low}MHz` : `${low}-${high}MHz`;
    throw new InvalidArgumentError(`It needs a unit: write ${advice}, or GHz if that is what you mean.`);
  }
  const min_clock_mhz = scaled(low ?? "", clockUnits[lowUnit ?? unit ?? ""], "MHz");
  const max_clock_mhz = scaled(high ?? low ?? "", clockUnits[unit ?? ""], "MHz");
  if (min_clock_mhz === undefined || max_clock_mhz === undefined) {
    throw new InvalidArgumentError("It must be a clock such as 1400MHz or 1.4GHz, or a range such as 1200-1500MHz.");
  }
  if (min_clock_mhz > max_clock_mhz) throw new InvalidArgumentError("The first clock must not be above the second.");
  return { min_clock_mhz, max_clock_mhz };
}

/** Exact, which a product of floating point numbers is not. Undefined if it is no number, or its unit is not known. */
function scaled(number: string, places: number | undefined, least: string): number | undefined {
  const [whole = "", fraction = ""] = number.replace(/(\.\d*?)0+$/, "$1").split(".");
  if (whole === "" || places === undefined) return undefined;
  if (fraction.length > places) throw new InvalidArgumentError(`There is nothing between one ${least} and the next.`);
  const value = Number(whole + fraction.padEnd(places, "0"));
  if (value > U32_MAX) throw new InvalidArgumentError(`It must not be above ${U32_MAX}${least}.`);
  return value;
}
