// The settings as the table has them: each can be set to what it is, and put back.
import { describe, expect, it } from "vitest";
import { allOperations, gpuOperations, settings } from "../../src/contract/operations.ts";
import { describeValue, isSame, isSetting, partsOf, readerOf, setterOf } from "../../src/settings/knobs.ts";
import { rowOf } from "./fake-gpu.ts";

describe("an operation that writes", () => {
  const writes = allOperations.filter(({ kind }) => kind === "write");

  it.each(writes.map((row) => [row.name, row] as const))(
    "%s consists of parts that change one setting each",
    (_, row) => {
      const parts = partsOf(row);
      expect(parts.map(({ setting }) => setting)).toEqual(row.settings);
      for (const part of parts) {
        expect(part.row).toMatchObject({ by: "call", settings: [part.setting] });
        expect(Object.keys(part.row.parameters)).toEqual(Object.keys(row.parameters));
      }
    },
  );

  it("that changes one setting is its own part", () => {
    const row = rowOf("setPowerLimit");
    expect(partsOf(row)).toEqual([{ setting: "power_limit", row }]);
    expect(partsOf(rowOf("resetLockedClocks")).map(({ row: { call } }) => call)).toEqual([
      "resetGpuLockedClocks",
      "resetMemLockedClocks",
    ]);
  });

  it("is the only one that has any", () => {
    for (const row of allOperations) if (row.kind !== "write") expect(partsOf(row)).toEqual([]);
  });
});

describe("a setting", () => {
  it.each(settings)("%s is set to whatever it can be set to, or not", (setting) => {
    for (const row of Object.values(gpuOperations)) {
      if (row.kind !== "write" || row.settings.length > 1 || row.settings[0] !== setting) continue;
      const value = Object.fromEntries(Object.keys(row.parameters).map((name) => [name, 1]));
      expect(setterOf(setting, value).name).toBe(row.name);
    }
    expect(() => setterOf(setting, { fan_speed: 1 })).toThrow(`No operation sets ${setting} to {"fan_speed":1}`);
  });

  it("is set to a value whatever the order of its fields", () => {
    expect(setterOf("gpu_clocks", { max_clock_mhz: 2, min_clock_mhz: 1 }).name).toBe("set_gpu_locked_clocks");
  });

  it("that no driver tells has a value without fields, to which it is reset", () => {
    for (const setting of settings) {
      if (readerOf(setting)) expect(() => setterOf(setting, {})).toThrow(RangeError);
      else expect(setterOf(setting, {}).name).toMatch(/^reset_/);
    }
  });

  it("is read by what tells what is set, not what is in force", () => {
    expect(readerOf("power_limit")?.name).toBe("get_power_limit");
    expect(readerOf("persistence_mode")?.name).toBe("get_persistence_mode");
    expect([readerOf("gpu_clocks"), readerOf("memory_clocks")]).toEqual([undefined, undefined]);
  });

  it("is one of the table's", () => {
    expect(settings.every(isSetting)).toBe(true);
    for (const other of ["fan", "", undefined, null, 0, "toString", ["power_limit"]])
      expect(isSetting(other)).toBe(false);
  });
});

describe("a value", () => {
  it("is the same as one with the same fields", () => {
    expect(isSame({}, {})).toBe(true);
    expect(isSame({ min: 1, max: 2 }, { max: 2, min: 1 })).toBe(true);
    expect(isSame({ min: 1 }, { min: 2 })).toBe(false);
    expect(isSame({ min: 1 }, { max: 1 })).toBe(false);
    expect(isSame({ min: 1 }, {})).toBe(false);
    expect(isSame({}, { min: 1 })).toBe(false);
    expect(isSame({ enabled: true }, { enabled: false })).toBe(false);
  });

  it("is told in words", () => {
    expect(describeValue({ power_limit_mw: 250_000 })).toBe("power_limit_mw=250000");
    expect(describeValue({ min_clock_mhz: 1, max_clock_mhz: 2 })).toBe("min_clock_mhz=1 max_clock_mhz=2");
    expect(describeValue({})).toBe("reset");
  });
});
