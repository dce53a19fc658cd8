// What each setting is, over HTTP, while leases come and go: the newest write wins, and what was there before comes back.
import { beforeEach, describe, expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import { gistOf, json, limit, limits, rememberSettings, written } from "./holder.ts";
import { startLeaseSubject, type LeaseSubject } from "./lease-subject.ts";

let zeusd: LeaseSubject;

beforeEach(async () => {
  zeusd = await startLeaseSubject();
});

const ok = async (line: string, by = zeusd.alice): Promise<void> => {
  expect(await zeusd.ask(line, by)).toMatchObject({ status: 200, body: "" });
};
const lock = (low: number, high: number): string =>
  `POST /gpu/set_gpu_locked_clocks?gpu_ids=0&min_clock_mhz=${low}&max_clock_mhz=${high}&block=true`;
const lockMemory = (low: number, high: number): string => lock(low, high).replace("_gpu_locked", "_mem_locked");
const reset = (what: "gpu_" | "mem_" | ""): string => `POST /gpu/reset_${what}locked_clocks?gpu_ids=0&block=true`;
const persist = (enabled: boolean): string => `POST /gpu/set_persistence_mode?gpu_ids=0&enabled=${enabled}&block=true`;
const asked = async (): Promise<Readonly<Record<string, unknown>>> => {
  const leases = await zeusd.list();
  return Object.fromEntries(
    leases.map(({ lease, settings }) => [
      lease,
      Object.fromEntries(Object.entries(settings["0"] ?? {}).map(([name, { asked: value }]) => [name, value])),
    ]),
  );
};
const low = new ZeusdError("invalid_argument", "NVML error: a supplied argument was invalid");
const broken = new ZeusdError("driver_error", "NVML error: an unknown internal driver error occured");

describe("the newest write wins", () => {
  it("and when its lease ends, the newest of those that are left comes back, and in the end what was there before", async () => {
    for (const [by, mw] of [
      [zeusd.alice, 250_000],
      [zeusd.bob, 240_000],
      [zeusd.carol, 230_000],
    ] as const) {
      await zeusd.acquire("", by);
      await ok(limit(mw), by);
    }
    await ok(limit(260_000), zeusd.alice);
    await zeusd.carol.die();
    expect(limits(zeusd).slice(4)).toEqual([]);
    await zeusd.alice.die();
    await zeusd.bob.die();
    expect(limits(zeusd).slice(3)).toEqual(["260000@0", "240000@0", "300000@0"]);
  });

  it("and a lease that had not won ends with nothing to put back", async () => {
    await zeusd.acquire();
    await zeusd.acquire("", zeusd.bob);
    await ok(limit(250_000), zeusd.alice);
    await ok(limit(240_000), zeusd.bob);
    expect(json(await zeusd.ask("POST /lease/release?lease=1"))).toEqual({
      lease: 1,
      gpus: { 0: "restored", 1: "unchanged" },
    });
    expect(limits(zeusd)).toEqual(["250000@0", "240000@0"]);
  });

  it("and two leases that want the same are no reason to ask the driver again", async () => {
    await zeusd.acquire();
    await zeusd.acquire("", zeusd.bob);
    await ok(limit(250_000), zeusd.alice);
    await ok(limit(250_000), zeusd.bob);
    await zeusd.bob.die();
    expect(limits(zeusd)).toEqual(["250000@0", "250000@0"]);
  });

  it("each setting of each GPU by itself", async () => {
    await zeusd.acquire();
    await zeusd.acquire("", zeusd.bob);
    await ok(limit(250_000, { gpus: "0,1" }), zeusd.alice);
    await ok(lock(100, 900), zeusd.alice);
    await ok(limit(240_000, { gpus: "1" }), zeusd.bob);
    await ok(persist(true), zeusd.bob);
    const before = written(zeusd).length;
    await zeusd.bob.die();
    expect(written(zeusd).slice(before).toSorted()).toEqual([
      "gpu 0 setPersistenceMode false",
      "gpu 1 setPowerLimit 250000",
    ]);
    const then = written(zeusd).length;
    await zeusd.alice.die();
    expect(written(zeusd).slice(then).toSorted()).toEqual([
      "gpu 0 resetGpuLockedClocks",
      "gpu 0 setPowerLimit 300000",
      "gpu 1 setPowerLimit 300000",
    ]);
  });
});

describe("what is written without a lease", () => {
  it("while one lives holds at once, and stays when that ends", async () => {
    await zeusd.acquire();
    await ok(limit(250_000));
    await ok(limit(200_000), zeusd.bob);
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0", "200000@0"]);
  });

  it("is what comes back, if the lease has written since", async () => {
    await zeusd.acquire();
    await ok(limit(250_000));
    await ok(limit(200_000), zeusd.bob);
    await ok(limit(260_000));
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0", "200000@0", "260000@0", "200000@0"]);
  });

  it("before a lease wrote is what comes back", async () => {
    await ok(limit(280_000), zeusd.bob);
    await zeusd.acquire();
    await ok(limit(250_000));
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["280000@0", "250000@0", "280000@0"]);
  });

  it("is not what comes back where somebody had changed it elsewhere before the lease wrote", async () => {
    await ok(limit(280_000), zeusd.bob);
    zeusd.answer("gpu 0", "getPowerLimit", { power_limit_mw: 270_000 });
    await zeusd.acquire();
    await ok(limit(250_000));
    rememberSettings(zeusd);
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["280000@0", "250000@0", "270000@0"]);
  });
});

