// A journal for which there is no room: nothing is changed that could not be put back, and all else goes on.
import { execFileSync, spawnSync } from "node:child_process";
import { rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { createFolder } from "../folder.ts";
import { alice, bob, codeOf, health, isWell } from "./governed.ts";
import { eventually } from "./http-client.ts";
import { base, createLeaseRig, limit, limitTarget, mostMs, whenSet, type LeaseRig } from "./lease-rig.ts";
import { isRoot } from "./ordinary-user.ts";

interface Disk {
  readonly rig: LeaseRig;
  /** Leaves no room for another record. */
  fill(): void;
  empty(): void;
}

/** A limit on the size of files. The driver writes no log, which would be larger than the journal. */
async function limited(): Promise<Disk> {
  const rig = await createLeaseRig({ settings: { NVML_STUB_LOG: "" } });
  const setLimit = (bytes: string): void => {
    const words = ["-c", `prlimit --pid "$1" --fsize="$2"`, "sh", String(rig.daemon().pid), `${bytes}:`];
    execFileSync("sh", words);
  };
  return {
    rig,
    // Half a record would still fit, as on a disk.
    fill: () => setLimit(String(statSync(rig.journalPath).size + 50)),
    empty: () => setLimit("unlimited"),
  };
}

const ownMounts = ["unshare", "--mount", "sh", "-c"];
const canMount = isRoot && spawnSync("unshare", ["--mount", "mount", "-t", "tmpfs", "x", "/mnt"]).status === 0;

/** A file system of two pages, which the daemon alone sees; we see it through /proc. */
async function small(): Promise<Disk> {
  const folder = createFolder();
  const mount = `mount -t tmpfs -o size=32k,nr_inodes=20 zeusd-test ${folder} && exec "$@"`;
  const rig = await createLeaseRig({
    args: ["--state-dir", join(folder, "state")],
    through: [...ownMounts, mount, "sh"],
  });
  const filler = (): string => `/proc/${rig.daemon().pid}/root${folder}/filler`;
  return {
    rig,
    fill() {
      for (let bytes = 32 * 1024; bytes >= 1; bytes = Math.floor(bytes / 2)) {
        try {
          writeFileSync(filler(), Buffer.alloc(bytes), { flag: "a" });
        } catch {
          // Less may still fit.
        }
      }
    },
    empty: () => rmSync(filler()),
  };
}

/** Where we may mount nothing, a limit has to do. */
const disks: readonly (readonly [string, () => Promise<Disk>])[] = [
  ["a file may not grow any more", limited],
  ...(canMount ? ([["the disk is full", small]] as const) : []),
];

it.each(disks)(
  "when %s, writes within leases get 503 and change nothing, others go on, and it heals by itself",
  async (_, create) => {
    const { rig, fill, empty } = await create();
    await rig.start();
    const holder = await rig.clients.start(alice);
    expect((await holder.post("/lease/acquire?gpu_ids=0,1&reason=before")).status).toBe(200);
    expect((await holder.post(limitTarget(0, 200_000))).status).toBe(200);

    fill();
    // What fits into what is left of a page or of the limit is written still.
    let mw = 200_000;
    await eventually(async () => {
      mw += 100;
      return (await holder.post(limitTarget(0, mw))).status === 503;
    });
    const refused = await holder.post(limitTarget(1, 210_000));
    expect([refused.status, codeOf(refused)]).toEqual([503, "journal_unavailable"]);
    expect(rig.driver.gpus()).toMatchObject([limit(mw - 100), base]);
    const stranger = await rig.clients.start(bob);
    const other = await stranger.post("/lease/acquire?gpu_ids=1");
    expect([other.status, codeOf(other)]).toEqual([503, "journal_unavailable"]);
    expect((await stranger.post(limitTarget(1, 250_000))).status).toBe(200);
    expect(rig.driver.gpus()[1]).toMatchObject(limit(250_000));
    expect((await rig.get("/gpu/get_power_limit")) as object).toMatchObject({ 1: { power_limit_mw: 250_000 } });
    expect(await health(rig.daemon())).toMatchObject({ status: "degraded", problems: { journal: expect.any(String) } });
    expect(rig.daemon().stderr()).toMatch(/ ERROR .*journal of leases cannot be written/);

    empty();
    await eventually(async () => (await holder.post(limitTarget(0, 220_000))).status === 200);
    expect(rig.driver.gpus()[0]).toMatchObject(limit(220_000));
    await eventually(async () => JSON.stringify(await health(rig.daemon())) === JSON.stringify(isWell));
    expect((await stranger.post("/lease/acquire?gpu_ids=1")).status).toBe(200);
    expect((await stranger.post(limitTarget(1, 260_000))).status).toBe(200);
    await stranger.kill();
    expect(await whenSet(rig, 1, limit(250_000))).toBeLessThan(mostMs);
    await holder.kill();
    expect(await whenSet(rig, 0, base)).toBeLessThan(mostMs);
  },
);

it.each(disks)("when %s as a holder dies, what it had changed is put back all the same", async (_, create) => {
  const { rig, fill, empty } = await create();
  await rig.start();
  const holder = await rig.clients.start(alice);
  expect((await holder.post("/lease/acquire")).status).toBe(200);
  for (const gpu of [0, 1]) expect((await holder.post(limitTarget(gpu, 200_000))).status).toBe(200);
  fill();
  await holder.kill();
  expect(await whenSet(rig, 0, base)).toBeLessThan(mostMs);
  expect(await whenSet(rig, 1, base)).toBeLessThan(mostMs);
  empty();
  await eventually(async () => JSON.stringify(await health(rig.daemon())) === JSON.stringify(isWell));
});
