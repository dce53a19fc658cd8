// A command: one operation with its parameters and its devices. Every wire ends in one.
import type { Values } from "./field.ts";
import type { Row } from "./operations.ts";

export interface Command {
  readonly row: Row;
  /** Ids, UUIDs or PCI addresses; absent means all. */
  readonly devices?: readonly (number | string)[];
  readonly parameters: Values;
  /** Whether the answer waits for the driver. Reads always do. */
  readonly block: boolean;
}

/** Who waits for a command's answer. */
export interface Caller {
  /** When the request came, in the milliseconds of `Clock.monotonicMs`. */
  readonly arrivedMs: number;
  /** Whether nobody is there any more to be answered. */
  gone(): boolean;
}

/** What each device answered, by ascending id. A write answers nothing. */
export type Results = ReadonlyMap<number, Values>;

/** One power reading of one device, with the time of its end. */
export interface Sample {
  readonly timestamp_ms: number;
  readonly values: Values;
}