describe("locked clocks, which no driver tells,", () => {
  it("are reset where nobody had set them", async () => {
    await zeusd.acquire();
    await ok(lock(100, 900));
    await ok(lockMemory(100, 900));
    await zeusd.alice.die();
    expect(written(zeusd).slice(2)).toEqual(["gpu 0 resetGpuLockedClocks", "gpu 0 resetMemLockedClocks"]);
  });

  it("are what somebody had set without a lease", async () => {
    await ok(lock(500, 600), zeusd.bob);
    await zeusd.acquire();
    await ok(lock(100, 900));
    await ok(lock(100, 800));
    await zeusd.alice.die();
    expect(written(zeusd).at(-1)).toBe("gpu 0 setGpuLockedClocks 500 600");
    await zeusd.acquire("", zeusd.bob);
    await ok(reset("gpu_"), zeusd.bob);
    await zeusd.bob.die();
    expect(written(zeusd).slice(-2)).toEqual(["gpu 0 resetGpuLockedClocks", "gpu 0 setGpuLockedClocks 500 600"]);
  });

  it("that were reset without a lease are reset", async () => {
    await ok(lock(500, 600), zeusd.bob);
    await ok(reset("gpu_"), zeusd.bob);
    await zeusd.acquire();
    await ok(lock(100, 900));
    await zeusd.alice.die();
    expect(written(zeusd).at(-1)).toBe("gpu 0 resetGpuLockedClocks");
  });

  it("within a lease may be reset, which the lease has changed as well", async () => {
    await zeusd.acquire();
    await zeusd.acquire("", zeusd.bob);
    await ok(lock(100, 900));
    await ok(reset("gpu_"), zeusd.bob);
    expect(await asked()).toEqual({
      1: { gpu_clocks: { min_clock_mhz: 100, max_clock_mhz: 900 } },
      2: { gpu_clocks: {} },
    });
    await zeusd.bob.die();
    expect(written(zeusd).slice(1)).toEqual(["gpu 0 resetGpuLockedClocks", "gpu 0 setGpuLockedClocks 100 900"]);
  });
});

describe("reset_locked_clocks within a lease", () => {
  beforeEach(async () => {
    await ok(lock(500, 600), zeusd.bob);
    await ok(lockMemory(700, 800), zeusd.bob);
    await zeusd.acquire();
  });

  it("changes two settings, and both come back", async () => {
    await ok(reset(""));
    expect(await asked()).toEqual({ 1: { gpu_clocks: {}, memory_clocks: {} } });
    const before = written(zeusd).length;
    await zeusd.alice.die();
    expect(written(zeusd).slice(before)).toEqual([
      "gpu 0 setGpuLockedClocks 500 600",
      "gpu 0 setMemLockedClocks 700 800",
    ]);
  });

  it.each([
    ["gpu_clocks", "resetGpuLockedClocks", "memory_clocks", "gpu 0 setMemLockedClocks 700 800"],
    ["memory_clocks", "resetMemLockedClocks", "gpu_clocks", "gpu 0 setGpuLockedClocks 500 600"],
  ])("of which the driver refuses %s changes the other alone", async (_, call, other, restored) => {
    zeusd.answer("gpu 0", call, low);
    const answer = await zeusd.ask(reset(""));
    expect(json(answer)).toMatchObject({ errors: { 0: low.message }, code: "invalid_argument" });
    expect(await asked()).toEqual({ 1: { [other]: {} } });
    const before = written(zeusd).length;
    await zeusd.alice.die();
    expect(written(zeusd).slice(before)).toEqual([restored]);
  });
});

