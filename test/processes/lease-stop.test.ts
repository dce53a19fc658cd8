// Leases over an orderly stop and a new start: what --on-stop says, whose state directory it is, and journals that are no use.
import { appendFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { describe, expect, it } from "vitest";
import { createFolder } from "../folder.ts";
import { alice, bob } from "./governed.ts";
import {
  base,
  createLeaseRig,
  limit,
  limitTarget,
  mostMs,
  whenSet,
  type HeldRig,
  type LeaseRig,
  type LeaseRigOptions,
} from "./lease-rig.ts";
import { refusal } from "./zeusd.ts";

/** A holder that has set the limit of GPU 0 to 200 W and its clocks to 300 to 900 MHz. */
async function hold(options: LeaseRigOptions = {}): Promise<HeldRig> {
  const rig = await createLeaseRig(options);
  await rig.start();
  const holder = await rig.clients.start(alice);
  const { body } = await holder.post("/lease/acquire?gpu_ids=0&exclusive=true&reason=night");
  expect((await holder.post(limitTarget(0, 200_000))).status).toBe(200);
  const clocks = "/gpu/set_gpu_locked_clocks?gpu_ids=0&min_clock_mhz=300&max_clock_mhz=900&block=true";
  expect((await holder.post(clocks)).status).toBe(200);
  return { rig, holder, lease: (JSON.parse(body) as { lease: number }).lease };
}

const held = { power_limit: "200000", gpu_clocks: "300-900" };
const free = { power_limit: "300000", gpu_clocks: "unlocked" };

async function stop({ daemon }: LeaseRig): Promise<void> {
  daemon().signal("SIGTERM");
  expect(await daemon().exit).toMatchObject({ code: 0 });
}

describe("--on-stop restore, which is the usual,", () => {
  it("ends all leases and puts back what they had changed before the daemon ends", async () => {
    const { rig, holder } = await hold();
    await stop(rig);
    expect(rig.driver.gpus()[0]).toMatchObject(free);
    await rig.start();
    expect(await rig.leases()).toEqual([]);
    expect((await holder.post(limitTarget(0, 210_000))).status).toBe(200);
    await holder.kill();
    await rig.get("/time");
    expect(rig.driver.gpus()[0]).toMatchObject(limit(210_000));
  });

  it("leaves what was written without a lease", async () => {
    const { rig } = await hold();
    expect((await rig.post(limitTarget(1, 250_000))).status).toBe(200);
    await stop(rig);
    expect(rig.driver.gpus()).toMatchObject([free, limit(250_000)]);
  });

  it("gives no number of a lease a second time", async () => {
    const { rig, holder, lease } = await hold();
    await stop(rig);
    await rig.start();
    const { body } = await holder.post("/lease/acquire");
    expect((JSON.parse(body) as { lease: number }).lease).toBeGreaterThan(lease);
  });
});

describe("--on-stop keep", () => {
  const keep = { args: ["--on-stop", "keep"] };

  it("leaves leases to the next start: their holders still have them, and others do not", async () => {
    const { rig, holder, lease } = await hold(keep);
    const before = await rig.leases();
    await stop(rig);
    expect(rig.driver.gpus()[0]).toMatchObject(held);
    await rig.start();
    expect(await rig.leases()).toEqual(before);
    expect(before).toMatchObject([{ lease, holder: { pid: holder.pid } }]);
    const stranger = await rig.clients.start(bob);
    expect((await stranger.post(limitTarget(0, 250_000))).status).toBe(423);
    expect((await holder.post(limitTarget(0, 210_000))).status).toBe(200);
    await holder.kill();
    expect(await whenSet(rig, 0, free)).toBeLessThan(mostMs);
  });

  it("has the next start put back what a holder that ended meanwhile had changed", async () => {
    const { rig, holder } = await hold(keep);
    await stop(rig);
    await holder.kill();
    await rig.start();
    expect(await whenSet(rig, 0, free)).toBeLessThan(mostMs);
    expect(await rig.leases()).toEqual([]);
  });

  it("has the next start end a lease whose time was up meanwhile", async () => {
    const { rig, holder } = await hold(keep);
    const { body } = await holder.post("/lease/acquire?gpu_ids=1&ttl_s=1");
    const { lease_id } = JSON.parse(body) as { lease_id: string };
    expect((await holder.post(limitTarget(1, 250_000, `&lease_id=${lease_id}`))).status).toBe(200);
    await stop(rig);
    await rig.start();
    expect(await whenSet(rig, 1, base)).toBeLessThan(mostMs);
    expect(rig.driver.gpus()[0]).toMatchObject(held);
  });
});

describe("a state directory", () => {
  it("is one daemon's: another one on it is refused in a sentence that says whose it is, and the first goes on", async () => {
    const { rig, holder } = await hold();
    const socket = ["--allow-unprivileged", "--socket-path", `${rig.path}.other`];
    const text = await refusal([...socket, "--state-dir", rig.stateDir], { env: rig.driver.env });
    expect(text).toContain(`Another zeusd (pid ${rig.daemon().pid}) uses the state directory '${rig.stateDir}'`);
    expect(text).toContain("--state-dir");
    expect(existsSync(`${rig.path}.other`)).toBe(false);
    expect((await holder.post(limitTarget(0, 210_000))).status).toBe(200);
  });

  it("is free as soon as its daemon has been killed", async () => {
    const { rig } = await hold();
    await rig.killDaemon();
    await rig.start();
    expect(await rig.leases()).toHaveLength(1);
  });

  it("may be another than the usual, which zeusd restore is told as well", async () => {
    const { rig, holder } = await hold({ args: ["--state-dir", join(createFolder(), "a", "state")] });
    expect(existsSync(rig.stateDir)).toBe(false);
    await rig.killDaemon();
    await holder.kill();
    expect(await rig.restore()).toMatchObject({ code: 0 });
    expect(rig.driver.gpus()[0]).toMatchObject(free);
  });
});

function line(json: string): string {
  return `${crc32(json).toString(16).padStart(8, "0")} ${json}\n`;
}

describe("a journal that is no use", () => {
  function change(text: string, from: RegExp, to: string): string {
    const [header = "", ...rest] = text.split("\n");
    return [line(header.slice(9).replace(from, to)).trimEnd(), ...rest].join("\n");
  }
  const courses: readonly (readonly [string, (text: string) => string, RegExp | undefined, RegExp])[] = [
    ["is damaged", (text) => text.replace("200000", "100000"), /^leases\.journal\.damaged-/, / ERROR .*checksum/],
    ["is no journal", () => "what is this\n", /^leases\.journal\.damaged-/, / ERROR .*line 1/],
    [
      "is newer",
      (text) => change(text, /"version":1/, '"version":2'),
      /^leases\.journal\.newer-/,
      / ERROR .*version 2/,
    ],
    ["is of another boot", (text) => change(text, /"boot_id":"[^"]+"/, '"boot_id":"x"'), undefined, / INFO .*anew/],
  ];

  it.each(courses)("since it %s: the daemon says so, guesses nothing and serves", async (_, spoil, aside, said) => {
    const { rig, holder } = await hold();
    await rig.killDaemon();
    await holder.kill();
    writeFileSync(rig.journalPath, spoil(readFileSync(rig.journalPath, "utf8")));
    const daemon = await rig.start();
    const others = readdirSync(rig.stateDir).filter((name) => !["lock", "leases.journal"].includes(name));
    expect(others).toEqual(aside ? [expect.stringMatching(aside)] : []);
    expect(daemon.stderr()).toMatch(said);
    if (aside) expect(daemon.stderr()).toContain(join(rig.stateDir, others[0] ?? ""));
    expect(await rig.leases()).toEqual([]);

    const next = await rig.clients.start(alice);
    await next.post("/lease/acquire");
    expect((await next.post(limitTarget(1, 210_000))).status).toBe(200);
    await next.kill();
    expect(await whenSet(rig, 1, base)).toBeLessThan(mostMs);
    expect(rig.driver.gpus()[0]).toMatchObject(held);
  });

  it("for its last line alone, which was never finished, loses no more than that", async () => {
    const { rig, holder } = await hold();
    await rig.killDaemon();
    appendFileSync(rig.journalPath, '01234567 {"record":"layer","lea');
    await rig.start();
    expect(await rig.leases()).toHaveLength(1);
    await holder.kill();
    expect(await whenSet(rig, 0, free)).toBeLessThan(mostMs);
  });
});
