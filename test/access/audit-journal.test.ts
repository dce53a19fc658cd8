// The audit in the journal: a journal that is slow gets all lines in order, and one that is gone is told of.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { JournalSink } from "../../src/access/audit-journal.ts";
import { createFakeClock } from "../fake-clock.ts";

const busy = Object.assign(new Error("Resource temporarily unavailable"), { code: "EAGAIN", errno: 11 });
const gone = Object.assign(new Error("Connection refused"), { code: "ECONNREFUSED", errno: 111 });

function createSubject() {
  const clock = createFakeClock();
  const sent: Readonly<Record<string, string>>[] = [];
  /** How many more entries the journal takes, and what it says to the next one. */
  const journal = { room: Infinity, says: busy as Error, tries: 0, closed: 0 };
  const sink = new JournalSink(
    {
      send(fields) {
        if (journal.closed > 0) throw new Error("it was closed before");
        journal.tries += 1;
        if (journal.room <= 0) throw journal.says;
        journal.room -= 1;
        sent.push(fields);
      },
      close: () => void (journal.closed += 1),
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
    // It does not get past those that wait, which do not wait any longer.
    sink.append(["6"]);
    expect(messages()).toEqual(["1", "2", "3", "4", "5", "6"]);
    await clock.advance(20);
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

  it("it can be told how many wait", async () => {
    const { sink, clock, journal } = createSubject();
    expect(sink.held).toBe(0);
    journal.room = 1;
    sink.append(["1", "2", "3"]);
    expect(sink.held).toBe(2);
    journal.room = Infinity;
    await clock.advance(20);
    expect(sink.held).toBe(0);
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

  it("in the middle of several lines keeps those that it has not taken: they were accepted together", async () => {
    const { sink, messages, clock, journal } = createSubject();
    Object.assign(journal, { room: 1, says: gone });
    sink.append(["1", "2", "3"]);
    expect(messages()).toEqual(["1"]);
    expect(() => sink.append(["4"])).toThrow(gone);
    journal.room = Infinity;
    await clock.advance(20);
    expect(messages()).toEqual(["1", "2", "3"]);
    expect(clock.pending).toBe(0);
  });

  it("while lines wait is told to whoever writes next, whose line does not wait; back, it takes all that do and new ones at once", async () => {
    const { sink, messages, clock, journal } = createSubject();
    journal.room = 0;
    sink.append(["1", "2"]);
    sink.append(["3"]);
    journal.says = gone;
    for (let tick = 0; tick < 10; tick += 1) {
      await clock.advance(20);
      expect(() => sink.append([`lost ${tick}`])).toThrow(gone);
    }
    expect(messages()).toEqual([]);
    journal.room = Infinity;
    sink.append(["4"]);
    expect(messages()).toEqual(["1", "2", "3", "4"]);
    await clock.advance(20);
    expect([messages().length, clock.pending]).toEqual([4, 0]);
  });

  it("that comes back without a line of anybody gets those that wait", async () => {
    const { sink, messages, clock, journal } = createSubject();
    journal.room = 0;
    sink.append(["1"]);
    journal.says = gone;
    await clock.advance(1000);
    journal.room = Infinity;
    await clock.advance(20);
    expect(messages()).toEqual(["1"]);
    sink.append(["2"]);
    expect([messages(), clock.pending]).toEqual([["1", "2"], 0]);
  });

  it("and then is full makes nobody lose a line", async () => {
    const { sink, messages, clock, journal } = createSubject();
    journal.room = 0;
    sink.append(["1"]);
    journal.says = gone;
    await clock.advance(100);
    journal.says = busy;
    sink.append(["2"]);
    await clock.advance(100);
    journal.room = Infinity;
    await clock.advance(20);
    expect(messages()).toEqual(["1", "2"]);
  });

  it("any lines that are accepted come all, in order, and once, whatever it does meanwhile", async () => {
    const step = fc.oneof(
      fc.record({ append: fc.integer({ min: 1, max: 5 }) }),
      fc.record({ room: fc.nat(6), says: fc.constantFrom(busy, gone) }),
      fc.record({ ms: fc.nat(50) }),
    );
    const holds = fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
      const { sink, messages, clock, journal } = createSubject();
      const accepted: string[] = [];
      let next = 0;
      for (const each of steps) {
        if ("room" in each) Object.assign(journal, each);
        else if ("ms" in each) await clock.advance(each.ms);
        else {
          const lines = Array.from({ length: each.append }, () => `${(next += 1)}`);
          const mayThrow = journal.says === gone && (journal.room <= 0 || messages().length < accepted.length);
          try {
            sink.append(lines);
            accepted.push(...lines);
          } catch (error) {
            expect([error, mayThrow]).toEqual([gone, true]);
          }
        }
      }
      journal.room = Infinity;
      await clock.advance(100);
      expect(messages()).toEqual(accepted);
      expect(clock.pending).toBe(0);
    });
    await fc.assert(holds, { numRuns: 300 });
  });
});

describe("closing", () => {
  it("waits a moment for a journal that is full, and then closes it", () => {
    const { sink, journal, messages } = createSubject();
    journal.room = 0;
    sink.append(["1", "2"]);
    const { tries } = journal;
    const began = performance.now();
    sink.close();
    expect(journal.tries - tries).toBe(40);
    expect(performance.now() - began).toBeGreaterThan(150);
    expect([journal.closed, messages()]).toEqual([1, []]);
  });

  it("ends as soon as it has taken what waits", () => {
    const { sink, journal, messages } = createSubject();
    journal.room = 0;
    sink.append(["1", "2"]);
    let asked = 0;
    Object.defineProperty(journal, "room", { get: () => ((asked += 1) > 5 ? 1 : 0), set: () => {} });
    sink.close();
    expect([messages(), journal.closed]).toEqual([["1", "2"], 1]);
  });

  it("does not wait for a journal that is gone, nor where nothing waits", () => {
    const lost = createSubject();
    lost.journal.room = 0;
    lost.sink.append(["1"]);
    lost.journal.says = gone;
    const { tries } = lost.journal;
    lost.sink.close();
    expect([lost.journal.tries - tries, lost.journal.closed]).toEqual([1, 1]);
    const idle = createSubject();
    idle.sink.close();
    expect([idle.journal.tries, idle.journal.closed]).toEqual([0, 1]);
  });
});

it("has nothing to open anew", () => {
  const { sink, messages } = createSubject();
  sink.reopen();
  sink.append(["1"]);
  expect(messages()).toEqual(["1"]);
});

it("a journal that is full again and again is tried again once at a time", () => {
  const { sink, clock, journal } = createSubject();
  for (let time = 0; time < 10; time += 1) {
    journal.room = 0;
    sink.append(["a"]);
    journal.room = 10;
    sink.append(["b"]);
  }
  journal.room = 0;
  sink.append(["c"]);
  expect(clock.pending).toBe(1);
});
