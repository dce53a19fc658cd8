// What is said of a lease, to clients, in events and in the log.
import type { LeaseFacts } from "../contract/events.ts";
import type { GpuKey, Lease } from "../contract/lease.ts";

/** A lease as everyone may see it. GPUs that have not been seen since the start are left out. */
export function factsOf(lease: Lease, idOf: (gpu: GpuKey) => number | undefined): LeaseFacts {
  const { number, gpus, exclusive, implicit, reason, sinceMs, expiresMs, owner, holder } = lease;
  return {
    lease: number,
    gpu_ids: gpus.flatMap((gpu) => idOf(gpu) ?? []).toSorted((one, other) => one - other),
    exclusive,
    implicit,
    reason: reason ?? null,
    since_ms: sinceMs,
    expires_ms: expiresMs ?? null,
    holder: {
      uid: owner.uid ?? null,
      pid: holder?.pid ?? null,
      program: owner.program ?? null,
      sub: owner.sub ?? null,
    },
  };
}

/** For example `Lease 3 of uid 1000 (python, pid 4711)`. */
export function describeLease({ number, owner, holder, implicit }: Lease): string {
  return `${implicit ? "Implicit lease" : "Lease"} ${number} of ${whoOf(owner, holder)}`;
}

/** For example `lease 3 of uid 1000 (python, pid 4711) since 2026-01-31T12:00:00Z (reason: "night run")`. */
export function heldText({ number, owner, holder, sinceMs, reason }: Lease): string {
  const since = new Date(sinceMs).toISOString().replace(/\.\d+Z$/, "Z");
  const why = reason === undefined ? "" : ` (reason: ${JSON.stringify(reason)})`;
  return `lease ${number} of ${whoOf(owner, holder)} since ${since}${why}`;
}

function whoOf({ uid, program, sub }: Lease["owner"], holder: Lease["holder"]): string {
  const name = uid === undefined ? undefined : `uid ${uid}`;
  const subject = sub === undefined ? undefined : `token subject '${sub}'`;
  const who = [name, subject].filter((one) => one !== undefined).join(" with ") || "a client without identity";
  const process = [program, holder && `pid ${holder.pid}`].filter((one) => one !== undefined).join(", ");
  return process === "" ? who : `${who} (${process})`;
}
