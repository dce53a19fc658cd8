// The lease of `zeusd run`: taken, kept for as long as the program runs, and given back.
import { isPutBack } from "../contract/lease.ts";
import { acquire, release, renew, type Acquired, type Wanted } from "../client/leases.ts";
import type { Daemon } from "../client/connect.ts";
import { Refusal } from "../client/refusal.ts";
import { printable } from "../contract/printable.ts";
import { messageOf } from "../contract/errors.ts";

/** How long a lease lasts that is not tied to our process, and how often it is renewed. */
export const renewal = { ttlS: 60, everyMs: 20_000 } as const;

export interface HeldLease {
  readonly acquired: Acquired;
  /** Never rejects: what cannot be put back now is a warning. */
  giveBack(): Promise<void>;
}

export interface LeaseParts {
  readonly renewEveryMs: number;
  /** Takes a sentence. */
  readonly warn: (text: string) => void;
}

/** Over a Unix socket the daemon sees our process, and its end ends the lease; otherwise time does, unless it is renewed. */
export async function takeLease(daemon: Daemon, wanted: Wanted, parts: LeaseParts): Promise<HeldLease> {
  const acquired = await acquireSomehow(daemon, wanted);
  const { lease_id: leaseId } = acquired;
  const renewing = acquired.expires_ms === null ? undefined : keepRenewing(daemon, leaseId, parts);
  return {
    acquired,
    async giveBack() {
      if (await renewing?.stop()) return;
      try {
        const { gpus } = await release(daemon, { leaseId });
        for (const [id, outcome] of Object.entries(gpus)) {
          if (!isPutBack(outcome)) parts.warn(`GPU ${id}: ${printable(outcome)}`);
        }
      } catch (error) {
        parts.warn(`the lease could not be released, and ends by itself: ${messageOf(error)}`);
      }
    },
  };
}

async function acquireSomehow(daemon: Daemon, wanted: Wanted): Promise<Acquired> {
  const limited = { ...wanted, ttlS: renewal.ttlS };
  if (daemon.transport === "tcp") return acquire(daemon, limited);
  try {
    return await acquire(daemon, wanted);
  } catch (error) {
    // A daemon cannot see processes that are in another pid namespace than its own, as those of a container may be.
    if (error instanceof Refusal && error.code === "ttl_required") return acquire(daemon, limited);
    throw error;
  }
}

function keepRenewing(daemon: Daemon, leaseId: string, { renewEveryMs, warn }: LeaseParts) {
  let latest = Promise.resolve();
  let warned = false;
  let lost = false;
  let stopped = false;
  const timer = setInterval(() => void (latest = latest.then(renewOnce)), renewEveryMs);

  async function renewOnce(): Promise<void> {
    if (lost || stopped) return;
    try {
      await renew(daemon, leaseId);
      warned = false;
    } catch (error) {
      lost = error instanceof Refusal && error.status < 500 && error.status !== 429;
      if (lost) clearInterval(timer);
      if (lost || !warned) warn(`the lease ${lost ? "is lost" : "was not renewed"}: ${messageOf(error)}`);
      warned = true;
    }
  }

  return {
    /** Settles when no renewal is under way any more, and tells whether the lease is lost. */
    async stop(): Promise<boolean> {
      clearInterval(timer);
      stopped = true;
      await latest;
      return lost;
    },
  };
}
