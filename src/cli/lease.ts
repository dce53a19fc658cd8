// What `zeusd lease` prints: the leases of a daemon, and what became of one that was ended.
import { connect, type Environment } from "../client/connect.ts";
import { list, release } from "../client/leases.ts";
import { printable } from "../contract/printable.ts";
import { usualSockets } from "./connection-options.ts";
import type { ListFlags, ReleaseFlags } from "./lease-options.ts";
import { leaseTable } from "./lease-printout.ts";

export interface LeaseCommandParts {
  readonly env: Environment;
  readonly epochMs: () => number;
  readonly stdout: (text: string) => void;
}

export async function listLeases(flags: ListFlags, { env, epochMs, stdout }: LeaseCommandParts): Promise<void> {
  const leases = await list(connect(flags, env, usualSockets));
  if (flags.json) stdout(`${escaped(JSON.stringify({ leases }, undefined, 2))}\n`);
  else stdout(leases.length === 0 ? "no leases\n" : leaseTable(leases, epochMs()));
}

/** JSON itself escapes only some of what a terminal could take for a command. */
function escaped(json: string): string {
  return printable(json, (character) => {
    if (character === "\n") return character;
    return [...Array(character.length).keys()].map((at) => `\\u${hex(character.charCodeAt(at))}`).join("");
  });
}

function hex(unit: number): string {
  return unit.toString(16).padStart(4, "0");
}

export async function releaseLease(flags: ReleaseFlags, { env, stdout }: LeaseCommandParts): Promise<void> {
  const { lease, gpus } = await release(connect(flags, env, usualSockets), flags);
  const lines = Object.entries(gpus).map(([id, outcome]) => `  GPU ${id}: ${printable(outcome)}\n`);
  stdout(`lease ${lease} has ended\n${lines.join("")}`);
}
