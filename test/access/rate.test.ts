// Rates: how much of a share is left, and that those who have gone take no room.
import { describe, expect, it } from "vitest";
import { RateLimiter } from "../../src/access/rate.ts";
import { createFakeClock } from "../fake-clock.ts";

function createSubject() {
  const clock = createFakeClock();
  const limiter = new RateLimiter(clock);
  const rate = { writesPerSecond: 2, burst: 4 };
  return {
    clock,
    limiter,
    wait: (key: string, count = 1): number => limiter.waitMs(key, count, rate),
    take: (key: string, count = 1): void => limiter.take(key, count, rate),
  };
}

describe("a share", () => {
  it("is whole for whoever comes first, and to ask for it takes nothing", () => {
    const { wait } = createSubject();
    for (let time = 0; time < 10; time += 1) expect(wait("a", 4)).toBe(0);
  });

  it("comes back at its rate, until it is whole", () => {
    const { wait, take, clock } = createSubject();
    take("a", 4);
    expect([1, 2, 4].map((count) => wait("a", count))).toEqual([500, 1000, 2000]);
    clock.skip(499);
    expect(wait("a")).toBeCloseTo(1, 9);
    clock.skip(1);
    expect([1, 2].map((count) => wait("a", count))).toEqual([0, 500]);
    clock.skip(1500);
    expect(wait("a", 4)).toBe(0);
    clock.skip(1e9);
    take("a", 4);
    expect(wait("a", 1)).toBe(500);
  });

  it("can be taken beyond what is left, and has to come back longer then", () => {
    const { wait, take } = createSubject();
    take("a", 4);
    take("a", 2);
    expect(wait("a")).toBe(1500);
  });

  it("of which more is wanted than there can ever be never comes", () => {
    const { wait, take, clock } = createSubject();
    expect(wait("a", 5)).toBe(Infinity);
    take("a", 4);
    clock.skip(1e9);
    expect(wait("a", 5)).toBe(Infinity);
  });

  it("is each key's own, whatever the key is", () => {
    const { wait, take } = createSubject();
    for (const key of ["a", "", "__proto__", "constructor"]) {
      expect(wait(key)).toBe(0);
      take(key, 4);
      expect(wait(key)).toBe(500);
    }
  });

  it("of a slow or a quick rate is not lost in fractions, however long the daemon has run", () => {
    const { limiter, clock } = createSubject();
    clock.skip(1e10 + 0.1);
    for (const writesPerSecond of [3, 7, 0.3, 999.9, 33_333]) {
      const rate = { writesPerSecond, burst: 1 };
      for (let write = 0; write < 1000; write += 1) {
        expect(limiter.waitMs(`${writesPerSecond}`, 1, rate)).toBe(0);
        limiter.take(`${writesPerSecond}`, 1, rate);
        clock.skip(1000 / writesPerSecond);
      }
    }
  });
});

describe("of very many actors", () => {
  it("none that has used up something is forgotten, and all that have their whole share again are taken for new", () => {
    const { wait, take, clock } = createSubject();
    const key = (n: number): string => `actor ${n}`;
    for (let n = 0; n < 5000; n += 1) take(key(n), n % 2 === 0 ? 1 : 4);
    for (let n = 0; n < 5000; n += 1) expect(wait(key(n), 4)).toBe(n % 2 === 0 ? 500 : 2000);
    clock.skip(500);
    for (let n = 5000; n < 10_000; n += 1) take(key(n));
    for (let n = 0; n < 5000; n += 1) expect(wait(key(n), 4)).toBe(n % 2 === 0 ? 0 : 1500);
    for (let n = 5000; n < 10_000; n += 1) expect(wait(key(n), 4)).toBe(500);
  });

  it("those that have their whole share again take no room", () => {
    const { take, clock } = createSubject();
    const name = "x".repeat(1000);
    const before = process.memoryUsage().heapUsed;
    for (let n = 0; n < 400_000; n += 1) {
      // By way of bytes, since what is put together from two texts shares them.
      take(Buffer.from(`${name}${n}`).toString("latin1"));
      clock.skip(1);
    }
    // They would be 400 MB; what is not yet collected is far less.
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(200_000_000);
  });

  it("none holds up the others, even if none of them can be forgotten", () => {
    const { take } = createSubject();
    const began = performance.now();
    // To look at all of them at each write would be 5 000 000 000 steps.
    for (let n = 0; n < 100_000; n += 1) take(`actor ${n}`);
    expect(performance.now() - began).toBeLessThan(3_000);
  });
});
