// The settings as the table has them: which operation sets one to a value, and which one tells what it is.
import type { Values } from "../contract/field.ts";
import { allOperations, settings, type Row, type Setting } from "../contract/operations.ts";

/** One setting that a write changes, by an operation that changes it alone. */
export interface Part {
  readonly setting: Setting;
  readonly row: Row;
}

/** The operations that change a setting alone, by the names of what they take. */
const setters: ReadonlyMap<Setting, ReadonlyMap<string, Row>> = new Map(
  settings.map((setting) => {
    const alone = allOperations.filter((row) => row.settings?.length === 1 && row.settings[0] === setting);
    return [setting, new Map(alone.map((row) => [namesOf(row.parameters), row]))];
  }),
);

/** In an order of their own: a body has its fields in the client's. */
function namesOf(fields: object): string {
  return Object.keys(fields).toSorted().join();
}

/** What tells a setting's value; absent for locked clocks, which no driver tells. */
const readers: ReadonlyMap<Setting, Row> = new Map(
  allOperations.flatMap((row) => (row.tells?.value === "set" ? [[row.tells.setting, row] as const] : [])),
);

const parts: ReadonlyMap<Row, readonly Part[]> = new Map(
  allOperations.map((row) => [
    row,
    (row.settings ?? []).map((setting) => ({
      setting,
      row: row.by === "parts" ? setterOf(setting, row.parameters) : row,
    })),
  ]),
);

/** What a write consists of, in the order in which it is done. */
export function partsOf(row: Row): readonly Part[] {
  return parts.get(row) ?? [];
}

/** The operation that sets a setting to this value. A value without fields is what it is when nothing is set: it is reset then. */
export function setterOf(setting: Setting, value: object): Row {
  const row = setters.get(setting)?.get(namesOf(value));
  if (row) return row;
  throw new RangeError(`No operation sets ${setting} to ${JSON.stringify(value)}`);
}

export function readerOf(setting: Setting): Row | undefined {
  return readers.get(setting);
}

export function isSame(one: Values, other: Values): boolean {
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => one[name] === other[name]);
}

export function isSetting(name: unknown): name is Setting {
  return settings.some((setting) => setting === name);
}

/** A value in words, for example `power_limit_mw=250000`; `reset` for one without fields. */
export function describeValue(value: Values): string {
  const words = Object.entries(value).map(([name, one]) => `${name}=${String(one)}`);
  return words.length === 0 ? "reset" : words.join(" ");
}
