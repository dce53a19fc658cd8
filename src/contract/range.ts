// Two parameters that make a range.
import { ZeusdError } from "./errors.ts";
import type { Values } from "./field.ts";
import type { Row } from "./operations.ts";

/** Refuses a range whose low end is above its high end: the driver would answer with a riddle. */
export function checkRange({ range, name }: Row, values: Values): void {
  if (!range) return;
  const [low, high] = range;
  const lowest = values[low];
  const highest = values[high];
  if (typeof lowest !== "number" || typeof highest !== "number" || lowest <= highest) return;
  throw new ZeusdError(
    "bad_request",
    `${name}: ${low} ${lowest} is above ${high} ${highest}; it must be at most as large`,
  );
}
