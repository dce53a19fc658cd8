// Reads back what was set, once a burst of writes is over and the lane is idle: a reading holds the lane up.
import type { Clock } from "../contract/clock.ts";
import type { ReadBack } from "../contract/command.ts";
import { messageOf } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";
import { allOperations, type Row, type Setting } from "../contract/operations.ts";
import { Watch } from "./watch.ts";

/** How long nothing may have been set before it is read back, in ms: over what lies between the writes of a busy client. */
const quietMs = 50;
/** A lane that never rests makes it wait no longer than this, in ms. */
const patienceMs = 1_000;

/** The operations that tell about settings. */
const tellers: readonly Row[] = allOperations.filter(({ tells }) => tells);

const told: readonly Setting[] = tellers.flatMap(({ tells }) => tells?.setting ?? []);

function overlap(some: readonly Setting[], others: readonly Setting[]): boolean {
  for (const setting of some) if (others.includes(setting)) return true;
  return false;
}

export interface ReadBackParts {
  readonly clock: Clock;
  /** Whether the lane runs nothing. */
  readonly isIdle: () => boolean;
  /** Runs an operation without parameters in the lane. */
  readonly read: (row: Row) => Promise<Values>;
}

interface Pending {
  readonly settings: readonly Setting[];
  readonly sinceMs: number;
  readonly tell: (readBack: ReadBack) => void;
}

export class ReadBacks {
  readonly #parts: ReadBackParts;
  readonly #watch: Watch;
  readonly #pending: Pending[] = [];
  #reading = false;

  constructor(parts: ReadBackParts) {
    this.#parts = parts;
    this.#watch = new Watch(parts.clock, (nowMs) => this.#look(nowMs));
  }

  /** A write has ended: tells once what its settings are now; at once where the driver cannot tell. */
  after({ settings = [] }: Row, tell: (readBack: ReadBack) => void): void {
    for (let at = this.#pending.length - 1; at >= 0; at -= 1) {
      if (overlap(this.#pending[at]?.settings ?? [], settings)) this.#end(at, superseded);
    }
    if (!overlap(told, settings)) {
      tell({ kind: "untold" });
      return;
    }
    const nowMs = this.#parts.clock.monotonicMs();
    this.#pending.push({ settings, sinceMs: nowMs, tell });
    this.#watch.until(nowMs + quietMs);
  }

  /** Gives up on all that is still to be read. */
  stop(reason: string): void {
    while (this.#pending.length > 0) this.#end(0, { kind: "failed", reason });
  }

  #look(nowMs: number): void {
    const first = this.#pending[0];
    const last = this.#pending.at(-1);
    if (!first || !last || this.#reading) return;
    const dueMs = last.sinceMs + quietMs;
    const isDue = dueMs <= nowMs && this.#parts.isIdle();
    if (isDue || first.sinceMs + patienceMs <= nowMs) void this.#read([...this.#pending]);
    else this.#watch.until(dueMs > nowMs ? dueMs : nowMs + quietMs);
  }

  async #read(wanted: readonly Pending[]): Promise<void> {
    this.#reading = true;
    // All readings are in the lane before a later write is.
    const readings = wanted.map(async (pending) => {
      const found = await this.#ask(pending.settings);
      // What was set again before the reading had its turn is not pending any more.
      const at = this.#pending.indexOf(pending);
      if (at >= 0) this.#end(at, found);
    });
    await Promise.all(readings);
    this.#reading = false;
    if (this.#pending.length > 0) this.#watch.until(this.#parts.clock.monotonicMs() + quietMs);
  }

  async #ask(settings: readonly Setting[]): Promise<ReadBack> {
    const known: Record<"set" | "enforced", Partial<Record<Setting, Values>>> = { set: {}, enforced: {} };
    let failure: string | undefined;
    const asked = tellers.map(async (row) => {
      if (!row.tells || !settings.includes(row.tells.setting)) return;
      const { setting, value } = row.tells;
      try {
        known[value][setting] = await this.#parts.read(row);
      } catch (error) {
        // What is in force is good to know, but not every GPU tells it.
        if (value === "set") failure = messageOf(error);
      }
    });
    await Promise.all(asked);
    return failure === undefined ? { kind: "done", ...known } : { kind: "failed", reason: failure };
  }

  #end(at: number, readBack: ReadBack): void {
    const [pending] = this.#pending.splice(at, 1);
    pending?.tell(readBack);
  }
}

const superseded: ReadBack = { kind: "superseded" };
