// `zeusd token issue`: its options, and the token that it prints.
import { randomBytes } from "node:crypto";
import { type Command, InvalidArgumentError, Option } from "commander";
import { parseExpiry } from "../access/duration.ts";
import { readSigningKey } from "../access/signing-key.ts";
import { issueToken } from "../access/token.ts";
import type { Clock } from "../contract/clock.ts";
import type { Log } from "../contract/log.ts";
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

export interface Issued {
  readonly token: string;
  /** One line for whoever issued it, to be kept away from the token, which scripts read. */
  readonly note: string;
}

export function addTokenOptions(command: Command, argv: readonly string[]): void {
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

/** A new token. Throws a StartError for the key and a RangeError for the duration. */
export async function issue(flags: IssueFlags, clock: Clock, log: Log): Promise<Issued> {
  const key = await readSigningKey(flags.signingKeyPath, log, flags.allowShortSigningKey ?? false);
  const seconds = parseExpiry(flags.expires);
  const now = clock.epochMs() / 1000;
  const claims = { sub: flags.user, scopes: flags.scope, iat: Math.floor(now), jti: randomBytes(16).toString("hex") };
  const expiry = seconds === undefined ? {} : { exp: Math.floor(now + seconds) };
  return {
    token: await issueToken(key, { ...claims, ...expiry }),
    note: `To revoke this token, write the line 'jti ${claims.jti}' to the daemon's --revoked-tokens file.`,
  };
}
