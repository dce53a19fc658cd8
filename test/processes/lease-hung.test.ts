// Leases on GPUs that hang or are lost: what has to be put back there waits until they return, and holds nothing else up.
import { describe, expect, it } from "vitest";
import { setter } from "./driven.ts";
import { alice } from "./governed.ts";
import { statusOrCut } from "./http-client.ts";
import { base, createLeaseRig, limit, limitTarget, mostMs, whenSet, type HeldRig, type LeaseRig } from "./lease-rig.ts";
import { stateOfGpu } from "./lease-state.ts";

const quick = ["--device-timeout-ms", "400"];
const away = [
  `${setter}@0=code:15`,
  "nvmlDeviceGetPowerManagementLimit@0=code:15",
  "nvmlDeviceGetHandleByUUID@0=code:15",
];

/** A holder that has set the limits of both GPUs to 200 W. */
async function hold(args: readonly string[] = quick): Promise<HeldRig> {
  const rig = await createLeaseRig({ args });
  await rig.start();
  const holder = await rig.clients.start(alice);
  const { body } = await holder.post("/lease/acquire");
  for (const gpu of [0, 1]) expect((await holder.post(limitTarget(gpu, 200_000))).status).toBe(200);
  return { rig, holder, lease: (JSON.parse(body) as { lease: number }).lease };
}

async function exitWithin(ms: number, { daemon }: LeaseRig): Promise<void> {
  const beganMs = performance.now();
  expect(await daemon().exit).toMatchObject({ code: 0 });
  expect(performance.now() - beganMs).toBeLessThan(ms);
}

/** What the journal has of a lease's changes on a GPU that are not put back yet. */
function owedOn({ journal }: LeaseRig, gpu: number): number {
  const of = journal().filter((line) => line.gpu?.endsWith(String(gpu)));
  const last = of.findLastIndex(({ record }) => record === "settled");
  return of.slice(last + 1).filter(({ record }) => record === "layer" || record === "no_layer").length;
}

describe("when a holder dies", () => {
  it("a GPU whose restoration hangs is put back when it returns, the other at once", async () => {
    const { rig, holder } = await hold();
    rig.driver.fail(`${setter}@0=hang`);
    await holder.kill();
    expect(await whenSet(rig, 1, base)).toBeLessThan(mostMs);
    await rig.daemon().logged("GPU 0 is stuck");
    expect(rig.driver.gpus()[0]).toMatchObject(limit(200_000));
    expect(await rig.leases()).toEqual([]);
    rig.driver.fail();
    expect(await whenSet(rig, 0, base)).toBeLessThan(mostMs);
    await rig.daemon().logged("GPU 0 works again");
    expect(await stateOfGpu(rig, 0)).toMatchObject({ stale: null, restoring: [], power_limit: { held_by: null } });
  });

  it("a GPU that hangs in a write of that holder is put back when it returns, and the write is undone", async () => {
    const { rig, holder } = await hold();
    rig.driver.fail(`${setter}@0=hang`);
    expect((await holder.post(limitTarget(0, 210_000))).status).toBe(504);
    await holder.kill();
    expect(await whenSet(rig, 1, base)).toBeLessThan(mostMs);
    expect(rig.driver.gpus()[0]).toMatchObject(limit(200_000));
    rig.driver.fail();
    expect(await whenSet(rig, 0, base)).toBeLessThan(mostMs);
    expect(rig.driver.calls()).toContain(`${setter} 0 210000 -> 0`);
  });

  it("a GPU that is away is put back when it is there again, the other at once", async () => {
    const { rig, holder } = await hold();
    rig.driver.fail(...away);
    expect((await holder.post(limitTarget(0, 210_000))).status).toBe(500);
    await holder.kill();
    expect(await whenSet(rig, 1, base)).toBeLessThan(mostMs);
    expect((await stateOfGpu(rig, 0)).restoring).toEqual(["power_limit"]);
    rig.driver.fail();
    await rig.daemon().logged("GPU 0 is there again");
    expect(await whenSet(rig, 0, base)).toBeLessThan(mostMs);
  });

  it("a GPU that refuses is tried again until it takes it", async () => {
    const { rig, holder } = await hold();
    rig.driver.fail(`${setter}@0=code:999`);
    await holder.kill();
    expect(await whenSet(rig, 1, base)).toBeLessThan(mostMs);
    await rig.daemon().logged("could not be put back");
    rig.driver.fail();
    await whenSet(rig, 0, base);
  });
});

