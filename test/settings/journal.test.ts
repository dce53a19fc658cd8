// The journal: what must be in it before anything is done, what may follow, and what happens while it cannot be written.
import { describe, expect, it } from "vitest";
import { Health } from "../../src/contract/health.ts";
import { Journal } from "../../src/settings/journal.ts";
import type { JournalRecord } from "../../src/settings/records.ts";
import { createFakeClock } from "../fake-clock.ts";
import { createQuietLog } from "../quiet-log.ts";
import { createMemoryJournal } from "./memory-journal.ts";

function createSubject({ isKept = true, now = [] as readonly JournalRecord[] } = {}) {
  const clock = createFakeClock();
  const log = createQuietLog();
  const health = new Health();
  const file = createMemoryJournal();
  const live = { now };
  const journal = new Journal({ ...(isKept && { file }), clock, log, health });
  journal.startWith(() => live.now);
  return { clock, log, health, file, live, journal, problems: () => [...health.problems.keys()] };
}

function ended(lease: number): JournalRecord {
  return { record: "ended", lease };
}

/** About as many bytes of records. */
function fill(journal: Journal, bytes: number): void {
  const each = JSON.stringify(ended(100_000)).length;
  for (let at = 0; at * each < bytes; at += 1) journal.append(ended(100_000));
}

describe("the journal", () => {
  it("begins with what is left of what was there", () => {
    const { file, journal } = createSubject({ now: [ended(3)] });
    expect(file.records).toEqual([ended(3)]);
    expect(file.rewrites).toBe(1);
    expect([journal.isKept, journal.isWell]).toEqual([true, true]);
  });

  it("has a record when it is told of it", () => {
    const { file, journal, log } = createSubject();
    journal.append(ended(1));
    journal.note(ended(2));
    expect(file.records).toEqual([ended(1), ended(2)]);
    expect(log.lines).toEqual([]);
  });

  it("that is not kept takes everything and has nothing", () => {
    const { file, journal, clock, problems } = createSubject({ isKept: false });
    file.fails = true;
    journal.append(ended(1));
    journal.note(ended(2));
    journal.tidy();
    journal.close();
    expect(file.records).toEqual([]);
    expect([journal.isKept, clock.pending, problems()]).toEqual([false, 0, []]);
  });
});