it("reset_locked_clocks of which the driver refuses both answers with the first refusal, and changes nothing", async () => {
  await zeusd.acquire();
  zeusd.answer("gpu 0", "resetGpuLockedClocks", low);
  zeusd.answer("gpu 0", "resetMemLockedClocks", new ZeusdError("no_permission", "NVML error: no permission"));
  expect(json(await zeusd.ask(reset("")))).toEqual({
    errors: { 0: low.message },
    results: {},
    code: "invalid_argument",
  });
  expect(written(zeusd)).toEqual(["gpu 0 resetGpuLockedClocks", "gpu 0 resetMemLockedClocks"]);
  expect(await asked()).toEqual({ 1: {} });
});

describe("persistence mode", () => {
  it("comes back as it was", async () => {
    await zeusd.acquire();
    await ok(persist(true));
    await zeusd.alice.die();
    await ok(persist(true), zeusd.bob);
    await zeusd.acquire("", zeusd.carol);
    await ok(persist(false), zeusd.carol);
    await zeusd.carol.die();
    expect(written(zeusd).map((call) => call.split(" ").at(-1))).toEqual(["true", "false", "true", "false", "true"]);
  });

  it("is written in the same words as by its second name on the JSON wire", async () => {
    await zeusd.acquire();
    const { status } = await zeusd.ask("POST /gpu/0/set_persistent_mode", {
      headers: { "content-type": "application/json" },
      body: '{"enabled":true,"block":true}',
      peer: zeusd.alice.peer,
    });
    expect(status).toBe(200);
    expect(await asked()).toEqual({ 1: { persistence_mode: { enabled: true } } });
  });
});

describe("a write that the driver refuses", () => {
  it("leaves a lease as it was: with nothing changed if it was its first", async () => {
    zeusd.answer("gpu 0", "setPowerLimit", low);
    await zeusd.acquire();
    expect((await zeusd.ask(limit(1))).status).toBe(400);
    expect(await asked()).toEqual({ 1: {} });
    await zeusd.alice.die();
    await zeusd.clock.advance(120_000);
    expect(limits(zeusd)).toEqual(["1@0"]);
  });

  it("holds nothing: what somebody changes elsewhere afterwards is what is there before the next write", async () => {
    zeusd.answer("gpu 0", "setPowerLimit", low);
    await zeusd.acquire();
    expect((await zeusd.ask(limit(1))).status).toBe(400);
    zeusd.answer("gpu 0", "setPowerLimit", {});
    zeusd.answer("gpu 0", "getPowerLimit", { power_limit_mw: 270_000 });
    await ok(limit(250_000));
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["1@0", "250000@0", "270000@0"]);
  });

  it("leaves a lease as it was: with its value before", async () => {
    await zeusd.acquire();
    await ok(limit(250_000));
    zeusd.answer("gpu 0", "setPowerLimit", low);
    expect((await zeusd.ask(limit(1))).status).toBe(400);
    expect(await asked()).toEqual({ 1: { power_limit: { power_limit_mw: 250_000 } } });
    zeusd.answer("gpu 0", "setPowerLimit", {});
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0", "1@0", "300000@0"]);
  });

  it("without a lease leaves what stood before", async () => {
    await ok(limit(280_000), zeusd.bob);
    zeusd.answer("gpu 0", "setPowerLimit", low);
    expect((await zeusd.ask(limit(1), zeusd.bob)).status).toBe(400);
    zeusd.answer("gpu 0", "setPowerLimit", {});
    zeusd.answer("gpu 0", "getPowerLimit", { power_limit_mw: 280_000 });
    await zeusd.acquire();
    await ok(limit(250_000));
    expect(json(await zeusd.ask("GET /lease/list"))).toMatchObject({
      leases: [{ settings: { 0: { power_limit: { covers: { power_limit_mw: 280_000 } } } } }],
    });
  });

  it("without a lease under one leaves that one's value on top", async () => {
    await zeusd.acquire();
    await ok(limit(250_000));
    zeusd.answer("gpu 0", "setPowerLimit", low);
    expect((await zeusd.ask(limit(1), zeusd.bob)).status).toBe(400);
    zeusd.answer("gpu 0", "setPowerLimit", {});
    expect(json(await zeusd.ask("GET /lease/list"))).toMatchObject({
      leases: [{ settings: { 0: { power_limit: { covers: { power_limit_mw: 300_000 }, wins: true } } } }],
    });
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0", "1@0", "300000@0"]);
  });

  it("that fails otherwise, so that nobody knows what is set, is put right when it was the first of a lease", async () => {
    await zeusd.acquire();
    zeusd.answer("gpu 0", "setPowerLimit", () => {
      zeusd.answer("gpu 0", "setPowerLimit", {});
      return Promise.reject(broken);
    });
    expect((await zeusd.ask(limit(250_000))).status).toBe(500);
    await zeusd.clock.advance(0);
    expect(limits(zeusd)).toEqual(["250000@0", "300000@0"]);
    expect(await asked()).toEqual({ 1: {} });
  });
});

