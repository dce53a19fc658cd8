// Reading back what was set: once for a burst of writes, while the lane is idle, and never a value that came later.
import * as fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import type { ReadBack } from "../../src/contract/command.ts";
import type { Values } from "../../src/contract/field.ts";
import { allOperations, type Row, type Setting } from "../../src/contract/operations.ts";
import { operationOf } from "../../src/contract/rights.ts";
import { ReadBacks } from "../../src/devices/read-back.ts";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";

const writes = allOperations.filter(({ kind }) => kind === "write");
const told: ReadonlySet<Setting> = new Set(["power_limit", "persistence_mode"]);

/** A reading that was asked for and has not had its turn in the lane. */
interface Reading {
  readonly row: Row;
  answer(values: Values): void;
  fail(error: Error): void;
}

let clock: FakeClock;
let idle: boolean;
let readings: Reading[];
/** Every operation that was asked for, with the time. */
let asked: string[];
let readBacks: ReadBacks;

beforeEach(setUp);

function setUp(): void {
  clock = createFakeClock();
  idle = true;
  readings = [];
  asked = [];
  readBacks = new ReadBacks({
    clock,
    isIdle: () => idle,
    read: (row) =>
      new Promise((resolve, reject) => {
        asked.push(`${row.name} at ${clock.monotonicMs()}`);
        readings.push({ row, answer: resolve, fail: reject });
      }),
  });
}

/** Notes that a write has been done, and gives what is told of it, which grows. */
function written(name: string): readonly ReadBack[] {
  const heard: ReadBack[] = [];
  readBacks.after(operationOf(`gpu/${name}`), (readBack) => heard.push(readBack));
  return heard;
}

/** Lets all readings have their turn. */
async function answer(values: Readonly<Record<string, Values | Error>>): Promise<void> {
  for (const { row, answer: give, fail } of readings.splice(0)) {
    const value = values[row.name] ?? new Error(`${row.name} was not expected`);
    if (value instanceof Error) fail(value);
    else give(value);
  }
  await clock.advance(0);
}

const limits = { get_power_limit: { power_limit_mw: 200_000 }, get_enforced_power_limit: { power_limit_mw: 150_000 } };
const limitsDone: ReadBack = {
  kind: "done",
  set: { power_limit: { power_limit_mw: 200_000 } },
  enforced: { power_limit: { power_limit_mw: 150_000 } },
};
const limitReads = (ms: number): readonly string[] => [`get_power_limit at ${ms}`, `get_enforced_power_limit at ${ms}`];

describe("a write", () => {
  it("is read back 50 ms later, both what is set and what is in force, and told once", async () => {
    const heard = written("set_power_limit");
    await clock.advance(49);
    expect(asked).toEqual([]);
    await clock.advance(1);
    expect(asked).toEqual(limitReads(50));
    expect(heard).toEqual([]);
    await answer(limits);
    expect(heard).toEqual([limitsDone]);
    await clock.advance(60_000);
    expect([heard.length, asked.length, clock.pending]).toEqual([1, 2, 0]);
  });

  it("of a setting with one getter is read with that one", async () => {
    const heard = written("set_persistence_mode");
    await clock.advance(50);
    await answer({ get_persistence_mode: { enabled: true } });
    expect(heard).toEqual([{ kind: "done", set: { persistence_mode: { enabled: true } }, enforced: {} }]);
    expect(asked).toEqual(["get_persistence_mode at 50"]);
  });

  it.each(writes.filter(({ settings = [] }) => !settings.some((setting) => told.has(setting))))(
    "$name, which the driver does not tell of, is told so at once, and nothing is read",
    async ({ name }) => {
      expect(written(name)).toEqual([{ kind: "untold" }]);
      await clock.advance(60_000);
      expect([asked, clock.pending]).toEqual([[], 0]);
    },
  );

  it("is read anew after each quiet time, with what is there then", async () => {
    const first = written("set_power_limit");
    await clock.advance(50);
    await answer(limits);
    const second = written("set_power_limit");
    await clock.advance(50);
    await answer({ get_power_limit: { power_limit_mw: 1 }, get_enforced_power_limit: { power_limit_mw: 1 } });
    expect(first).toEqual([limitsDone]);
    expect(second).toMatchObject([{ set: { power_limit: { power_limit_mw: 1 } } }]);
  });
});