it("a GPU that was away gets back what a living holder has set, since it may have been reset", async () => {
  const { rig, holder } = await hold();
  rig.driver.fail(...away);
  expect((await holder.post(limitTarget(0, 210_000))).status).toBe(500);
  const before = rig.driver.calls().length;
  rig.driver.fail();
  await rig.daemon().logged("GPU 0 is there again");
  await rig.driver.called(`${setter} 0 200000 -> 0`, 2);
  expect(rig.driver.calls().slice(before)).toContain(`${setter} 0 200000 -> 0`);
  expect((await stateOfGpu(rig, 0)).power_limit).toMatchObject({ asked: { power_limit_mw: 200_000 } });
  await holder.kill();
  expect(await whenSet(rig, 0, base)).toBeLessThan(mostMs);
});

it("the state of a stuck GPU is answered at once with what was last known, says so, and how old that is", async () => {
  const { rig, holder, lease } = await hold();
  await stateOfGpu(rig, 0);
  rig.driver.fail(`${setter}@0=hang`);
  expect((await holder.post(limitTarget(0, 210_000))).status).toBe(504);
  await rig.daemon().logged("GPU 0 is stuck");
  const beganMs = performance.now();
  const told = await stateOfGpu(rig, 0);
  expect(performance.now() - beganMs).toBeLessThan(300);
  expect(told.stale).toContain("set_power_limit has not returned");
  expect(told.power_limit).toMatchObject({
    asked: { power_limit_mw: 210_000 },
    set: { power_limit_mw: 200_000 },
    held_by: { lease },
  });
  expect(told.power_limit.age_ms).toBeGreaterThan(300);
  expect(await stateOfGpu(rig, 1)).toMatchObject({ stale: null, power_limit: { set: { power_limit_mw: 200_000 } } });
  rig.driver.fail();
  await rig.daemon().logged("GPU 0 works again");
  expect(await stateOfGpu(rig, 0)).toMatchObject({ stale: null, power_limit: { set: { power_limit_mw: 210_000 } } });
});

it("whoever releases a lease is told which GPU has to wait, and why", async () => {
  const { rig, holder, lease } = await hold();
  rig.driver.fail(`${setter}@0=hang`);
  const { status, body } = await holder.post(`/lease/release?lease=${lease}`);
  expect([status, JSON.parse(body)]).toEqual([
    200,
    { lease, gpus: { 0: expect.stringContaining("has not returned"), 1: "restored" } },
  ]);
  rig.driver.fail();
  expect(await whenSet(rig, 0, base)).toBeLessThan(mostMs);
});

describe("--on-stop restore, with one GPU that hangs,", () => {
  /** The stop has put back GPU 1, and a start does so with GPU 0. */
  async function expectLeftToStart(rig: LeaseRig): Promise<void> {
    expect(rig.driver.gpus()).toMatchObject([limit(200_000), base]);
    expect([owedOn(rig, 0) > 0, owedOn(rig, 1)]).toEqual([true, 0]);
    rig.driver.fail();
    await rig.start();
    expect(await whenSet(rig, 0, base)).toBeLessThan(mostMs);
    expect(await rig.leases()).toEqual([]);
  }

  it("puts the other back, ends within 5 s, and leaves the one in the journal for the next start", async () => {
    const { rig } = await hold([]);
    rig.driver.fail(`${setter}@0=hang`);
    rig.daemon().signal("SIGTERM");
    await exitWithin(5_000, rig);
    await expectLeftToStart(rig);
  });

  it("does the same when that hung in a write before it was told to stop", async () => {
    const { rig, holder } = await hold([]);
    rig.driver.fail(`${setter}@0=hang`);
    const answer = statusOrCut(holder.post(limitTarget(0, 210_000)).then((told) => ({ headers: {}, ...told })));
    await rig.driver.called(`${setter} 0 hangs`);
    rig.daemon().signal("SIGTERM");
    await exitWithin(5_000, rig);
    await answer;
    await expectLeftToStart(rig);
  });

  it("does the same within 2 s on SIGINT", async () => {
    const { rig } = await hold([]);
    rig.driver.fail(`${setter}@0=hang`);
    rig.daemon().signal("SIGINT");
    await exitWithin(2_000, rig);
    expect(rig.driver.gpus()).toMatchObject([limit(200_000), base]);
    rig.driver.fail();
    await rig.start();
    expect(await whenSet(rig, 0, base)).toBeLessThan(mostMs);
  });
});

it("a start with a GPU that hangs serves the other, which is put back at once, and that one when it returns", async () => {
  const { rig, holder } = await hold();
  await rig.killDaemon();
  await holder.kill();
  rig.driver.fail(`${setter}@0=hang`);
  await rig.start();
  expect(await whenSet(rig, 1, base)).toBeLessThan(mostMs);
  expect(rig.driver.gpus()[0]).toMatchObject(limit(200_000));
  expect((await rig.post(limitTarget(1, 250_000))).status).toBe(200);
  rig.driver.fail();
  expect(await whenSet(rig, 0, base)).toBeLessThan(mostMs);
});
