// Medians and spreads.

export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error("there is no median of nothing");
  const sorted = values.toSorted((one, other) => one - other);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** One value for each round of ours by that of the other in the same round. */
export function quotients(ours: readonly number[], other: readonly number[]): readonly number[] {
  return ours.map((value, round) => value / (other[round] ?? Number.NaN));
}
