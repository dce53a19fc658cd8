// Rights: the names by which a policy and a token allow operations.
import { allOperations, type ApiGroup, type Operation, type Row } from "./operations.ts";

/**
 * What a policy's `allow` and a token's scopes can name: an API group, an operation (`set_power_limit`), or, where GPUs and
 * CPUs have one of the same name, that of one of them (`gpu/get_power`).
 */
export const rights: ReadonlyMap<string, ReadonlySet<Row>> = new Map(
  [...new Set(allOperations.flatMap(rightsOf))].map((right) => [
    right,
    new Set(allOperations.filter((row) => rightsOf(row).includes(right))),
  ]),
);

/** The names of all rights that include an operation. */
function rightsOf({ group, device, name }: Operation): readonly [ApiGroup, string, string] {
  return [group, name, `${device}/${name}`];
}

/** The operation that a right names by itself; throws a RangeError if it names none or several. */
export function operationOf(right: string): Row {
  const [row, ...more] = rights.get(right) ?? [];
  if (row && more.length === 0) return row;
  throw new RangeError(
    `${JSON.stringify(right)} does not name one operation; give e.g. set_power_limit, or gpu/get_power where CPUs have it as well`,
  );
}
