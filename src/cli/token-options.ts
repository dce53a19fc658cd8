// `zeusd token issue`: its options, and the token that it prints.
import { type Command, Option } from "commander";
import { parseExpiry } from "../access/duration.ts";
import { readSigningKey } from "../access/signing-key.ts";
import { issueToken } from "../access/token.ts";
import type { Clock } from "../contract/clock.ts";
import type { Log } from "../contract/log.ts";
import { apiGroups, type ApiGroup } from "../contract/operations.ts";
import { addOptions, listOf } from "./options.ts";

export interface IssueFlags {
  readonly signingKeyPath: string;
  readonly user: string;
  readonly expires: string;
  readonly scope: readonly ApiGroup[];
  readonly allowShortSigningKey?: boolean;
}

export function addTokenOptions(command: Command, argv: readonly string[]): void {
  const scopes = `API groups that it allows: ${apiGroups.join(", ")}`;
  addOptions(
    command,
    argv,
    [
      new Option("--signing-key-path <path>", "the daemon's key file").makeOptionMandatory(),
      new Option("--user <name>", "whom it is for").makeOptionMandatory(),
      new Option("--expires <duration>", "e.g. 1h, 7d, 30d, or never").makeOptionMandatory(),
      new Option("--allow-short-signing-key", "accept a signing key under 32 bytes"),
    ],
    [new Option("--scope <groups>", scopes).argParser(listOf(apiGroups)).default([], "none")],
  );
}

/** A new token. Throws a StartError for the key and a RangeError for the duration. */
export async function issue(flags: IssueFlags, clock: Clock, log: Log): Promise<string> {
  const key = await readSigningKey(flags.signingKeyPath, log, flags.allowShortSigningKey ?? false);
  const seconds = parseExpiry(flags.expires);
  const claims = { sub: flags.user, scopes: flags.scope };
  if (seconds === undefined) return issueToken(key, claims);
  return issueToken(key, { ...claims, exp: Math.floor(clock.epochMs() / 1000 + seconds) });
}
