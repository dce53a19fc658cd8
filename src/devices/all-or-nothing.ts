// One command on several devices, all or nothing: what was done on some is undone when others fail.
import type { Results } from "../contract/command.ts";
import { CommandFailed } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";
import { Attempt } from "../settings/attempt.ts";
import { gather } from "./gather.ts";
import type { Member } from "./member.ts";

/** What is done on one device, and hears what of it is to be undone. */
export type AttemptedWork = (member: Member, attempt: Attempt) => Promise<Values>;
export type Failed = (member: Member, error: unknown) => void;

/** The same as `gather`. A call that has not returned in time and succeeds later all the same is undone then. */
export async function runWhole(members: readonly Member[], work: AttemptedWork, failed: Failed): Promise<Results> {
  const attempts = new Map(members.map((member) => [member, new Attempt()]));
  const attemptOf = (member: Member): Attempt => attempts.get(member) ?? new Attempt();
  try {
    return await gather(members, (member) => work(member, attemptOf(member)), failed);
  } catch (error) {
    for (const attempt of attempts.values()) attempt.callOff();
    if (!(error instanceof CommandFailed)) throw error;
    const done = members.filter(({ id }) => !error.errors.has(id));
    const outcomes = done.map(async (member) => [member.id, (await member.settle()) ?? "undone"] as const);
    throw new CommandFailed(error.errors, new Map(), new Map(await Promise.all(outcomes)));
  }
}
