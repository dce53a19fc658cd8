// What is known of a device's settings: the newest of what was set and what was read, with its age.
import { describe, expect, it } from "vitest";
import type { Known } from "../../src/contract/command.ts";
import type { Values } from "../../src/contract/field.ts";
import { allOperations, settings } from "../../src/contract/operations.ts";
import { operationOf } from "../../src/contract/rights.ts";
import { LastKnown } from "../../src/devices/last-known.ts";
import { parametersFor } from "../parameters.ts";

const zeroed = (values: Values): Values => ({ ...values, age_ms: 0 });

const writes = allOperations.filter(({ kind }) => kind === "write");
const tellers = allOperations.filter(({ tells }) => tells?.value === "set");

it("is nothing at first, for no write", () => {
  const known = new LastKnown();
  for (const write of writes) expect(known.of(write, 0)).toEqual({});
});

it.each(writes.map((write) => [write.name, write] as const))(
  "after %s is what was set, for that write and for every other of the same settings",
  (_, write) => {
    const known = new LastKnown();
    const parameters = parametersFor(write, 7);
    known.learn(write, parameters, {}, 0);
    for (const other of writes) {
      const shared = (other.settings ?? []).filter((setting) => write.settings?.includes(setting));
      const expected: Known = Object.fromEntries(shared.map((setting) => [setting, zeroed(parameters)]));
      expect(known.of(other, 0)).toEqual(expected);
    }
  },
);

it.each(tellers.map((teller) => [teller.name, teller] as const))("after %s is what was read", (_, teller) => {
  const known = new LastKnown();
  const result = parametersFor({ ...teller, parameters: teller.result }, 5);
  known.learn(teller, {}, result, 0);
  for (const write of writes) {
    const isTold = write.settings?.some((setting) => setting === teller.tells?.setting);
    expect(known.of(write, 0)).toEqual(isTold ? { [String(teller.tells?.setting)]: zeroed(result) } : {});
  }
});

it("has every setting that some read tells told by one of the reads, so that none of them is forgotten above", () => {
  expect(tellers.map(({ tells }) => tells?.setting).toSorted()).toEqual(["persistence_mode", "power_limit"]);
});

describe("the power limit", () => {
  const set = operationOf("gpu/set_power_limit");

  it("is known with its age in whole milliseconds", () => {
    const known = new LastKnown();
    known.learn(set, { power_limit_mw: 200_000 }, {}, 1_000.25);
    expect(known.of(set, 1_000.25)).toEqual({ power_limit: { power_limit_mw: 200_000, age_ms: 0 } });
    expect(known.of(set, 3_600_000)).toEqual({ power_limit: { power_limit_mw: 200_000, age_ms: 3_599_000 } });
  });

  it("is the newest that was seen, be it set or read", () => {
    const known = new LastKnown();
    known.learn(set, { power_limit_mw: 1 }, {}, 0);
    known.learn(operationOf("gpu/get_power_limit"), {}, { power_limit_mw: 2 }, 10);
    expect(known.of(set, 15)).toEqual({ power_limit: { power_limit_mw: 2, age_ms: 5 } });
    known.learn(set, { power_limit_mw: 3 }, {}, 20);
    expect(known.of(set, 20)).toEqual({ power_limit: { power_limit_mw: 3, age_ms: 0 } });
  });

  it("that is set is not the one that is in force, and not its constraints", () => {
    const known = new LastKnown();
    known.learn(operationOf("gpu/get_enforced_power_limit"), {}, { power_limit_mw: 2 }, 0);
    known.learn(
      operationOf("gpu/get_power_limit_constraints"),
      {},
      { min_power_limit_mw: 1, max_power_limit_mw: 3 },
      0,
    );
    known.learn(operationOf("gpu/get_power"), {}, { power_mw: 4 }, 0);
    expect(known.of(set, 0)).toEqual({});
  });
});

it("has no fields for clocks that were reset, each with an age of its own", () => {
  const known = new LastKnown();
  known.learn(operationOf("gpu/set_gpu_locked_clocks"), { min_clock_mhz: 1, max_clock_mhz: 2 }, {}, 0);
  known.learn(operationOf("gpu/reset_mem_locked_clocks"), {}, {}, 4);
  const reset = operationOf("gpu/reset_locked_clocks");
  expect(known.of(reset, 10)).toEqual({
    gpu_clocks: { min_clock_mhz: 1, max_clock_mhz: 2, age_ms: 10 },
    memory_clocks: { age_ms: 6 },
  });
  known.learn(reset, {}, {}, 20);
  expect(known.of(reset, 20)).toEqual({ gpu_clocks: { age_ms: 0 }, memory_clocks: { age_ms: 0 } });
});

