// A dry run: everything that can be checked without the driver is, and the answer says what would have been done.
import type { Permit } from "../access/gate.ts";
import type { Command } from "../contract/command.ts";
import type { Fleet } from "../devices/fleet.ts";
import type { Member } from "../devices/member.ts";
import { jsonReply, type Reply } from "./message.ts";

/** Throws what the command would have been refused with before the driver was called. */
export function dryRunReply(
  fleet: Fleet,
  command: Command,
  members: readonly Member[],
  { rules, leases }: Pick<Permit, "rules" | "leases">,
): Reply {
  fleet.rehearse(command, members);
  const { row, parameters } = command;
  const asked = Object.entries(parameters).map(([name, value]) => ` ${name}=${String(value)}`);
  const where = members.map(({ name }) => name).join(", ");
  return jsonReply(200, {
    dry_run: true,
    would: `${row.name}${asked.join("")} on ${where}`,
    operation: row.name,
    asked: parameters,
    [`${row.device}s`]: Object.fromEntries(
      members.map(({ id }) => [id, { rule: rules.get(id)?.name ?? null, lease: leases?.get(id)?.number ?? null }]),
    ),
  });
}
