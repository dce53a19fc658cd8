// A value for every parameter of an operation, for what loops over the table.
import type { Row } from "../src/contract/operations.ts";

/** Numbers from `first` on, each above the one before: a range needs two that are in order. */
export function parametersFor(
  { parameters }: Pick<Row, "parameters">,
  first = 1,
): Readonly<Record<string, boolean | number>> {
  const names = Object.entries(parameters);
  return Object.fromEntries(names.map(([name, { type }], index) => [name, type === "boolean" ? true : first + index]));
}
