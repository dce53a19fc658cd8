// The drift check: holds what is set against what should be, now and then, since others than the daemon can change it.
import type { Clock } from "../contract/clock.ts";
import { settings } from "../contract/operations.ts";
import { readerOf } from "../settings/knobs.ts";
import type { Fleet } from "./fleet.ts";
import type { Member } from "./member.ts";

/** Goes on for as long as the daemon runs. `also` is called each time. `periodMs` 0 is never. */
export function checkDrift(fleet: Fleet, clock: Clock, periodMs: number, also: () => void): void {
  if (periodMs === 0) return;
  clock.after(periodMs, () => {
    for (const member of fleet.gpuMembers) void lookAt(member);
    also();
    checkDrift(fleet, clock, periodMs, also);
  });
}

/** Reads what somebody has asked for; to read it is to have it compared. */
async function lookAt(member: Member): Promise<void> {
  const rows = settings.flatMap((setting) => {
    const winner = member.settings?.winner(setting);
    return winner && winner.order > 0 ? (readerOf(setting) ?? []) : [];
  });
  // One that is away, stuck or full is looked at the next time.
  const looks = rows.map((row) => (member.refusal({ row }) ? undefined : member.readUnasked(row)));
  await Promise.allSettled(looks);
}
