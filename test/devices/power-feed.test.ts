// Power feeds: they read while someone listens, and only then; and a reading that does not return keeps nobody waiting.
import { beforeEach, describe, expect, it } from "vitest";
import type { Caller, Sample } from "../../src/contract/command.ts";
import { PowerFeed, type Sampler } from "../../src/devices/power-feed.ts";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";
import { createQuietLog } from "../quiet-log.ts";

const timeoutMs = 4_000;

let clock: FakeClock;
let log: ReturnType<typeof createQuietLog>;
let reads: number;
let power_mw: number;
let broken: Error | undefined;

const read = async (): Promise<{ power_mw: number }> => {
  reads += 1;
  if (broken) throw broken;
  return { power_mw };
};

function createFeed(sampler: Sampler = { sample: read }): PowerFeed {
  return new PowerFeed({ name: "GPU 0", sampler, periodMs: 50, timeoutMs, clock, log });
}

function listen(feed: PowerFeed): { readonly samples: Sample[]; readonly end: () => void } {
  const samples: Sample[] = [];
  return { samples, end: feed.subscribe((sample) => samples.push(sample)) };
}

/** Whoever asks now, and stays. */
function caller(): Caller {
  return { arrivedMs: clock.monotonicMs(), gone: () => false };
}

/** Makes every reading wait until the test lets it end. */
function hold(): { readonly sampler: Sampler; readonly end: () => void; readonly fail: (error: Error) => void } {
  let end = (): void => {};
  let fail = (_error: Error): void => {};
  const held = new Promise<{ power_mw: number }>((resolve, reject) => {
    end = () => resolve({ power_mw });
    fail = reject;
  });
  const sample = (): Promise<{ power_mw: number }> => {
    reads += 1;
    return reads === 1 ? held : Promise.resolve({ power_mw });
  };
  return { sampler: { sample }, end: () => end(), fail: (error) => fail(error) };
}

beforeEach(() => {
  clock = createFakeClock();
  log = createQuietLog();
  reads = 0;
  power_mw = 50_000;
  broken = undefined;
});

describe("a power feed", () => {
  it("does not read while nobody listens", async () => {
    const feed = createFeed();
    await clock.advance(1_000);
    expect([reads, feed.active]).toEqual([0, false]);
    const { end } = listen(feed);
    await clock.advance(100);
    expect([reads, feed.active]).toEqual([3, true]);
    end();
    await clock.advance(1_000);
    expect([reads, feed.active, clock.pending]).toEqual([3, false, 0]);
  });

  it("gives whoever comes late a fresh reading at once, with its own time, though nothing has changed (13.2 #4)", async () => {
    const feed = createFeed();
    const first = listen(feed);
    await clock.advance(1_020);
    expect(first.samples).toHaveLength(1);
    const late = listen(feed);
    await clock.advance(0);
    expect(late.samples).toEqual([{ timestamp_ms: clock.epochMs(), values: { power_mw } }]);
    expect(first.samples).toHaveLength(1);
  });

  it("gives a fresh reading after a pause, however old the last one is (13.2 #4)", async () => {
    const feed = createFeed();
    const before = listen(feed);
    await clock.advance(0);
    before.end();
    await clock.advance(3_600_000);
    const after = listen(feed);
    await clock.advance(0);
    expect(after.samples.map(({ timestamp_ms }) => timestamp_ms)).toEqual([clock.epochMs()]);
  });

  it("reads once for however many listen", async () => {
    const feed = createFeed();
    const listeners = Array.from({ length: 10 }, () => listen(feed));
    await clock.advance(50);
    expect(reads).toBe(2);
    for (const { samples } of listeners) expect(samples).toHaveLength(1);
  });

  it("goes on after a failed reading, and tells the log of it once", async () => {
    const feed = createFeed();
    broken = new Error("lost");
    const { samples } = listen(feed);
    await clock.advance(500);
    broken = undefined;
    power_mw = 1;
    await clock.advance(50);
    expect(samples.map(({ values }) => values)).toEqual([{ power_mw: 1 }]);
    expect(log.lines).toEqual([
      "warn Reading the power of GPU 0 fails: lost",
      "info The power of GPU 0 can be read again",
    ]);
  });

  it("tells the log of a reading that fails now and then every 10 s at most", async () => {
    const feed = createFeed();
    const { end } = listen(feed);
    for (let count = 0; count < 400; count += 1) {
      broken = count % 2 === 0 ? new Error("lost") : undefined;
      await clock.advance(50);
    }
    expect(log.lines.filter((line) => line.startsWith("warn"))).toHaveLength(2);
    end();
  });

  it("answers whoever wants one reading with the next, or with its error", async () => {
    const feed = createFeed();
    const next = feed.next();
    await expect(next).resolves.toEqual({ power_mw });
    broken = new Error("lost");
    await expect(feed.next()).rejects.toThrow("lost");
    await clock.advance(1_000);
    expect([reads, feed.active]).toEqual([2, false]);
  });

  it("measures a mean over one period from a baseline, and tries a failed baseline again", async () => {
    const events: string[] = [];
    let baselines = 0;
    const feed = createFeed({
      async start() {
        events.push("baseline");
        baselines += 1;
        if (baselines === 1) throw new Error("not yet");
      },
      async sample() {
        events.push("sample");
        return { power_mw };
      },
    });
    const failed = feed.next();
    await expect(failed).rejects.toThrow("not yet");
    const { samples, end } = listen(feed);
    await clock.advance(49);
    expect(samples).toEqual([]);
    await clock.advance(1);
    expect(events).toEqual(["baseline", "baseline", "sample"]);
    expect(samples).toHaveLength(1);
    end();
  });
});