describe("of a setting by its name", () => {
  it("is nothing at first, and then what was set or read last, with the time of it", () => {
    const known = new LastKnown();
    expect(known.setting("power_limit")).toBeUndefined();
    known.learn(operationOf("gpu/set_power_limit"), { power_limit_mw: 1 }, {}, 3);
    expect(known.setting("power_limit")).toEqual({ values: { power_limit_mw: 1 }, atMs: 3 });
    known.learn(operationOf("gpu/get_power_limit"), {}, { power_limit_mw: 2 }, 5);
    expect(known.setting("power_limit")).toEqual({ values: { power_limit_mw: 2 }, atMs: 5 });
    expect(known.setting("persistence_mode")).toBeUndefined();
  });

  it("has no fields for one that was reset", () => {
    const known = new LastKnown();
    known.learn(operationOf("gpu/reset_gpu_locked_clocks"), {}, {}, 3);
    expect(known.setting("gpu_clocks")).toEqual({ values: {}, atMs: 3 });
    expect(known.setting("memory_clocks")).toBeUndefined();
  });

  it.each(writes.map((write) => [write.name, write] as const))(
    "is nothing once %s has failed, which may have changed it, and the others stay known",
    (_, failed) => {
      const known = new LastKnown();
      for (const write of writes) known.learn(write, parametersFor(write, 7), {}, 0);
      known.doubt(failed);
      for (const setting of settings) {
        expect(known.setting(setting) === undefined).toBe(failed.settings?.includes(setting));
      }
    },
  );
});

describe("of what an operation has answered", () => {
  const reads = allOperations.filter(({ kind }) => kind === "read");

  it.each(reads.map((read) => [`${read.device} ${read.name}`, read] as const))("is the newest of %s", (_, read) => {
    const known = new LastKnown();
    expect(known.reading(read)).toBeUndefined();
    for (const atMs of [10, 20]) known.learn(read, {}, { answered: atMs }, atMs);
    expect(known.reading(read)).toEqual({ values: { answered: 20 }, atMs: 20 });
    for (const other of reads) if (other.name !== read.name) expect(known.reading(other)).toBeUndefined();
  });

  it("is not what was set since: that is no answer", () => {
    const known = new LastKnown();
    const read = operationOf("gpu/get_power_limit");
    known.learn(read, {}, { power_limit_mw: 1 }, 0);
    known.learn(operationOf("gpu/set_power_limit"), { power_limit_mw: 2 }, {}, 10);
    expect(known.reading(read)).toEqual({ values: { power_limit_mw: 1 }, atMs: 0 });
    expect(known.setting("power_limit")).toEqual({ values: { power_limit_mw: 2 }, atMs: 10 });
  });

  it("stays known, for whoever asks while the GPU is away, when its settings are forgotten", () => {
    const known = new LastKnown();
    const read = operationOf("gpu/get_power_limit");
    known.learn(read, {}, { power_limit_mw: 1 }, 0);
    known.forget();
    expect(known.setting("power_limit")).toBeUndefined();
    expect(known.reading(read)).toEqual({ values: { power_limit_mw: 1 }, atMs: 0 });
  });
});

it("is nothing again once it is forgotten, as when a GPU is opened anew", () => {
  const known = new LastKnown();
  for (const write of writes) known.learn(write, parametersFor(write, 7), {}, 0);
  known.forget();
  for (const write of writes) expect(known.of(write, 0)).toEqual({});
});

it("that was given out does not change with what is learned later", () => {
  const known = new LastKnown();
  known.learn(operationOf("gpu/set_power_limit"), { power_limit_mw: 1 }, {}, 0);
  const before = known.of(operationOf("gpu/set_power_limit"), 0);
  known.learn(operationOf("gpu/set_power_limit"), { power_limit_mw: 2 }, {}, 1);
  expect(before).toEqual({ power_limit: { power_limit_mw: 1, age_ms: 0 } });
});