describe("a write that fails, so that nobody knows what is set,", () => {
  const failOnce = (): void =>
    zeusd.answer("gpu 0", "setPowerLimit", () => {
      zeusd.answer("gpu 0", "setPowerLimit", {});
      return Promise.reject(broken);
    });

  it("within a lease is followed by what the lease wanted before", async () => {
    await zeusd.acquire();
    await ok(limit(250_000));
    failOnce();
    expect((await zeusd.ask(limit(200_000))).status).toBe(500);
    await zeusd.clock.advance(0);
    expect(limits(zeusd)).toEqual(["250000@0", "200000@0", "250000@0"]);
    expect(await asked()).toEqual({ 1: { power_limit: { power_limit_mw: 250_000 } } });
  });

  it("without one is followed by what a lease wants", async () => {
    await zeusd.acquire();
    await ok(limit(250_000));
    failOnce();
    expect((await zeusd.ask(limit(200_000), zeusd.bob)).status).toBe(500);
    await zeusd.clock.advance(0);
    expect(limits(zeusd)).toEqual(["250000@0", "200000@0", "250000@0"]);
  });

  it("without one, where nobody has a lease, is left as it is", async () => {
    await ok(limit(250_000), zeusd.bob);
    failOnce();
    expect((await zeusd.ask(limit(200_000), zeusd.bob)).status).toBe(500);
    await zeusd.clock.advance(60_000);
    expect(limits(zeusd)).toEqual(["250000@0", "200000@0"]);
  });
});

describe("a write that has not returned in time", () => {
  it("and fails when it does, so that nobody knows what is set, is put right when it was the first of a lease", async () => {
    await zeusd.acquire();
    let fail = (_error: unknown): void => {};
    zeusd.answer("gpu 0", "setPowerLimit", () => new Promise((_, reject) => (fail = reject)));
    const late = zeusd.ask(limit(250_000));
    await zeusd.clock.advance(4_000);
    expect((await late).status).toBe(504);
    zeusd.answer("gpu 0", "setPowerLimit", {});
    fail(broken);
    await zeusd.clock.advance(0);
    expect(limits(zeusd)).toEqual(["250000@0", "300000@0"]);
  });

  it("counts as written until it does, and is its lease's if it has taken effect", async () => {
    await zeusd.acquire();
    const done = zeusd.hold("gpu 0", "setPowerLimit");
    const late = zeusd.ask(limit(250_000));
    await zeusd.clock.advance(4_000);
    expect(gistOf(await late)[0]).toBe(504);
    expect(await asked()).toEqual({ 1: { power_limit: { power_limit_mw: 250_000 } } });
    done();
    await zeusd.clock.advance(0);
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0", "300000@0"]);
  });

  it("and fails when it does has changed nothing", async () => {
    await zeusd.acquire();
    let fail = (_error: unknown): void => {};
    zeusd.answer("gpu 0", "setPowerLimit", () => new Promise((_, reject) => (fail = reject)));
    const late = zeusd.ask(limit(250_000));
    await zeusd.clock.advance(4_000);
    expect((await late).status).toBe(504);
    fail(low);
    await zeusd.clock.advance(0);
    expect(await asked()).toEqual({ 1: {} });
  });
});

it.each(Array.from({ length: 24 }, (_, turns) => [turns]))(
  "what a lease has changed that ends %i turns after the driver has put back another's is put back as well",
  async (turns) => {
    await zeusd.acquire();
    await zeusd.acquire("", zeusd.bob);
    await ok(limit(250_000), zeusd.alice);
    await ok(lock(100, 900), zeusd.bob);
    const done = zeusd.hold("gpu 0", "setPowerLimit");
    void zeusd.ask("POST /lease/release?lease=1", zeusd.alice);
    await zeusd.clock.advance(0);
    done();
    for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
    void zeusd.ask("POST /lease/release?lease=2", zeusd.bob);
    await zeusd.clock.advance(0);
    expect(written(zeusd).slice(2)).toEqual(["gpu 0 setPowerLimit 300000", "gpu 0 resetGpuLockedClocks"]);
  },
);
