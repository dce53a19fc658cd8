// What a device's settings are, as far as the daemon knows: what it has set or read last.
import type { Known } from "../contract/command.ts";
import type { Values } from "../contract/field.ts";
import type { Row, Setting } from "../contract/operations.ts";

export class LastKnown {
  readonly #values = new Map<Setting, { readonly values: Values; readonly atMs: number }>();

  /** Takes in that an operation has succeeded. */
  learn({ settings, tells }: Row, parameters: Values, result: Values, nowMs: number): void {
    for (const setting of settings ?? []) this.#values.set(setting, { values: parameters, atMs: nowMs });
    if (tells?.value === "set") this.#values.set(tells.setting, { values: result, atMs: nowMs });
  }

  /** What an operation is about to change, with its age in ms; a setting that was never seen is left out. */
  of({ settings = [] }: Row, nowMs: number): Known {
    const known: Partial<Record<Setting, Values>> = {};
    for (const setting of settings) {
      const last = this.#values.get(setting);
      if (last) known[setting] = { ...last.values, age_ms: Math.round(nowMs - last.atMs) };
    }
    return known;
  }

  /** An operation has failed: what it was to change may be changed in part. */
  doubt({ settings = [] }: Row): void {
    for (const setting of settings) this.#values.delete(setting);
  }

  /** A GPU that is opened anew may have been reset. */
  forget(): void {
    this.#values.clear();
  }
}
