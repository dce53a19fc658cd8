// A command: one operation with its parameters and its devices. Every wire ends in one.
import type { Values } from "./field.ts";
import type { Row, Setting } from "./operations.ts";
import type { Target } from "./target.ts";

export interface Command {
  readonly row: Row;
  /** Ids, UUIDs or PCI addresses; absent means all. */
  readonly devices?: readonly (number | string)[];
  readonly parameters: Values;
  /** Whether the answer waits for the driver. Reads always do. */
  readonly block: boolean;
  /** Everything is checked, and nothing is done. */
  readonly dryRun?: boolean;
  /** The id of the lease within which it is to be done. */
  readonly leaseId?: string;
  /** Whether what was done on some of its devices is undone when others fail. */
  readonly atomic?: boolean;
}

/** Who waits for a command's answer. */
export interface Caller {
  /** When the request came, in the milliseconds of `Clock.monotonicMs`. */
  readonly arrivedMs: number;
  /** Whether nobody is there any more to be answered. */
  gone(): boolean;
}

/** What is known of a device's settings; the value of a setting that was reset has no fields. */
export type Known = Partial<Record<Setting, Values>>;

/** What became of the wish to read back what a write has set. */
export type ReadBack =
  | { readonly kind: "done"; readonly set: Known; readonly enforced: Known }
  /** A later write came before there was time to. */
  | { readonly kind: "superseded" }
  /** The driver cannot tell, as with locked clocks. */
  | { readonly kind: "untold" }
  | { readonly kind: "failed"; readonly reason: string };

/** How a write ended on one device. */
export interface Ending {
  readonly target: Target;
  /** When, in the milliseconds of `Clock.monotonicMs`. */
  readonly endedMs: number;
  /** What the settings were, as far as the daemon knew when the driver was called, each with its age. */
  readonly before: Known;
  /** Undefined if it succeeded. */
  readonly error: unknown;
  /** Whether it had been said before that it has not returned in time. */
  readonly late: boolean;
}

/** Hears how a write ended on each of its devices, be it long after the reply. */
export interface Witness {
  /** `readBack` is absent if the driver was not called, or is not waited for any longer. */
  ended(ending: Ending, readBack?: ReadBack): void;
}

/** What each device answered, by ascending id. A write answers nothing. */
export type Results = ReadonlyMap<number, Values>;

/** One power reading of one device, with the time of its end. */
export interface Sample {
  readonly timestamp_ms: number;
  readonly values: Values;
}
