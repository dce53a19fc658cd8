// What streams of events tell of leases, settings, lanes and GPUs.
import { beforeEach, describe, expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import { gistOf, leaseOf, limit } from "./holder.ts";
import { followEvents, startLeaseSubject, type LeaseSubject, type Told } from "./lease-subject.ts";
import type { SubjectOptions } from "./subject.ts";

let zeusd: LeaseSubject;
let told: () => readonly Told[];

async function setUp(options: SubjectOptions = {}): Promise<void> {
  zeusd = await startLeaseSubject(options);
  told = await followEvents(zeusd);
}

beforeEach(() => setUp());

const value = (power_limit_mw: number): object => ({ gpu: 0, setting: "power_limit", value: { power_limit_mw } });
const busy = new ZeusdError("driver_error", "NVML error: busy");

describe("GET /events", () => {
  it("is a stream that begins with a comment, and knows no parameters", async () => {
    const { status, type, body } = await zeusd.follow("GET /events", () => true);
    expect([status, type, body]).toEqual([200, "text/event-stream", ":\n\n"]);
    expect(gistOf(await zeusd.ask("GET /events?gpu_ids=0"))[0]).toBe(400);
  });

  it("tells what happens from then on, and nothing of what was before", async () => {
    leaseOf(await zeusd.ask("POST /lease/acquire"));
    let later = "";
    void zeusd.follow("GET /events", (text) => {
      later = text;
      return false;
    });
    await zeusd.clock.advance(0);
    await zeusd.alice.die();
    expect(told().map(({ event }) => event)).toEqual(["lease_acquired", "lease_ended"]);
    expect(later.match(/event: \w+/g)).toEqual(["event: lease_ended"]);
  });
});

describe("an event tells", () => {
  it("that a lease is acquired, is renewed, and has ended and why", async () => {
    const { lease_id, ...facts } = leaseOf(await zeusd.ask("POST /lease/acquire?gpu_ids=1&ttl_s=60&reason=night+run"));
    const acquiredMs = zeusd.clock.epochMs();
    await zeusd.clock.advance(1_000);
    const { lease_id: _, ...renewed } = leaseOf(await zeusd.ask(`POST /lease/renew?lease_id=${lease_id}`));
    await zeusd.clock.advance(60_000);
    expect(told()).toEqual([
      { event: "lease_acquired", timestamp_ms: acquiredMs, ...facts },
      { event: "lease_renewed", timestamp_ms: acquiredMs + 1_000, ...renewed },
      { event: "lease_ended", timestamp_ms: acquiredMs + 61_000, ended: "expired", ...renewed },
    ]);
    expect(renewed.expires_ms).toBe(acquiredMs + 61_000);
  });

  it("that an implicit lease begins with its first write, and has ended, and on which GPUs", async () => {
    await setUp({ config: { restoreOnExit: true } });
    expect((await zeusd.ask(limit(250_000, { more: "&dry_run=true" }))).status).toBe(200);
    expect(told()).toEqual([]);
    await zeusd.ask(limit(250_000));
    await zeusd.ask(limit(250_000, { gpus: "1" }));
    await zeusd.alice.die();
    const about = { lease: 1, implicit: true, holder: { uid: 1000, pid: 101, program: "program-101", sub: null } };
    expect(told().slice(0, 2)).toMatchObject([
      { event: "lease_acquired", ...about, gpu_ids: [0] },
      { event: "lease_ended", ended: "holder_ended", ...about, gpu_ids: [0, 1] },
    ]);
    expect(told().slice(2)).toMatchObject([{ event: "restored" }, { event: "restored" }]);
    expect(zeusd.logged.filter((line) => line.includes("mplicit lease 1"))).toEqual([
      "debug Implicit lease 1 of uid 1000 (program-101, pid 101) has begun",
      "info Implicit lease 1 of uid 1000 (program-101, pid 101) has ended: holder ended",
    ]);
  });

  it("of each way in which a lease can end", async () => {
    const ids = [];
    for (const query of ["", "", "", "ttl_s=5"])
      ids.push(leaseOf(await zeusd.ask(`POST /lease/acquire?${query}`)).lease_id);
    await zeusd.ask(`POST /lease/release?lease_id=${ids[0]}`);
    await zeusd.ask("POST /lease/release?lease=2&force=true", zeusd.root);
    await zeusd.clock.advance(5_000);
    await zeusd.alice.die();
    const ends = told().filter(({ event }) => event === "lease_ended");
    expect(ends.map(({ lease, ended }) => [lease, ended])).toEqual([
      [1, "released"],
      [2, "forced"],
      [4, "expired"],
      [3, "holder_ended"],
    ]);
  });

  it("that a setting is back, after its lease has ended", async () => {
    await zeusd.ask("POST /lease/acquire?gpu_ids=0");
    await zeusd.ask(limit(250_000));
    await zeusd.ask("POST /gpu/set_mem_locked_clocks?gpu_ids=0&min_clock_mhz=1&max_clock_mhz=2&block=true");
    await zeusd.alice.die();
    expect(told().slice(1)).toMatchObject([
      { event: "lease_ended", lease: 1 },
      { event: "restored", ...value(300_000), timestamp_ms: zeusd.clock.epochMs() },
      { event: "restored", gpu: 0, setting: "memory_clocks", value: {} },
    ]);
  });

  it("that one could not be put back, each time, and that it is at last", async () => {
    await zeusd.ask("POST /lease/acquire?gpu_ids=0");
    await zeusd.ask(limit(250_000));
    zeusd.answer("gpu 0", "setPowerLimit", busy);
    await zeusd.alice.die();
    await zeusd.clock.advance(1_000);
    zeusd.answer("gpu 0", "setPowerLimit", {});
    await zeusd.clock.advance(2_000);
    expect(told().slice(2)).toMatchObject([
      { event: "restore_failed", ...value(300_000), error: "NVML error: busy" },
      { event: "restore_failed", ...value(300_000), error: "NVML error: busy" },
      { event: "restored", ...value(300_000) },
    ]);
  });

  it("nothing of what ends without having changed anything but that it has ended", async () => {
    await zeusd.ask("POST /lease/acquire");
    await zeusd.alice.die();
    expect(told().map(({ event }) => event)).toEqual(["lease_acquired", "lease_ended"]);
  });

  it("that a lane is stuck and that it is back, with the operation that it is about", async () => {
    const done = zeusd.hold("gpu 1", "setPowerLimit");
    void zeusd.ask(limit(250_000, { gpus: "1" }));
    await zeusd.clock.advance(3_999);
    expect(told()).toEqual([]);
    await zeusd.clock.advance(1);
    const about = { device: "gpu", id: 1, operation: "set_power_limit" };
    expect(told()).toEqual([{ event: "lane_stuck", timestamp_ms: zeusd.clock.epochMs(), ...about }]);
    await zeusd.clock.advance(10_000);
    done();
    await zeusd.clock.advance(0);
    expect(told().slice(1)).toEqual([{ event: "lane_back", timestamp_ms: zeusd.clock.epochMs(), ...about }]);
  });

  it("of a CPU's lane as well", async () => {
    zeusd.hold("cpu 1", "getCumulativeEnergy", { cpu_energy_uj: 1, dram_energy_uj: null });
    void zeusd.ask("GET /cpu/get_cumulative_energy?cpu_ids=1&cpu=true&dram=false");
    await zeusd.clock.advance(4_000);
    expect(told()).toMatchObject([{ event: "lane_stuck", device: "cpu", id: 1, operation: "get_cumulative_energy" }]);
  });

  it("that a GPU is lost, and that it is back, on which what a lease wants is set anew", async () => {
    await zeusd.ask("POST /lease/acquire?gpu_ids=0");
    await zeusd.ask(limit(250_000));
    zeusd.answer("gpu 0", "getPower", new ZeusdError("gpu_lost", "NVML error: GPU is lost"));
    await zeusd.ask("GET /gpu/get_power?gpu_ids=0");
    await zeusd.clock.advance(1_000);
    expect(told().slice(1)).toMatchObject([
      { event: "gpu_lost", device: "gpu", id: 0, reason: "NVML error: GPU is lost" },
      { event: "gpu_back", device: "gpu", id: 0 },
      { event: "restored", ...value(250_000) },
    ]);
  });
});
