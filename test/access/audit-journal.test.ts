// The audit in the journal: a journal that is slow gets all lines in order, and one that is gone is told of.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createJournalSink } from "../../src/access/audit-journal.ts";
import { createFakeClock } from "../fake-clock.ts";

const busy = Object.assign(new Error("Resource temporarily unavailable"), { code: "EAGAIN", errno: 11 });
const gone = Object.assign(new Error("Connection refused"), { code: "ECONNREFUSED", errno: 111 });

function createSubject() {
  const clock = createFakeClock();
  const sent: Readonly<Record<string, string>>[] = [];
  /** How many more entries the journal takes, and what it says to the next one. */
  const journal = { room: Infinity, says: busy as Error };
  const sink = createJournalSink(
    {
      send(fields) {
        if (journal.room <= 0) throw journal.says;
        journal.room -= 1;
        sent.push(fields);
      },
    },
    clock,
  );
  return { clock, sent, journal, sink, messages: () => sent.map((fields) => fields["MESSAGE"]) };
}

it("a line is an entry of its own, with the audit's name and its priority", () => {
  const { sink, sent, clock } = createSubject();
  sink.append(['{"a":1}']);
  expect(sent).toEqual([{ SYSLOG_IDENTIFIER: "zeusd-audit", PRIORITY: "6", MESSAGE: '{"a":1}' }]);
  expect(clock.pending).toBe(0);
});

describe("while the journal does not take more", () => {
  it("lines wait for it, and come in order as soon as it does", async () => {
    const { sink, messages, clock, journal } = createSubject();
    journal.room = 2;
    for (const line of ["1", "2", "3", "4", "5"]) sink.append([line]);
    expect(messages()).toEqual(["1", "2"]);
    await clock.advance(1000);
    expect(messages()).toEqual(["1", "2"]);
    journal.room = 1;
    await clock.advance(20);
    expect(messages()).toEqual(["1", "2", "3"]);
    journal.room = Infinity;
    // It does not get past those that wait.
    sink.append(["6"]);
    expect(messages()).toEqual(["1", "2", "3"]);
    await clock.advance(20);
    expect(messages()).toEqual(["1", "2", "3", "4", "5", "6"]);
    expect(clock.pending).toBe(0);
    sink.append(["7"]);
    expect(messages().at(-1)).toBe("7");
  });

  it("any lines at any times come all, in order, and once", async () => {
    const step = fc.oneof(
      fc.record({ append: fc.integer({ min: 1, max: 5 }) }),
      fc.record({ room: fc.nat(6) }),
      fc.record({ ms: fc.nat(50) }),
    );
    const holds = fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const { sink, messages, clock, journal } = createSubject();
      let next = 0;
      for (const each of steps) {
        if ("room" in each) journal.room = each.room;
        else if ("ms" in each) await clock.advance(each.ms);
        else sink.append(Array.from({ length: each.append }, () => `${(next += 1)}`));
      }
      journal.room = Infinity;
      await clock.advance(100);
      expect(messages()).toEqual(Array.from({ length: next }, (_, index) => `${index + 1}`));
      expect(clock.pending).toBe(0);
    });
    await fc.assert(holds, { numRuns: 300 });
  });

  it("it is asked now and then, and not by each line", async () => {
    const { sink, clock, journal } = createSubject();
    journal.room = 0;
    for (let line = 0; line < 1000; line += 1) sink.append([`${line}`]);
    expect(clock.pending).toBe(1);
    await clock.advance(100);
    expect(clock.pending).toBe(1);
  });

  it("no more than some thousands wait, and what comes then is refused until there is room", async () => {
    const { sink, messages, clock, journal } = createSubject();
    journal.room = 0;
    let waiting = 0;
    const append = (): void => {
      sink.append([`${waiting}`]);
      waiting += 1;
    };
    expect(() => {
      for (let line = 0; line < 100_000; line += 1) append();
    }).toThrow("the journal does not take what it is sent");
    expect(waiting).toBe(4096);
    expect(append).toThrow("the journal does not take what it is sent");
    journal.room = 1;
    await clock.advance(20);
    append();
    expect(append).toThrow("the journal does not take what it is sent");
    journal.room = Infinity;
    await clock.advance(20);
    expect(messages()).toEqual(Array.from({ length: 4097 }, (_, index) => `${index}`));
  });
});

it("of several lines at once each is an entry, and those that it does not take wait", async () => {
  const { sink, messages, clock, journal } = createSubject();
  journal.room = 2;
  sink.append(["1", "2", "3", "4"]);
  expect(messages()).toEqual(["1", "2"]);
  journal.room = Infinity;
  await clock.advance(20);
  expect(messages()).toEqual(["1", "2", "3", "4"]);
  expect(clock.pending).toBe(0);
});

describe("a journal that is gone", () => {
  it("is told to whoever writes the line, which does not wait for it", async () => {
    const { sink, messages, clock, journal } = createSubject();
    Object.assign(journal, { room: 0, says: gone });
    expect(() => sink.append(["1"])).toThrow(gone);
    expect(clock.pending).toBe(0);
    journal.room = Infinity;
    sink.append(["2"]);
    await clock.advance(1000);
    expect(messages()).toEqual(["2"]);
  });

  it("while lines wait for it is told to whoever writes next, and they go on waiting", async () => {
    const { sink, messages, clock, journal } = createSubject();
    journal.room = 0;
    sink.append(["1"]);
    journal.says = gone;
    await clock.advance(20);
    expect(() => sink.append(["2"])).toThrow(gone);
    journal.room = Infinity;
    await clock.advance(1000);
    expect(messages()[0]).toBe("1");
    sink.append(["3"]);
    expect(messages().at(-1)).toBe("3");
  });
});

it("has nothing to open anew", () => {
  const { sink, messages } = createSubject();
  sink.reopen();
  sink.append(["1"]);
  expect(messages()).toEqual(["1"]);
});