describe("while it cannot be written", () => {
  it("what has to be in it is refused, with the reason as the cause", () => {
    const { file, journal, problems } = createSubject();
    file.fails = true;
    let thrown: unknown;
    try {
      journal.append(ended(1));
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({
      code: "journal_unavailable",
      status: 503,
      cause: { message: "no space left on device" },
    });
    expect(journal.isWell).toBe(false);
    expect(problems()).toEqual(["journal"]);
    expect(file.records).toEqual([]);
  });

  it("what is noted is not refused, and the log says once that it cannot be written", () => {
    const { file, journal, log, problems } = createSubject();
    file.fails = true;
    for (const lease of [1, 2, 3]) journal.note(ended(lease));
    expect(log.lines).toEqual(["error The journal of leases cannot be written: no space left on device"]);
    expect(problems()).toEqual(["journal"]);
  });

  it("it is tried again each second, and what is missing is there as soon as that works", async () => {
    const { file, journal, live, clock, problems, log } = createSubject();
    file.fails = true;
    journal.note(ended(1));
    journal.note(ended(2));
    expect(clock.pending).toBe(1);
    await clock.advance(3_500);
    expect(problems()).toEqual(["journal"]);
    expect(log.lines).toHaveLength(1);
    live.now = [ended(2)];
    file.fails = false;
    await clock.advance(499);
    expect(file.records).toEqual([]);
    await clock.advance(1);
    expect(file.records).toEqual([ended(2)]);
    expect([journal.isWell, problems(), clock.pending]).toEqual([true, [], 0]);
  });

  it("the next record that can be written says that it is well, and what is missing follows all the same", async () => {
    const { file, journal, live, clock, problems } = createSubject();
    file.fails = true;
    journal.note(ended(1));
    file.fails = false;
    journal.append(ended(2));
    expect([journal.isWell, problems()]).toEqual([true, []]);
    expect(file.records).toEqual([ended(2)]);
    live.now = [ended(1), ended(2)];
    await clock.advance(1_000);
    expect(file.records).toEqual([ended(1), ended(2)]);
  });

  it("it is well again as soon as it can be written, even if nothing more is", async () => {
    const { file, journal, clock, problems } = createSubject();
    file.fails = true;
    expect(() => journal.append(ended(1))).toThrow("cannot be written");
    file.fails = false;
    await clock.advance(1_000);
    expect([journal.isWell, problems(), clock.pending]).toEqual([true, [], 0]);
  });

  it("the log says it again when it could be written in between", () => {
    const { file, journal, log } = createSubject();
    for (const fails of [true, false, true]) {
      file.fails = fails;
      journal.note(ended(1));
    }
    expect(log.lines).toHaveLength(2);
  });

  it("the daemon begins all the same", () => {
    const clock = createFakeClock();
    const file = createMemoryJournal([ended(1)]);
    const health = new Health();
    file.fails = true;
    const journal = new Journal({ file, clock, log: createQuietLog(), health });
    journal.startWith(() => []);
    expect(journal.isWell).toBe(false);
    expect(health.problems.size).toBe(1);
    expect(file.records).toEqual([ended(1)]);
  });
});

describe("a journal that somebody has moved away", () => {
  it("is written anew where the next daemon looks for it, and the log says so", () => {
    const { file, journal, live, log } = createSubject();
    journal.append(ended(1));
    journal.look();
    expect([file.rewrites, log.lines]).toEqual([1, []]);
    file.isGone = true;
    live.now = [ended(2)];
    journal.look();
    expect(file.records).toEqual([ended(2)]);
    expect(log.lines).toEqual([expect.stringMatching(/^error .*moved or removed/)]);
    journal.look();
    expect(file.rewrites).toBe(2);
  });

  it("is not looked for where there is none", () => {
    const { file, journal, log } = createSubject({ isKept: false });
    file.isGone = true;
    journal.look();
    expect(log.lines).toEqual([]);
  });
});

describe("a journal that has grown", () => {
  it("is written anew a second after it has passed 64 KiB, once", async () => {
    const { file, journal, clock, live } = createSubject();
    fill(journal, 64 * 1024 - 100);
    expect(clock.pending).toBe(0);
    fill(journal, 1_000);
    expect(clock.pending).toBe(1);
    live.now = [ended(7)];
    await clock.advance(999);
    expect(file.rewrites).toBe(1);
    await clock.advance(1);
    expect(file.rewrites).toBe(2);
    expect(file.records).toEqual([ended(7)]);
    await clock.advance(60_000);
    expect(file.rewrites).toBe(2);
  });

  it("is left alone until it is four times what it has to be", async () => {
    const many = Array.from({ length: 2_000 }, () => ended(100_000));
    const { file, journal, clock } = createSubject({ now: many });
    const least = file.bytes;
    expect(4 * least).toBeGreaterThan(64 * 1024);
    fill(journal, 3 * least - 100);
    expect(clock.pending).toBe(0);
    fill(journal, 1_000);
    await clock.advance(1_000);
    expect(file.rewrites).toBe(2);
    expect(file.bytes).toBe(least);
    fill(journal, 3 * least - 100);
    expect(clock.pending).toBe(0);
  });

  it("that is closed is not written any more, whatever was to be", async () => {
    const { file, journal, clock } = createSubject();
    file.fails = true;
    journal.note(ended(1));
    file.fails = false;
    journal.close();
    expect(file.isClosed).toBe(true);
    await clock.advance(5_000);
    expect(file.rewrites).toBe(1);
  });
});
