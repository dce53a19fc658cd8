// The state of each GPU's settings: asked, set, in force, who holds it, whether it binds, and how old all that is.
import { beforeEach, describe, expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import { createHolder, gistOf, json, leaseOf, limit, rememberSettings } from "./holder.ts";
import { startLeaseSubject, type LeaseSubject } from "./lease-subject.ts";
import { bearer, keyFile } from "./subject.ts";

type State = Readonly<Record<string, unknown>>;
type Knob = Readonly<Record<string, unknown>>;

let zeusd: LeaseSubject;

beforeEach(async () => {
  zeusd = await startLeaseSubject();
});

const stateOf = async (query = ""): Promise<Readonly<Record<string, State>>> => {
  const answer = await zeusd.ask(`GET /gpu/get_state${query}`);
  expect(answer).toMatchObject({ status: 200, type: "application/json" });
  const { timestamp_ms, gpus } = json(answer) as {
    readonly timestamp_ms: number;
    readonly gpus: Readonly<Record<string, State>>;
  };
  expect(timestamp_ms).toBe(zeusd.clock.epochMs());
  return gpus;
};
const gpu0 = async (query = "?gpu_ids=0"): Promise<State> => (await stateOf(query))["0"] ?? {};
const powerLimit = async (): Promise<Knob> => (await gpu0())["power_limit"] as Knob;
const acquire = async (query = "", by = zeusd.alice): Promise<Readonly<Record<string, unknown>>> => {
  const { lease_id: _, ...facts } = leaseOf(await zeusd.ask(`POST /lease/acquire?${query}`, by));
  return facts;
};
const lock = "POST /gpu/set_gpu_locked_clocks?gpu_ids=0&min_clock_mhz=100&max_clock_mhz=900&block=true";

const mw = (power_limit_mw: number): object => ({ power_limit_mw });
const untouched = { asked: null, held_by: null, drift: false, drifts: 0 };
const unknown = { ...untouched, set: null, enforced: null, age_ms: null, binds: null };

describe("the state of a GPU", () => {
  it("that nobody has changed says what is set and what is in force, and that nobody asked for it", async () => {
    const gpu = {
      power_limit: { ...untouched, set: mw(300_000), enforced: mw(300_000), age_ms: 0, binds: true },
      gpu_clocks: { ...unknown, binds: false },
      memory_clocks: unknown,
      persistence_mode: { ...untouched, set: { enabled: false }, enforced: null, age_ms: 0, binds: null },
      leases: [],
      restoring: [],
      throttle_reasons: ["sw_power_cap"],
      stale: null,
    };
    expect(await stateOf()).toEqual({ 0: gpu, 1: gpu });
  });

  it("that was changed without a lease says what was asked for, and of what no driver tells what the daemon has set, with its age", async () => {
    await zeusd.ask(limit(250_000));
    await zeusd.ask(lock);
    await zeusd.clock.advance(1_500);
    const state = await gpu0();
    expect(state["power_limit"]).toEqual({
      ...untouched,
      asked: mw(250_000),
      set: mw(250_000),
      enforced: mw(250_000),
      age_ms: 0,
      binds: true,
    });
    const clocks = { min_clock_mhz: 100, max_clock_mhz: 900 };
    expect(state["gpu_clocks"]).toEqual({ ...unknown, asked: clocks, set: clocks, age_ms: 1_500, binds: false });
    await zeusd.ask("POST /gpu/reset_locked_clocks?gpu_ids=0&block=true");
    expect((await gpu0())["memory_clocks"]).toEqual({ ...unknown, asked: {}, set: {}, age_ms: 0 });
  });

  it("that is leased says who holds each setting, and which leases there are on it, whether they have changed anything or not", async () => {
    const first = await acquire("gpu_ids=0&reason=night+run");
    const second = await acquire("gpu_ids=0,1&ttl_s=60", zeusd.bob);
    await zeusd.ask(limit(250_000));
    const state = await stateOf();
    expect(state["0"]).toMatchObject({ leases: [first, second] });
    expect(state["1"]).toMatchObject({ leases: [second] });
    expect(state["0"]?.["power_limit"]).toMatchObject({ asked: mw(250_000), held_by: first });
    expect(state["0"]?.["persistence_mode"]).toMatchObject({ asked: null, held_by: null });
    // What is written last without a lease is nobody's.
    await zeusd.ask(limit(240_000), createHolder(103));
    expect(await powerLimit()).toMatchObject({ asked: mw(240_000), held_by: null });
    await zeusd.ask(limit(230_000), zeusd.bob);
    expect(await powerLimit()).toMatchObject({ asked: mw(230_000), held_by: second });
    await zeusd.bob.die();
    expect(await powerLimit()).toMatchObject({ asked: mw(240_000), set: mw(240_000), held_by: null });
    expect((await gpu0())["leases"]).toEqual([first]);
  });

  it("that a lease had changed is as if nobody had asked for anything once that has ended", async () => {
    await acquire();
    await zeusd.ask(limit(250_000));
    await zeusd.ask(lock);
    await zeusd.alice.die();
    const state = await gpu0();
    expect(state).toMatchObject({ leases: [], restoring: [] });
    expect(state["power_limit"]).toMatchObject({ ...untouched, set: mw(300_000) });
    expect(state["gpu_clocks"]).toMatchObject({ ...untouched, set: {} });
  });

  it("that was changed with an implicit lease says that", async () => {
    zeusd = await startLeaseSubject({ config: { restoreOnExit: true } });
    await zeusd.ask(limit(250_000));
    const lease = {
      lease: 1,
      gpu_ids: [0],
      exclusive: false,
      implicit: true,
      reason: null,
      since_ms: zeusd.clock.epochMs(),
      expires_ms: null,
      holder: { uid: 1000, pid: 101, program: "program-101", sub: null },
    };
    const state = await stateOf();
    expect(state["0"]).toMatchObject({ leases: [lease], power_limit: { asked: mw(250_000), held_by: lease } });
    expect(state["1"]).toMatchObject({ leases: [] });
  });

  it("says what is to be put back and is not yet, and why not", async () => {
    await acquire();
    await zeusd.ask(limit(250_000));
    await zeusd.ask(lock);
    zeusd.answer("gpu 0", "setPowerLimit", new ZeusdError("driver_error", "NVML error: busy"));
    await zeusd.alice.die();
    const state = await gpu0();
    expect(state["restoring"]).toEqual(["power_limit"]);
    expect(state["power_limit"]).toMatchObject({ asked: null, held_by: null, drift: false });
    expect(state["stale"]).toBeNull();
    zeusd.answer("gpu 0", "setPowerLimit", {});
    await zeusd.clock.advance(1_000);
    expect((await gpu0())["restoring"]).toEqual([]);
  });

  it("says what is not what it should be, and how often that was found", async () => {
    await zeusd.ask(limit(250_000));
    zeusd.answer("gpu 0", "getPowerLimit", mw(260_000) as { power_limit_mw: number });
    expect(await powerLimit()).toMatchObject({ asked: mw(250_000), set: mw(260_000), drift: true, drifts: 1 });
    expect(await powerLimit()).toMatchObject({ drift: true, drifts: 1 });
    rememberSettings(zeusd);
    expect(await powerLimit()).toMatchObject({ asked: mw(250_000), set: mw(250_000), drift: false, drifts: 1 });
  });

  it("says what is in force where that is less than what is set", async () => {
    await zeusd.ask(limit(250_000));
    zeusd.answer("gpu 0", "getEnforcedPowerLimit", mw(200_000) as { power_limit_mw: number });
    expect(await powerLimit()).toMatchObject({ set: mw(250_000), enforced: mw(200_000), drift: false });
  });

  it("says which settings bind, by what keeps the clocks from being higher", async () => {
    zeusd.answer("gpu 0", "getThrottleReasons", {
      sw_power_cap: false,
      applications_clocks_setting: true,
      gpu_idle: true,
    });
    const state = await gpu0();
    expect(state["throttle_reasons"]).toEqual(["applications_clocks_setting", "gpu_idle"]);
    expect(["power_limit", "gpu_clocks", "memory_clocks"].map((name) => (state[name] as Knob)["binds"])).toEqual([
      false,
      true,
      null,
    ]);
  });

  it("has null for what its driver does not tell, which makes nothing of it stale", async () => {
    zeusd = await startLeaseSubject({ lacks: ["getEnforcedPowerLimit", "getThrottleReasons", "getPersistenceMode"] });
    const state = await gpu0("?gpu_ids=0&include=supported");
    expect(state).toMatchObject({
      power_limit: { set: mw(300_000), enforced: null, binds: null },
      gpu_clocks: { binds: null },
      persistence_mode: { set: null, age_ms: null },
      throttle_reasons: null,
      stale: null,
    });
    zeusd = await startLeaseSubject({ lacks: ["getSupportedClocks", "getDefaultPowerLimit"] });
    expect((await gpu0("?gpu_ids=0&include=supported"))["supported"]).toEqual({
      power_limit_constraints: { min_power_limit_mw: 100_000, max_power_limit_mw: 400_000 },
      default_power_limit: null,
      supported_clocks: null,
    });
  });
});

describe("a GPU that cannot be asked", () => {
  it("because its lane is stuck is shown as it was last known, with the age of that and the reason; others are as ever", async () => {
    const lease = await acquire();
    await zeusd.ask(limit(250_000, { gpus: "0,1" }));
    await stateOf("?include=supported");
    await zeusd.clock.advance(1_000);
    const done = zeusd.hold("gpu 0", "resetGpuLockedClocks");
    const stuck = zeusd.ask("POST /gpu/reset_gpu_locked_clocks?gpu_ids=0&block=true", createHolder(103));
    await zeusd.clock.advance(5_000);
    expect((await stuck).status).toBe(504);
    const { 0: first, 1: second } = await stateOf("?include=supported");
    expect(first).toMatchObject({
      stale: "GPU 0 is stuck: reset_gpu_locked_clocks has not returned for 5 s, and until it does nothing else can run",
      leases: [lease],
      throttle_reasons: ["sw_power_cap"],
      supported: { default_power_limit: mw(300_000) },
    });
    expect(first?.["power_limit"]).toEqual({
      asked: mw(250_000),
      set: mw(250_000),
      enforced: mw(250_000),
      age_ms: 6_000,
      held_by: lease,
      binds: true,
      drift: false,
      drifts: 0,
    });
    expect(second).toMatchObject({ stale: null, power_limit: { set: mw(250_000), age_ms: 0 } });
    done();
    await zeusd.clock.advance(0);
    expect(await gpu0()).toMatchObject({ stale: null, power_limit: { age_ms: 0 } });
  });

  it("and never was has nothing but what was set", async () => {
    zeusd.hold("gpu 0", "setPowerLimit");
    void zeusd.ask(lock);
    await zeusd.clock.advance(500);
    const stuck = zeusd.ask(limit(250_000));
    await zeusd.clock.advance(4_000);
    expect((await stuck).status).toBe(504);
    const state = await gpu0("?gpu_ids=0&include=supported");
    expect(state).toMatchObject({
      throttle_reasons: null,
      power_limit: { asked: mw(250_000), set: null, enforced: null, age_ms: null, binds: null },
      gpu_clocks: { set: { min_clock_mhz: 100, max_clock_mhz: 900 }, age_ms: 4_500 },
      supported: { power_limit_constraints: null, default_power_limit: null, supported_clocks: null },
    });
    expect(state["stale"]).toMatch(/^GPU 0 is stuck: set_power_limit has not returned for 4 s/);
  });

  it("is shown with what was set last, and not with what was read before that", async () => {
    await stateOf();
    await zeusd.clock.advance(1_000);
    await zeusd.ask(limit(250_000));
    await zeusd.clock.advance(1_000);
    zeusd.hold("gpu 0", "resetGpuLockedClocks");
    void zeusd.ask("POST /gpu/reset_gpu_locked_clocks?gpu_ids=0&block=true");
    await zeusd.clock.advance(4_000);
    expect(await powerLimit()).toMatchObject({ asked: mw(250_000), set: mw(250_000), age_ms: 5_000 });
  });

  it("because it is away is shown as it was last known", async () => {
    const lease = await acquire();
    await zeusd.ask(limit(250_000));
    await stateOf();
    await zeusd.clock.advance(2_000);
    zeusd.takeAway({ id: 0, away: new ZeusdError("driver_error", "NVML error: sick") });
    zeusd.answer("gpu 0", "getPower", new ZeusdError("gpu_lost", "NVML error: GPU is lost"));
    await zeusd.ask("GET /gpu/get_power?gpu_ids=0");
    const state = await stateOf();
    expect(Object.keys(state)).toEqual(["0", "1"]);
    expect(state["0"]).toMatchObject({
      stale: expect.stringMatching(/^GPU 0 is away: NVML error: /),
      leases: [lease],
      power_limit: { asked: mw(250_000), set: mw(250_000), age_ms: 2_000, held_by: lease },
    });
    expect(state["1"]).toMatchObject({ stale: null });
  });

  it("because it never was there has nothing known of it", async () => {
    zeusd = await startLeaseSubject({ away: [{ id: 1, away: new ZeusdError("driver_error", "NVML error: sick") }] });
    const state = await stateOf();
    expect(state["0"]).toMatchObject({ stale: null });
    expect(state["1"]).toEqual({
      power_limit: unknown,
      gpu_clocks: unknown,
      memory_clocks: unknown,
      persistence_mode: unknown,
      leases: [],
      restoring: [],
      throttle_reasons: null,
      stale: "GPU 1 is away: NVML error: sick",
    });
    expect(await stateOf("?gpu_ids=1")).toEqual({ 1: state["1"] });
  });

  it("in time, since a call takes too long, is shown as it was last known once that time is up", async () => {
    await stateOf();
    zeusd.hold("gpu 0", "getEnforcedPowerLimit");
    const state = stateOf();
    await zeusd.clock.advance(4_000);
    expect((await state)["0"]).toMatchObject({
      stale: expect.stringMatching(/get_enforced_power_limit on GPU 0 has not returned within 4 s/),
      power_limit: { set: mw(300_000), enforced: mw(300_000) },
    });
    expect((await state)["1"]).toMatchObject({ stale: null });
  });

  it("in one point alone is stale in that point, and what it was asked besides is of now", async () => {
    await stateOf();
    await zeusd.clock.advance(1_000);
    zeusd.answer("gpu 0", "getThrottleReasons", new ZeusdError("driver_error", "NVML error: busy"));
    expect(await gpu0()).toMatchObject({
      stale: "NVML error: busy",
      throttle_reasons: ["sw_power_cap"],
      power_limit: { age_ms: 0 },
    });
  });
});

describe("get_state", () => {
  it("with include=supported says what the GPU can do", async () => {
    const { 0: state } = await stateOf("?include=supported");
    expect(state?.["supported"]).toEqual({
      power_limit_constraints: { min_power_limit_mw: 100_000, max_power_limit_mw: 400_000 },
      default_power_limit: mw(300_000),
      supported_clocks: { memory_clocks_mhz: [2619], gpu_clocks_mhz: [1980, 1965, 1950] },
    });
    expect(await gpu0()).not.toHaveProperty("supported");
  });

  it.each([
    ["1", ["1"]],
    ["1,0,1", ["0", "1"]],
    ["GPU-00000000-0000-0000-0000-000000000001", ["1"]],
    ["0000:41:00.0", ["0"]],
  ])("of %s is that of those GPUs", async (gpus, ids) => {
    expect(Object.keys(await stateOf(`?gpu_ids=${encodeURIComponent(gpus)}`))).toEqual(ids);
  });

  it("of a machine without GPUs is empty", async () => {
    zeusd = await startLeaseSubject({ gpus: 0 });
    expect(await stateOf()).toEqual({});
  });

  it.each([
    ["include=", "include must be supported"],
    ["include=all", "include must be supported"],
    ["include=supported,history", "include must be supported"],
    ["include=supported&include=supported", "include is given twice"],
    ["gpu_ids=0&gpu_ids=1", "gpu_ids is given twice"],
    ["what=all", 'unknown parameter "what"; there are gpu_ids, include'],
    ["gpu_ids=", "gpu_ids must contain at least one GPU index"],
    ["gpu_ids=first", "Invalid GPU index: first"],
    ["cpu_ids=0", 'unknown parameter "cpu_ids"; there are gpu_ids, include'],
  ])("?%s is refused", async (query, error) => {
    expect(gistOf(await zeusd.ask(`GET /gpu/get_state?${query}`))).toEqual([400, "bad_request", error]);
    expect(zeusd.calls).toEqual([]);
  });

  it("of a GPU that does not exist is refused", async () => {
    const answer = await zeusd.ask("GET /gpu/get_state?gpu_ids=0,7");
    expect(answer.status).toBe(400);
    expect(json(answer)).toMatchObject({ code: "unknown_device", available: [0, 1] });
    expect(zeusd.calls).toEqual([]);
  });

  it("is for whom a rule of the policy allows it on all of its GPUs", async () => {
    const rule = (uid: number, allow: string, more = ""): string =>
      `[[rule]]\nname = "${uid}"\nuids = [${uid}]\nallow = ["${allow}"]\n${more}\n`;
    const policy =
      rule(1000, "gpu-read") + rule(1001, "get_state", "gpus = [1]") + rule(1002, "get_power") + rule(1003, "cpu-read");
    zeusd = await startLeaseSubject({ policy });
    const statuses = async (uid: number): Promise<readonly number[]> => {
      const by = createHolder(200, { uid });
      const answers = [await zeusd.ask("GET /gpu/get_state", by), await zeusd.ask("GET /gpu/get_state?gpu_ids=1", by)];
      return answers.map(({ status }) => status);
    };
    expect(await statuses(1000)).toEqual([200, 200]);
    expect(await statuses(1001)).toEqual([403, 200]);
    for (const uid of [1002, 1003, 1004]) expect(await statuses(uid)).toEqual([403, 403]);
    expect(gistOf(await zeusd.ask("GET /gpu/get_state", createHolder(200, { uid: 1001 })))[2]).toBe(
      'rule "1001" allows get_state to uid 1001 on GPU 1 only, and not on GPU 0',
    );
  });

  it("is for a token with the scope of its group, or of the operation alone", async () => {
    zeusd = await startLeaseSubject({ config: keyFile() });
    const status = async (...scopes: readonly string[]): Promise<number> =>
      (await zeusd.ask("GET /gpu/get_state", { headers: bearer({ sub: "ci", scopes }) })).status;
    expect(await status("get_state")).toBe(200);
    expect(await status("gpu-read")).toBe(200);
    expect(await status("get_power", "gpu-control", "cpu-read")).toBe(403);
  });

  it("changes nothing: it calls nothing but what reads", async () => {
    await stateOf("?include=supported");
    await zeusd.clock.advance(60_000);
    expect(zeusd.calls.every((call) => /^gpu \d get/.test(call))).toBe(true);
  });
});
