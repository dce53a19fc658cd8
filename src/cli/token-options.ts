// `zeusd token issue`: its options.
import { type Command, InvalidArgumentError, Option } from "commander";
import { allOperations, apiGroups } from "../contract/operations.ts";
import { rights } from "../contract/rights.ts";
import { addOptions, listOf } from "./options.ts";

export interface IssueFlags {
  readonly signingKeyPath: string;
  readonly user: string;
  readonly expires: string;
  /** Names of `rights`. */
  readonly scope: readonly string[];
  readonly allowShortSigningKey?: boolean;
}

export function addTokenCommand(
  program: Command,
  argv: readonly string[],
  issue: (flags: IssueFlags) => Promise<void>,
): void {
  const command = program.command("token").description("work with tokens").command("issue");
  command.description("print a new token").allowExcessArguments(false);
  command.action(() => issue(command.opts()));
  addOptions(
    command,
    argv,
    [
      new Option("--signing-key-path <path>", "the daemon's key file").makeOptionMandatory(),
      new Option("--user <name>", "whom it is for").makeOptionMandatory(),
      new Option("--expires <duration>", "e.g. 1h, 7d, 30d, or never").makeOptionMandatory(),
      new Option("--allow-short-signing-key", "accept a signing key under 32 bytes"),
    ],
    [
      new Option("--scope <names>", `what it allows: API groups (${apiGroups.join(", ")}) or operations`)
        .argParser(scopes())
        .default([], "none"),
    ],
  );
  command.addHelpText("after", scopeHelp());
}

/** Reads a list of scopes. There are too many for a refusal to list them. */
function scopes(): (text: string, before: unknown) => readonly string[] {
  const read = listOf([...rights.keys()]);
  return (text, before) => {
    const unknown = text.split(",").find((name) => !rights.has(name));
    if (unknown === undefined) return read(text, before);
    throw new InvalidArgumentError(
      `'${unknown}' is no scope; use ${apiGroups.join(", ")}, or operations such as set_power_limit or gpu/get_power ` +
        "(zeusd token issue --help lists them), separated by commas.",
    );
  };
}

function scopeHelp(): string {
  const lines = apiGroups.map((group) => {
    const names = allOperations.filter((row) => row.group === group).map(({ name }) => name);
    return `  ${group}:\n${wrapped(names)}`;
  });
  return `
A scope is an API group, which allows all of its operations, or one operation:
${lines.join("\n")}
GPUs and CPUs share some names: gpu/get_power allows that of GPUs only.

The original daemon, up to 0.5, knows API groups only, and refuses a token as
a whole if any other scope is in it.`;
}

/** Words on lines that fit a terminal. */
function wrapped(words: readonly string[]): string {
  return words
    .join(", ")
    .replace(/(.{1,72}(?:,|$)) ?/g, "    $1\n")
    .trimEnd();
}
