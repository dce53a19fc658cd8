// What is known of a device without asking it: what the daemon has set or read last.
import type { Known } from "../contract/command.ts";
import type { Values } from "../contract/field.ts";
import type { Row, Setting } from "../contract/operations.ts";

/** What was set or read, and when, in the milliseconds of `Clock.monotonicMs`. */
export interface Reading {
  readonly values: Values;
  readonly atMs: number;
}

export class LastKnown {
  readonly #settings = new Map<Setting, Reading>();
  readonly #readings = new Map<string, Reading>();

  /** Takes in that an operation has succeeded. */
  learn({ name, kind, settings, tells }: Row, parameters: Values, result: Values, nowMs: number): void {
    for (const setting of settings ?? []) this.#settings.set(setting, { values: parameters, atMs: nowMs });
    if (kind === "write") return;
    const reading = { values: result, atMs: nowMs };
    this.#readings.set(name, reading);
    if (tells?.value === "set") this.#settings.set(tells.setting, reading);
  }

  /** What a setting is, as far as it is known. */
  setting(setting: Setting): Reading | undefined {
    return this.#settings.get(setting);
  }

  /** What an operation has answered last. */
  reading({ name }: Pick<Row, "name">): Reading | undefined {
    return this.#readings.get(name);
  }

  /** What an operation is about to change, with its age in ms; a setting that was never seen is left out. */
  of({ settings = [] }: Row, nowMs: number): Known {
    const known: Partial<Record<Setting, Values>> = {};
    for (const setting of settings) {
      const last = this.#settings.get(setting);
      if (last) known[setting] = { ...last.values, age_ms: Math.round(nowMs - last.atMs) };
    }
    return known;
  }

  /** An operation has failed: what it was to change may be changed in part. */
  doubt({ settings = [] }: Row): void {
    for (const setting of settings) this.#settings.delete(setting);
  }

  /** A GPU that is opened anew may have been reset. */
  forget(): void {
    this.#settings.clear();
  }
}
