// The differences that are meant: which request, what ours answers instead, and why.

export interface Intended {
  /** The exchange's name, or what it must match. */
  readonly name: string | RegExp;
  /** Statuses of our replies, or what its summary must match. */
  readonly ours: string | RegExp;
  readonly reason: string;
}

export const intended: readonly Intended[] = [];
