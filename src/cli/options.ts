// Options as the original's parser takes them: no repetition, no abbreviation, `--opt=value` for a value that begins with a dash.
import { Command, InvalidArgumentError, Option } from "commander";
import { readPlace } from "../contract/place.ts";

/** Reads a whole number of an option's value. */
export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = /^\+?\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
  };
}

/** Reads a list separated by commas; repeating the option adds to it. */
export function listOf<Name extends string>(
  names: readonly Name[],
): (text: string, before: unknown) => readonly Name[] {
  const given: Name[] = [];
  return (text) => {
    for (const part of text.split(",")) {
      const known = names.find((name) => name === part);
      if (known === undefined)
        throw new InvalidArgumentError(`Possible values are ${names.join(", ")}, separated by commas.`);
      given.push(known);
    }
    return given;
  };
}

/** Reads an origin, `https://node7:8443`, or a host name; repeating the option adds to them. */
export function origin(): (text: string) => readonly string[] {
  const given: string[] = [];
  return (text) => {
    if (!readPlace(text))
      throw new InvalidArgumentError("It must be an origin such as https://node7:8443, or a host name.");
    given.push(text.toLowerCase());
    return given;
  };
}

/** Adds options to a command, each of which may be given once unless it is one of `repeatable`. */
export function addOptions(
  command: Command,
  argv: readonly string[],
  options: readonly Option[],
  repeatable: readonly Option[] = [],
): void {
  for (const option of [...options, ...repeatable]) {
    let given = 0;
    command.addOption(option);
    command.on(`option:${option.name()}`, (value: string | null) => {
      given += 1;
      if (given > 1 && !repeatable.includes(option))
        command.error(`error: the option '${option.flags}' cannot be used twice`);
      if (value?.startsWith("-") && !argv.includes(`${option.long}=${value}`)) {
        command.error(
          `error: a value is required for '${option.flags}'; one that begins with a dash is given as ${option.long}=${value}`,
        );
      }
    });
  }
}