describe("a reading that does not return", () => {
  it("is answered with `deadline` to whoever has waited for it since the request came", async () => {
    const { sampler } = hold();
    const next = createFeed(sampler).next(caller());
    const told = expect(next).rejects.toMatchObject({
      code: "deadline",
      message: "The power of GPU 0 could not be read within 4 s",
    });
    await clock.advance(timeoutMs);
    await told;
  });

  it("is answered with `lane_stuck` to whoever came later, and to whoever comes while it lasts", async () => {
    const { sampler } = hold();
    const feed = createFeed(sampler);
    const { end } = listen(feed);
    await clock.advance(1_000);
    const waiting = expect(feed.next(caller())).rejects.toMatchObject({ code: "lane_stuck", status: 503 });
    await clock.advance(3_000);
    await waiting;
    await clock.advance(2_000);
    await expect(feed.next(caller())).rejects.toMatchObject({
      code: "lane_stuck",
      message: "Reading the power of GPU 0 has not returned for 6 s",
      retryAfterS: expect.any(Number),
    });
    end();
  });

  it("lets its streams stand still and then go on, and the log says both, with how long it was", async () => {
    const { sampler, end } = hold();
    const feed = createFeed(sampler);
    const stream = listen(feed);
    await clock.advance(60_000);
    const late = listen(feed);
    await clock.advance(0);
    expect([stream.samples, late.samples, reads]).toEqual([[], [], 1]);
    end();
    await clock.advance(0);
    expect([stream.samples.length, late.samples.length]).toEqual([1, 1]);
    power_mw = 61_000;
    await clock.advance(50);
    expect(stream.samples.map(({ values }) => values)).toEqual([{ power_mw: 50_000 }, { power_mw: 61_000 }]);
    expect(log.lines).toEqual([
      "error Reading the power of GPU 0 has not returned for 4 s; its streams stand still",
      "warn Reading the power of GPU 0 returned after 60.0 s",
    ]);
    await expect(feed.next(caller())).resolves.toEqual({ power_mw });
  });

  it("may fail in the end, and is then told as any that fails", async () => {
    const { sampler, fail } = hold();
    const feed = createFeed(sampler);
    const { samples, end } = listen(feed);
    await clock.advance(5_000);
    fail(new Error("lost"));
    await clock.advance(50);
    expect(samples).toHaveLength(1);
    expect(log.lines.slice(1)).toEqual([
      "warn Reading the power of GPU 0 returned after 5.0 s",
      "warn Reading the power of GPU 0 fails: lost",
      "info The power of GPU 0 can be read again",
    ]);
    end();
  });

  it("is the only one in flight, however many come and go meanwhile", async () => {
    const { sampler, end } = hold();
    const feed = createFeed(sampler);
    for (let count = 0; count < 10; count += 1) {
      listen(feed).end();
      const next = expect(feed.next(caller())).rejects.toThrow("GPU 0");
      await clock.advance(timeoutMs);
      await next;
    }
    expect([reads, feed.active]).toEqual([1, true]);
    end();
    await clock.advance(1_000);
    expect([reads, feed.active, clock.pending]).toEqual([1, false, 0]);
  });

  it("but has returned while the process was stopped is none: that is found before it is judged", async () => {
    const { sampler, end } = hold();
    const feed = createFeed(sampler);
    const next = feed.next();
    clock.after(timeoutMs, end);
    clock.skip(60_000);
    await clock.advance(0);
    await expect(next).resolves.toEqual({ power_mw });
    expect(log.lines).toEqual([]);
  });

  it("has at most 1024 wait for it; more are refused with `queue_full`, and may come when it is over", async () => {
    const { sampler, end } = hold();
    const feed = createFeed(sampler);
    const waiting = Array.from({ length: 1024 }, () => feed.next(caller()));
    await expect(feed.next(caller())).rejects.toMatchObject({
      code: "queue_full",
      status: 503,
      retryAfterS: 1,
      message: "1024 requests are waiting for the power of GPU 0; try again later",
    });
    end();
    expect(await Promise.all(waiting)).toEqual(waiting.map(() => ({ power_mw })));
    await expect(feed.next(caller())).resolves.toEqual({ power_mw });
  });

  it("may be the baseline of a mean", async () => {
    const feed = createFeed({ start: () => new Promise(() => {}), sample: read });
    const next = expect(feed.next(caller())).rejects.toMatchObject({ code: "deadline" });
    await clock.advance(timeoutMs);
    await next;
    await expect(feed.next(caller())).rejects.toMatchObject({ code: "lane_stuck" });
  });
});

it("a mean over a long period is awaited for no longer than the deadline", async () => {
  const sampler = { start: async () => {}, sample: read };
  const feed = new PowerFeed({ name: "CPU 0", sampler, periodMs: 10_000, timeoutMs, clock, log });
  const next = expect(feed.next(caller())).rejects.toMatchObject({ code: "deadline" });
  await clock.advance(timeoutMs);
  await next;
  await clock.advance(10_000);
  expect([feed.active, clock.pending]).toEqual([false, 0]);
});

it("whoever waits is answered when the feed is told to refuse, and the streams go on", async () => {
  const { sampler, end } = hold();
  const feed = createFeed(sampler);
  const stream = listen(feed);
  const next = expect(feed.next(caller())).rejects.toThrow("enough");
  feed.refuseWaiting(new Error("enough"));
  await next;
  end();
  await clock.advance(0);
  expect(stream.samples).toHaveLength(1);
  stream.end();
});
