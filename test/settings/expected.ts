// What is expected of one setting, by who has written what in which order. It knows nothing of layers.
import type { Values } from "../../src/contract/field.ts";

/** What is expected of one setting of one GPU. */
export class Expected {
  /** What may be there without leases: one value, unless something happened of which nobody can say how it went. */
  bases: Set<string>;
  /** The same for a daemon that only knows what the journal says. */
  remembered: Set<string>;
  /** Who wrote what, the newest last; undefined is without a lease. */
  writes: { readonly lease: number | undefined; readonly value: string }[] = [];
  /** Whether somebody else than the daemon may have changed it since it was last written. */
  isDirty = false;
  /** Whether nobody can say which write of a lease was the newest, until all of them have ended. */
  isUnsure = false;

  constructor(value: Values) {
    this.bases = new Set([textOf(value)]);
    this.remembered = new Set(this.bases);
  }

  get isHeld(): boolean {
    return this.writes.some(({ lease }) => lease !== undefined);
  }

  end(lease: number): void {
    this.writes = this.writes.filter((one) => one.lease !== lease);
    if (!this.isHeld) this.isUnsure = false;
  }
}

export function textOf(value: Values): string {
  return JSON.stringify(Object.entries(value).toSorted());
}
