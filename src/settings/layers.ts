// What a setting should be, given what was there before and what leases have written since. Pure: no sockets, clocks or drivers.
import type { Values } from "../contract/field.ts";

/** A value, and its place among all writes: the higher is the newer. 0 is older than all of them. */
export interface Written {
  readonly value: Values;
  readonly order: number;
}

/** One setting of one GPU. */
export interface Layered {
  /** What was there before the first lease wrote to it, or what was written without a lease since. Absent if neither is known. */
  readonly base?: Written | undefined;
  /** The last write of each lease that lives, by the lease's number. */
  readonly layers: ReadonlyMap<number, Written>;
}

/** What should be there, and the lease that wants it so; none if it is the base. */
export interface Winner extends Written {
  readonly lease?: number;
}

export const untouched: Layered = { layers: new Map() };

/** The newest write wins, be it a lease's or not. */
export function winnerOf({ base, layers }: Layered): Winner | undefined {
  let winner: Winner | undefined = base;
  for (const [lease, { value, order }] of layers) {
    if (!winner || order > winner.order) winner = { value, order, lease };
  }
  return winner;
}

/** The same with a write of a lease, or without a lease of the base; without `written` it is taken away. */
export function withWrite(layered: Layered, lease: number | undefined, written: Written | undefined): Layered {
  if (lease === undefined) return { base: written, layers: layered.layers };
  const layers = new Map(layered.layers);
  if (written) layers.set(lease, written);
  else layers.delete(lease);
  return { base: layered.base, layers };
}

/** The last write of a lease, or without a lease of the base. */
export function writeOf({ base, layers }: Layered, lease: number | undefined): Written | undefined {
  return lease === undefined ? base : layers.get(lease);
}
