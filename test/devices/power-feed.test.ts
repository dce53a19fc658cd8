// Power feeds: they read while someone listens, and only then.
import { beforeEach, describe, expect, it } from "vitest";
import type { Sample } from "../../src/contract/command.ts";
import { PowerFeed, type Sampler } from "../../src/devices/power-feed.ts";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";
import { createQuietLog } from "../quiet-log.ts";

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
  return new PowerFeed({ name: "GPU 0", sampler, periodMs: 50, clock, log });
}

function listen(feed: PowerFeed): { readonly samples: Sample[]; readonly end: () => void } {
  const samples: Sample[] = [];
  return { samples, end: feed.subscribe((sample) => samples.push(sample)) };
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
