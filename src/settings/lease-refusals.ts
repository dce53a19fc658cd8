// What is said to those who get no lease, or whose lease is over.
import { ZeusdError } from "../contract/errors.ts";
import { longestTtlS, type Claimant, type Lease } from "../contract/lease.ts";

/** What a write within a lease that has ended meanwhile is told. */
export function leaseOver({ number }: Lease): ZeusdError {
  return new ZeusdError("no_such_lease", `Lease ${number} has ended, and what was to be written within it was dropped`);
}

/** Nothing but time would end the lease. */
export function endless({ peer }: Claimant): ZeusdError {
  const why = peer
    ? "the end of your process cannot be noticed (it runs in another pid namespace, or has ended)"
    : "over TCP nobody can tell when a client has ended";
  return new ZeusdError(
    "ttl_required",
    `ttl_s is required, since ${why}; give 1 to ${longestTtlS} s and renew the lease in time`,
  );
}

export function orphaned(): ZeusdError {
  const text =
    "The process that opened this connection has ended, so that nobody would put back what is changed over it; connect anew";
  return new ZeusdError("forbidden", text);
}

export function noDescriptor(): ZeusdError {
  const text =
    "There is no open file left to watch your process by, so that what it changes could not be put back; try again later";
  return new ZeusdError("too_many_connections", text);
}
