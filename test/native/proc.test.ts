// What /proc says of processes: lineages that change while they are read.
import { expect, it } from "vitest";
import { type ProcessStat, lineageOf, statOf } from "../../src/native/proc.ts";
import { lineageNow, startSleeper, startedOf } from "./processes.ts";

/** A machine with these processes: a number, when it began, and its parent's number. */
function machine(...rows: readonly (readonly [number, number, number])[]) {
  const stats = new Map(rows.map(([pid, started, parent]): [number, ProcessStat] => [pid, { pid, started, parent }]));
  return (pid: number) => stats.get(pid);
}

function pidsOf(pid: number, readStat: (pid: number) => ProcessStat | undefined): readonly number[] {
  return lineageOf(pid, readStat).map((link) => link.pid);
}

it("reads a lineage down to the first process", () => {
  const { pid } = startSleeper();
  expect(lineageOf(pid).map((link) => link.pid)).toEqual(lineageNow(pid));
  expect(statOf(pid)).toEqual({ pid, started: startedOf(pid), parent: process.pid });
});

it("knows nothing of a process that is not there", () => {
  expect(statOf(0)).toBeUndefined();
  expect(lineageOf(2 ** 31 - 1)).toEqual([]);
});

it("ends a lineage where an ancestor has vanished", () => {
  expect(pidsOf(30, machine([30, 300, 20], [20, 200, 10], [1, 0, 0]))).toEqual([30, 20]);
});

it("takes no process that began after its child for its parent", () => {
  expect(pidsOf(30, machine([30, 300, 20], [20, 301, 1], [1, 0, 0]))).toEqual([30]);
  expect(pidsOf(30, machine([30, 300, 20], [20, 300, 1], [1, 0, 0]))).toEqual([30, 20, 1]);
});

it("has no more than 64 processes in a lineage, also if they go in a circle", () => {
  const chain = Array.from({ length: 100 }, (_none, index) => [index + 1, index, index] as const);
  expect(pidsOf(100, machine(...chain))).toEqual(Array.from({ length: 64 }, (_none, index) => 100 - index));
  expect(pidsOf(2, machine([2, 0, 3], [3, 0, 2]))).toHaveLength(64);
});