describe("a burst of writes", () => {
  it("of one setting is read back once, 50 ms after its last one; the others are superseded as soon as the next has come", async () => {
    const heard: (readonly ReadBack[])[] = [];
    for (let count = 0; count < 20; count += 1) {
      heard.push(written("set_power_limit"));
      expect(heard.slice(0, -1)).toEqual(Array.from({ length: count }, () => [{ kind: "superseded" }]));
      await clock.advance(49);
    }
    expect(asked).toEqual([]);
    await clock.advance(1);
    expect(asked).toEqual(limitReads(19 * 49 + 50));
    await answer(limits);
    expect(heard.at(-1)).toEqual([limitsDone]);
  });

  it("of two settings is read back once for both, 50 ms after its last one, and supersedes nothing", async () => {
    const limit = written("set_power_limit");
    await clock.advance(30);
    const mode = written("set_persistence_mode");
    await clock.advance(49);
    expect(asked).toEqual([]);
    await clock.advance(1);
    expect(asked.toSorted()).toEqual([...limitReads(80), "get_persistence_mode at 80"].toSorted());
    expect([limit, mode]).toEqual([[], []]);
    await answer({ ...limits, get_persistence_mode: { enabled: true } });
    expect(limit).toMatchObject([limitsDone]);
    expect(mode).toMatchObject([{ kind: "done", set: { persistence_mode: { enabled: true } } }]);
  });

  it("of two settings tells each write of its own setting alone", async () => {
    const limit = written("set_power_limit");
    const mode = written("set_persistence_mode");
    await clock.advance(50);
    await answer({ ...limits, get_persistence_mode: { enabled: true } });
    expect(limit).toEqual([limitsDone]);
    expect(mode).toEqual([{ kind: "done", set: { persistence_mode: { enabled: true } }, enforced: {} }]);
  });

  it("of two settings, of which one cannot be read, fails the write of that one alone", async () => {
    const limit = written("set_power_limit");
    const mode = written("set_persistence_mode");
    await clock.advance(50);
    await answer({ ...limits, get_persistence_mode: new Error("NVML error: not supported") });
    expect(mode).toEqual([{ kind: "failed", reason: "NVML error: not supported" }]);
    expect(limit).toEqual([limitsDone]);
  });

  it("is not made longer by writes that the driver does not tell of", async () => {
    written("set_power_limit");
    await clock.advance(40);
    expect(written("set_gpu_locked_clocks")).toEqual([{ kind: "untold" }]);
    await clock.advance(10);
    expect(asked).toEqual(limitReads(50));
  });
});

describe("a lane that is busy", () => {
  it("is not held up: the reading waits until it rests", async () => {
    idle = false;
    const heard = written("set_power_limit");
    await clock.advance(300);
    expect(asked).toEqual([]);
    idle = true;
    await clock.advance(50);
    expect(asked).toHaveLength(2);
    await answer(limits);
    expect(heard).toEqual([limitsDone]);
  });

  it("for ever is read after 1 s", async () => {
    idle = false;
    const heard = written("set_power_limit");
    await clock.advance(999);
    expect(asked).toEqual([]);
    await clock.advance(1);
    expect(asked).toEqual(limitReads(1_000));
    await answer(limits);
    expect(heard).toEqual([limitsDone]);
  });

  it("with writes of another setting that never end does not keep the first from being read after 1 s, or a quiet time later", async () => {
    const mode = written("set_persistence_mode");
    for (let count = 0; count < 60 && asked.length === 0; count += 1) {
      await clock.advance(20);
      written("set_power_limit");
    }
    expect(clock.monotonicMs()).toBeGreaterThanOrEqual(1_000);
    expect(clock.monotonicMs()).toBeLessThanOrEqual(1_060);
    await answer({ ...limits, get_persistence_mode: { enabled: true } });
    expect(mode).toMatchObject([{ kind: "done", set: { persistence_mode: { enabled: true } } }]);
  });
});

describe("a getter that fails", () => {
  it("is told with its reason", async () => {
    const heard = written("set_power_limit");
    await clock.advance(50);
    await answer({ ...limits, get_power_limit: new Error("NVML error: sick") });
    expect(heard).toEqual([{ kind: "failed", reason: "NVML error: sick" }]);
  });

  it("of what is in force is left out, since not every GPU has it", async () => {
    const heard = written("set_power_limit");
    await clock.advance(50);
    await answer({ ...limits, get_enforced_power_limit: new Error("NVML error: not supported") });
    expect(heard).toEqual([{ ...limitsDone, enforced: {} }]);
  });

  it("does not keep later writes from being read back", async () => {
    written("set_power_limit");
    await clock.advance(50);
    await answer({ ...limits, get_power_limit: new Error("NVML error: sick") });
    const heard = written("set_power_limit");
    await clock.advance(50);
    await answer(limits);
    expect(heard).toEqual([limitsDone]);
  });
});

describe("a write during the reading", () => {
  it("of the same setting supersedes, whatever is read, and is read back itself 50 ms after", async () => {
    const first = written("set_power_limit");
    await clock.advance(50);
    const second = written("set_power_limit");
    expect(first).toEqual([{ kind: "superseded" }]);
    await clock.advance(500);
    expect(asked).toEqual(limitReads(50));
    await answer({ get_power_limit: { power_limit_mw: 1 }, get_enforced_power_limit: { power_limit_mw: 1 } });
    expect([first.length, second]).toEqual([1, []]);
    await clock.advance(50);
    expect(asked.slice(2)).toEqual(limitReads(600));
    await answer(limits);
    expect(second).toEqual([limitsDone]);
  });

  it("of another setting leaves it as it is, and is read back by a reading of its own", async () => {
    const limit = written("set_power_limit");
    await clock.advance(50);
    const mode = written("set_persistence_mode");
    await answer(limits);
    expect([limit, mode]).toEqual([[limitsDone], []]);
    await clock.advance(50);
    expect(asked.slice(2)).toEqual(["get_persistence_mode at 100"]);
    await answer({ get_persistence_mode: { enabled: false } });
    expect(mode).toEqual([{ kind: "done", set: { persistence_mode: { enabled: false } }, enforced: {} }]);
  });
});

