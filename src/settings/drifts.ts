// Drift: a setting that is not what it should be, because somebody has changed it elsewhere, or the driver took a value and did
// not apply it.
import type { Events } from "../contract/events.ts";
import type { Values } from "../contract/field.ts";
import type { Log } from "../contract/log.ts";
import type { Setting } from "../contract/operations.ts";
import { describeValue, isSame } from "./knobs.ts";

export class Drifts {
  readonly #parts: { readonly log: Log; readonly events: Events };
  readonly #gpu: { readonly id: number; readonly name: string };
  readonly #now = new Map<Setting, Values>();
  readonly #counts = new Map<Setting, number>();

  constructor(
    parts: { readonly log: Log; readonly events: Events },
    gpu: { readonly id: number; readonly name: string },
  ) {
    this.#parts = parts;
    this.#gpu = gpu;
  }

  /** What was found instead of what should be; undefined if it is as it should be. */
  of(setting: Setting): Values | undefined {
    return this.#now.get(setting);
  }

  /** How often a setting was found to be what it should not be. */
  count(setting: Setting): number {
    return this.#counts.get(setting) ?? 0;
  }

  /** Holds what was found against what should be. True if that is not so, and was not known. */
  hold(setting: Setting, expected: Values, found: Values): boolean {
    const { log, events } = this.#parts;
    const { id, name } = this.#gpu;
    const before = this.#now.get(setting);
    if (isSame(expected, found)) {
      if (!before) return false;
      this.#now.delete(setting);
      log.info(`${name}: ${setting} is ${describeValue(found)} again, as it should be`);
      events.tell({ event: "drift_over", gpu: id, setting, value: found });
      return false;
    }
    if (before && isSame(before, found)) return false;
    this.#now.set(setting, found);
    this.#counts.set(setting, this.count(setting) + 1);
    log.warn(`${name}: ${setting} is ${describeValue(found)} and should be ${describeValue(expected)}`);
    events.tell({ event: "drift", gpu: id, setting, expected, found });
    return true;
  }

  /** Something else should be there now. */
  over(setting: Setting, expected: Values): void {
    if (this.#now.delete(setting))
      this.#parts.events.tell({ event: "drift_over", gpu: this.#gpu.id, setting, value: expected });
  }
}
