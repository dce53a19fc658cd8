// `zeusd restore`: without a daemon, puts back what nobody holds any more.
import { existsSync } from "node:fs";
import { expect, it } from "vitest";
import { setter } from "./driven.ts";
import { alice } from "./governed.ts";
import type { LeaseClient } from "./lease-clients.ts";
import { createLeaseRig, limitTarget, whenSet, type LeaseRig, type LeaseRigOptions } from "./lease-rig.ts";

const base = { power_limit: "300000" };
const limit = (mw: number) => ({ power_limit: String(mw) });

/** A daemon that was killed, and the holder of a lease that has set the limits of both GPUs to 200 W. */
async function orphaned(
  options: LeaseRigOptions = {},
): Promise<{ readonly rig: LeaseRig; readonly holder: LeaseClient }> {
  const rig = await createLeaseRig(options);
  await rig.start();
  const holder = await rig.clients.start(alice);
  expect((await holder.post("/lease/acquire")).status).toBe(200);
  for (const gpu of [0, 1]) expect((await holder.post(limitTarget(gpu, 200_000))).status).toBe(200);
  await rig.killDaemon();
  return { rig, holder };
}

it("has nothing to do where no daemon ever ran, and makes nothing", async () => {
  const rig = await createLeaseRig();
  expect(await rig.restore()).toMatchObject({ code: 0, stdout: expect.stringContaining("Nothing to put back") });
  expect(existsSync(rig.stateDir)).toBe(false);
});

it("has nothing to do where a daemon remembers nothing, since it only reads", async () => {
  const rig = await createLeaseRig({ args: ["--enable", "gpu-read"] });
  expect(await rig.restore()).toMatchObject({ code: 0, stdout: expect.stringContaining("Nothing to put back") });
});

it("puts back what a holder that has ended had changed, says so, and has nothing to do the second time", async () => {
  const { rig, holder } = await orphaned();
  await holder.kill();
  const { code, stdout } = await rig.restore();
  expect([code, stdout]).toEqual([0, expect.stringMatching(/GPU 0: .*\nGPU 1: .*/)]);
  expect(rig.driver.gpus()).toMatchObject([base, base]);
  expect(await rig.restore()).toMatchObject({ code: 0, stdout: expect.stringContaining("Nothing to put back") });
});

it("leaves what somebody holds who lives, and does not wait for them; the next daemon knows their lease", async () => {
  const { rig, holder } = await orphaned();
  const beganMs = performance.now();
  expect(await rig.restore()).toMatchObject({ code: 0 });
  expect(performance.now() - beganMs).toBeLessThan(3_000);
  expect(rig.driver.gpus()).toMatchObject([limit(200_000), limit(200_000)]);
  await rig.start();
  expect(await rig.leases()).toMatchObject([{ holder: { pid: holder.pid } }]);
  expect((await holder.post(limitTarget(0, 210_000))).status).toBe(200);
  await holder.kill();
  await whenSet(rig, 0, base);
  await whenSet(rig, 1, base);
});

it("puts a setting that several had changed where the one who lives wants it, if the daemon was killed before it did", async () => {
  const rig = await createLeaseRig();
  await rig.start();
  const [first, second] = [await rig.clients.start(alice), await rig.clients.start(alice)];
  for (const [client, mw] of [
    [first, 200_000],
    [second, 210_000],
  ] as const) {
    expect((await client.post("/lease/acquire")).status).toBe(200);
    expect((await client.post(limitTarget(0, mw))).status).toBe(200);
  }
  rig.driver.fail(`${setter}@0=hang`);
  await second.kill();
  await rig.driver.called(`${setter} 0 hangs`);
  await rig.killDaemon();
  rig.driver.fail();
  expect(await rig.restore()).toMatchObject({ code: 0 });
  expect(rig.driver.gpus()[0]).toMatchObject(limit(200_000));
  await first.kill();
  expect(await rig.restore()).toMatchObject({ code: 0 });
  expect(rig.driver.gpus()[0]).toMatchObject(base);
});

it("with --all ends also the leases of those who live", async () => {
  const { rig, holder } = await orphaned();
  expect(await rig.restore("--all")).toMatchObject({ code: 0 });
  expect(rig.driver.gpus()).toMatchObject([base, base]);
  await rig.start();
  expect(await rig.leases()).toEqual([]);
  expect((await holder.post(limitTarget(0, 210_000))).status).toBe(200);
  await holder.kill();
  await rig.get("/time");
  expect(rig.driver.gpus()[0]).toMatchObject(limit(210_000));
});

it("puts back what is there, names a GPU that hangs or is missing, ends with 1 in time, and does the rest the next time", async () => {
  const { rig, holder } = await orphaned();
  await holder.kill();
  const courses = [
    { rules: [`${setter}@0=hang`], named: "GPU 0" },
    { rules: ["nvmlDeviceGetHandleByIndex_v2@0=code:15"], named: "GPU" },
  ];
  for (const { rules, named } of courses) {
    rig.driver.fail(...rules);
    const beganMs = performance.now();
    const { code, stdout } = await rig.restore();
    expect(performance.now() - beganMs).toBeLessThan(8_000);
    expect([code, stdout]).toEqual([1, expect.stringMatching(new RegExp(`${named}.* has still to be put back: \\S`))]);
    expect(rig.driver.gpus()).toMatchObject([limit(200_000), base]);
  }
  rig.driver.fail();
  expect(await rig.restore()).toMatchObject({ code: 0 });
  expect(rig.driver.gpus()).toMatchObject([base, base]);
});

it("is refused in one sentence where a daemon runs, which goes on", async () => {
  const { rig, holder } = await orphaned();
  const daemon = await rig.start();
  const { code, stderr } = await rig.restore();
  expect([code, stderr]).toEqual([
    1,
    expect.stringMatching(new RegExp(`^Error: Another zeusd \\(pid ${daemon.pid}\\)`, "m")),
  ]);
  expect((await holder.post(limitTarget(0, 210_000))).status).toBe(200);
  expect(rig.driver.gpus()[0]).toMatchObject(limit(210_000));
});