describe("stopping", () => {
  it("fails at once what waits to be read, with the reason, and nothing is read any more", async () => {
    const [limit, mode] = [written("set_power_limit"), written("set_persistence_mode")];
    readBacks.stop("enough");
    expect(limit).toEqual([{ kind: "failed", reason: "enough" }]);
    expect(mode).toEqual(limit);
    await clock.advance(60_000);
    expect([asked, clock.pending]).toEqual([[], 0]);
  });

  it("fails what is being read, and what comes of that is told to nobody", async () => {
    const heard = written("set_power_limit");
    await clock.advance(50);
    readBacks.stop("enough");
    await answer(limits);
    expect(heard).toEqual([{ kind: "failed", reason: "enough" }]);
  });

  it("where nothing waits asks for nothing, and leaves no timer behind", async () => {
    readBacks.stop("enough");
    expect(clock.pending).toBe(0);
    await clock.advance(60_000);
    expect(asked).toEqual([]);
  });
});

/** What happens, in any order: a write is done, all readings have their turn, the lane rests or not, time passes. */
type Step =
  | { readonly does: "write"; readonly row: Row }
  /** With a write right after: a lane starts its next call before it tells of the last one. */
  | { readonly does: "turn"; readonly fails: boolean; readonly next: Row | undefined }
  | { readonly does: "rest"; readonly idle: boolean }
  | { readonly does: "wait"; readonly ms: number }
  | { readonly does: "stop" };

const anyWrite = fc.constantFrom(...writes);
const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ does: fc.constant("write" as const), row: anyWrite }) },
    {
      weight: 4,
      arbitrary: fc.record({
        does: fc.constant("turn" as const),
        fails: fc.boolean(),
        next: fc.oneof(fc.constant(undefined), anyWrite),
      }),
    },
    { weight: 1, arbitrary: fc.record({ does: fc.constant("rest" as const), idle: fc.boolean() }) },
    {
      weight: 6,
      arbitrary: fc.record({ does: fc.constant("wait" as const), ms: fc.constantFrom(0, 1, 49, 50, 51, 400, 1_000) }),
    },
    { weight: 1, arbitrary: fc.constant({ does: "stop" as const }) },
  ),
  { maxLength: 60 },
);

/** A device whose settings hold the number of the write that set them last. */
class Modelled {
  readonly #state = new Map<Setting, number>();
  readonly heard: ReadBack[][] = [];
  readonly rows: Row[] = [];

  write(row: Row): void {
    const number = this.rows.push(row) - 1;
    const heard: ReadBack[] = [];
    this.heard.push(heard);
    for (const setting of row.settings ?? []) this.#state.set(setting, number);
    readBacks.after(row, (readBack) => heard.push(readBack));
  }

  /** They stand in the lane one after the other, so that no write comes between them. */
  turn(fails: boolean): void {
    for (const { row, answer: give, fail } of readings.splice(0)) {
      const number = row.tells && this.#state.get(row.tells.setting);
      if (fails) fail(new Error("NVML error: sick"));
      else give({ number: number ?? null });
    }
  }

  /** What a write was told that it must not have been. */
  wrong(): readonly string[] {
    return this.heard.flatMap((heard, number) => {
      const { name, settings = [] } = this.rows[number] ?? operationOf("gpu/get_power");
      if (heard.length !== 1) return [`write ${number}, ${name}, was told ${heard.length} times`];
      const [readBack] = heard;
      if (readBack?.kind !== "done") return [];
      const values = [readBack.set, readBack.enforced].flatMap((known) => Object.entries(known));
      const foreign = values.filter(([, value]) => value["number"] !== number);
      return [
        ...foreign.map(([setting, value]) => `write ${number}, ${name}, was told ${setting} of ${value["number"]}`),
        ...settings
          .filter((setting) => !(setting in readBack.set))
          .map((setting) => `${number}: ${setting} is missing`),
      ];
    });
  }
}

it("tells each write exactly once, and never of a value that a later one has set, whatever comes in which order", async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (all) => {
      setUp();
      const device = new Modelled();
      for (const step of all) {
        if (step.does === "write") device.write(step.row);
        else if (step.does === "wait") await clock.advance(step.ms);
        else if (step.does === "rest") idle = step.idle;
        else if (step.does === "stop") readBacks.stop("enough");
        else {
          device.turn(step.fails);
          if (step.next) device.write(step.next);
          await clock.advance(0);
        }
      }
      // Nothing new comes: then everything is told within a reading or two.
      idle = true;
      for (let count = 0; count < 3; count += 1) {
        await clock.advance(1_050);
        device.turn(false);
      }
      await clock.advance(0);
      expect(device.wrong()).toEqual([]);
      expect([readings.length, clock.pending]).toEqual([0, 0]);
    }),
    { numRuns: 300 },
  );
}, 60_000);
