// A GPU that does what a test says: what is set on it outlives every daemon.
import { ZeusdError } from "../../src/contract/errors.ts";
import type { Values } from "../../src/contract/field.ts";
import { allOperations, type Row, type Setting } from "../../src/contract/operations.ts";

/**
 * What becomes of a write: the driver does it; refuses it; fails and has not done it; fails and has done it; does not return
 * until the test lets it.
 */
export type Outcome = "done" | "refused" | "lost" | "uncertain" | "hangs";

export interface FakeGpu {
  readonly set: Map<Setting, Values>;
  /** The writes that were tried, in order. */
  readonly writes: { readonly setting: Setting; readonly value: Values }[];
  /** The settings that were read, in order. */
  readonly reads: Setting[];
  /** What becomes of the next writes. Those after them are done. */
  readonly outcomes: Outcome[];
  /** Whether it tells nothing. */
  isSilent: boolean;
  readonly isHanging: boolean;
  call(row: Row, parameters: Values): Promise<Values>;
  /** Lets the write that hangs return. */
  release(outcome?: Exclude<Outcome, "hangs">): void;
  /** Whoever called is no more; the write that hangs took effect or did not. */
  abandon(isDone: boolean): void;
}

export function rowOf(call: string): Row {
  const row = allOperations.find((one) => one.device === "gpu" && one.call === call);
  if (!row) throw new Error(`There is no operation ${call}`);
  return row;
}

export function createFakeGpu(): FakeGpu {
  const set = new Map<Setting, Values>([
    ["power_limit", { power_limit_mw: 300_000 }],
    ["persistence_mode", { enabled: false }],
    ["gpu_clocks", {}],
    ["memory_clocks", {}],
  ]);
  const writes: { setting: Setting; value: Values }[] = [];
  const reads: Setting[] = [];
  const outcomes: Outcome[] = [];
  let hanging:
    | { finish: (outcome: Outcome) => Values; resolve: (values: Values) => void; reject: (error: unknown) => void }
    | undefined;

  function write(setting: Setting, value: Values, outcome: Outcome): Values {
    if (outcome === "refused") throw new ZeusdError("invalid_argument", "The driver does not take it");
    if (outcome === "lost") throw new ZeusdError("driver_error", "The driver has failed");
    set.set(setting, value);
    if (outcome === "uncertain") throw new ZeusdError("driver_error", "The driver has failed after all");
    return {};
  }

  const gpu = {
    set,
    writes,
    reads,
    outcomes,
    isSilent: false,
    get isHanging() {
      return hanging !== undefined;
    },
    async call(row: Row, parameters: Values): Promise<Values> {
      if (row.tells) {
        reads.push(row.tells.setting);
        if (gpu.isSilent) throw new ZeusdError("driver_error", "The driver does not tell");
        return set.get(row.tells.setting) ?? {};
      }
      const [setting] = row.settings ?? [];
      if (!setting || row.by !== "call") throw new Error(`No driver has ${row.call}`);
      writes.push({ setting, value: parameters });
      const outcome = outcomes.shift() ?? "done";
      if (outcome !== "hangs") return write(setting, parameters, outcome);
      if (hanging) throw new Error("Two calls are in the driver at a time");
      return new Promise<Values>((resolve, reject) => {
        hanging = { finish: (later) => write(setting, parameters, later), resolve, reject };
      });
    },
    release(outcome: Outcome = "done") {
      const one = hanging;
      hanging = undefined;
      try {
        one?.resolve(one.finish(outcome));
      } catch (error) {
        one?.reject(error);
      }
    },
    abandon(isDone: boolean) {
      if (isDone) hanging?.finish("done");
      hanging = undefined;
    },
  };
  return gpu;
}
