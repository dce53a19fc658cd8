// A daemon in process whose clock a test moves, and those who ask it for leases.
import { expect } from "vitest";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";
import { createHolder, json, leaseOf, rememberSettings, type Holder } from "./holder.ts";
import { startSubject, type Subject, type SubjectOptions } from "./subject.ts";

export interface LeaseSubject extends Subject {
  readonly clock: FakeClock;
  /** She asks where nothing else is said; whoever asks with `{}` is nobody in particular. */
  readonly alice: Holder;
  readonly bob: Holder;
  readonly carol: Holder;
  readonly root: Holder;
  /** Gives back the id of the lease. */
  acquire(query?: string, by?: Holder): Promise<string>;
  /** What /lease/list shows. */
  list(by?: Holder): Promise<readonly ListedLease[]>;
  /** The numbers of those. */
  living(by?: Holder): Promise<readonly number[]>;
}

interface ListedLease {
  readonly lease: number;
  readonly settings: Readonly<Record<string, Readonly<Record<string, { readonly asked: object }>>>>;
}

export async function startLeaseSubject(options: Omit<SubjectOptions, "clock"> = {}): Promise<LeaseSubject> {
  const clock = createFakeClock();
  const subject = await startSubject("in process", { ...options, clock });
  rememberSettings(subject);
  const alice = createHolder(101);
  const zeusd: LeaseSubject = {
    ...subject,
    clock,
    alice,
    bob: createHolder(102, { uid: 1001 }),
    carol: createHolder(104, { uid: 1002 }),
    root: createHolder(103, { uid: 0 }),
    ask: (line, by = alice) => subject.ask(line, by),
    acquire: async (query = "", by = alice) => leaseOf(await subject.ask(`POST /lease/acquire?${query}`, by)).lease_id,
    async list(by = alice) {
      const answer = await subject.ask("GET /lease/list", by);
      expect(answer).toMatchObject({ status: 200, type: "application/json" });
      return (json(answer) as { readonly leases: readonly ListedLease[] }).leases;
    },
    living: async (by) => (await zeusd.list(by)).map(({ lease }) => lease),
  };
  return zeusd;
}

export interface Told extends Readonly<Record<string, unknown>> {
  readonly event: string;
}

/** Follows the events from now on; gives back what tells those that have come so far. */
export async function followEvents(zeusd: LeaseSubject): Promise<() => readonly Told[]> {
  let heard = "";
  void zeusd.follow("GET /events", (text) => {
    heard = text;
    return false;
  });
  await zeusd.clock.advance(0);
  return () =>
    [...heard.matchAll(/^event: (\w+)\ndata: (.*)\n\n/gm)].map(([, event = "", data = ""]) => ({
      event,
      ...(JSON.parse(data) as Record<string, unknown>),
    }));
}
