// What a piece of work is that gets measured, and what comes of it.
import type { Programs } from "./daemon.ts";

export type Unit = "µs" | "ms" | "requests/s" | "CPU s/s" | "MB" | "times";

export interface Target {
  /** What is held against it: ours by the original, or ours alone. */
  readonly of: "ratio" | "ours";
  readonly is: "at most" | "at least";
  readonly value: number;
}

export interface Row {
  readonly name: string;
  readonly unit: Unit;
  readonly target: Target;
}

export interface Result extends Row {
  readonly ours: number;
  readonly original?: number;
  readonly ratio?: number;
  /** What is held against the target, of each round. */
  readonly rounds: readonly number[];
  readonly note?: string;
}

export interface Effort {
  readonly rounds: number;
  /** Shorter by this, in a quick run. */
  readonly share: number;
}

export interface Bench {
  readonly programs: Programs;
  readonly effort: Effort;
  /** A folder that nobody has used yet. */
  freshFolder(): string;
}

/** Some rows that one measurement gives. */
export interface Work {
  readonly rows: readonly Row[];
  /** One result for each row. */
  measure(bench: Bench): Promise<readonly Result[]>;
}
