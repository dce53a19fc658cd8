// A field: one named value on a wire, with its type, its unit and what it means.

/** What a policy can set bounds for. */
export const quantities = ["power_limit_mw", "gpu_clock_mhz", "memory_clock_mhz"] as const;
export type Quantity = (typeof quantities)[number];

interface FieldFacts {
  readonly doc: string;
}

interface BooleanField extends FieldFacts {
  readonly type: "boolean";
}

/** A whole number. `u32` is what a parameter may be; counters in results are `u64`. */
interface NumberField extends FieldFacts {
  readonly type: "u32" | "u64";
  readonly unit: "mW" | "MHz" | "mJ" | "µJ";
  /** As a parameter: what its value is, for the bounds of a policy. */
  readonly quantity?: Quantity;
}

/** A number that is `null` where the hardware has no such domain, or where it was not asked for. */
interface NullableField extends FieldFacts {
  readonly type: "u64 or null";
  readonly unit: "mW" | "µJ";
}

/** Whole numbers in an order that the field's `doc` tells. Of results only: no wire decodes a list. */
interface ListField extends FieldFacts {
  readonly type: "list of u32";
  readonly unit: "MHz";
}

export type Field = BooleanField | NumberField | NullableField | ListField;

/** Fields by wire name, in the order in which the wires declare them. */
export type Fields = Readonly<Record<string, Field>>;

/** What a field can hold once decoded. */
export type Value = boolean | number | null | readonly number[];
export type Values = Readonly<Record<string, Value>>;

type ValueOf<F extends Field> = F extends BooleanField
  ? boolean
  : F extends NullableField
    ? number | null
    : F extends ListField
      ? readonly number[]
      : number;

/** The record that a set of fields describes, for example `{ power_limit_mw: number }`. */
export type ValuesOf<F extends Fields> = { readonly [Name in keyof F]: ValueOf<F[Name]> };

/** The largest value of a `u32`, on the wires as in NVML. */
export const U32_MAX = 4_294_967_295;
