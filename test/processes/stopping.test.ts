// How the daemon ends: what is in flight, what comes meanwhile, and what is left behind.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { createDriver, type Driver } from "./driver.ts";
import { createFolder } from "./folder.ts";
import { eventually, statusOrCut } from "./http-client.ts";
import { startZeusd, type Zeusd } from "./zeusd.ts";

const setter = "nvmlDeviceSetPowerManagementLimit";
const orderly = { code: 0, signal: null };

interface Subject {
  readonly driver: Driver;
  readonly daemon: Zeusd;
  readonly path: string;
}

async function start({ gpus = 2 } = {}): Promise<Subject> {
  const driver = createDriver({ gpus });
  const path = join(createFolder(), "zeusd.sock");
  const daemon = startZeusd(["--allow-unprivileged", "--socket-path", path], { env: driver.env });
  await daemon.listening();
  return { driver, daemon, path };
}

function write(daemon: Zeusd, { gpu_ids = "0", power_limit_mw = 200_000, block = true }): Promise<number | "cut"> {
  const target = `/gpu/set_power_limit?gpu_ids=${gpu_ids}&power_limit_mw=${power_limit_mw}&block=${block}`;
  return statusOrCut(daemon.request(target, { method: "POST" }));
}

/** A blocking write that the driver has begun and does not end. */
async function hangingWrite({ daemon, driver }: Subject): Promise<{ readonly status: Promise<number | "cut"> }> {
  driver.fail(`${setter}@0=hang`);
  const status = write(daemon, {});
  await driver.called(`${setter} 0 hangs`);
  return { status };
}

async function exitWithin(ms: number, daemon: Zeusd): Promise<void> {
  const began = performance.now();
  expect(await daemon.exit).toEqual(orderly);
  expect(performance.now() - began).toBeLessThan(ms);
}

it("on SIGHUP goes on", async () => {
  const { daemon } = await start();
  daemon.signal("SIGHUP");
  await daemon.logged("SIGHUP");
  expect((await daemon.request("/time")).status).toBe(200);
});

describe("on SIGTERM", () => {
  it("that comes as soon as its socket is there, ends with 0 and removes it", async () => {
    const path = join(createFolder(), "zeusd.sock");
    const daemon = startZeusd(["--sim", "1xh100", "--socket-path", path]);
    await eventually(() => existsSync(path));
    daemon.signal("SIGTERM");
    expect(await daemon.exit).toEqual(orderly);
    expect(existsSync(path)).toBe(false);
  });

  it("that comes while the driver hangs at the start, ends within 5 s", async () => {
    const driver = createDriver({ gpus: 1 });
    driver.fail("nvmlInit_v2=hang");
    const daemon = startZeusd(["--allow-unprivileged", "--socket-path", join(createFolder(), "zeusd.sock")], {
      env: driver.env,
    });
    await driver.called("nvmlInit_v2 - hangs");
    daemon.signal("SIGTERM");
    await exitWithin(5_000, daemon);
  });

  it("answers the write that the driver is at, then ends with 0 and removes its socket", async () => {
    const subject = await start();
    const { daemon, driver, path } = subject;
    const { status } = await hangingWrite(subject);
    daemon.signal("SIGTERM");
    await daemon.logged("SIGTERM");
    driver.fail();
    expect(await status).toBe(200);
    expect(await daemon.exit).toEqual(orderly);
    expect(existsSync(path)).toBe(false);
  });

  it("finishes the writes that it answered without waiting for the driver", async () => {
    const { daemon, driver } = await start();
    driver.fail(`${setter}=hang`);
    expect(await write(daemon, { power_limit_mw: 150_000, block: false })).toBe(200);
    expect(await write(daemon, { power_limit_mw: 160_000, block: false })).toBe(200);
    await driver.called(`${setter} 0 hangs`);
    daemon.signal("SIGTERM");
    await daemon.logged("SIGTERM");
    driver.fail();
    expect(await daemon.exit).toEqual(orderly);
    expect(driver.calls().filter((line) => line.startsWith(setter))).toEqual([
      `${setter} 0 hangs`,
      `${setter} 0 150000 -> 0`,
      `${setter} 0 160000 -> 0`,
    ]);
  });

  it("refuses what comes while it waits for the driver, and says that it is stopping where it still can", async () => {
    const subject = await start();
    const { daemon, driver } = subject;
    const { status } = await hangingWrite(subject);
    const begun = await daemon.connect();
    begun.socket.write("GET /time HTTP/1.1\r\nHost: ");
    const idle = await daemon.connect();
    idle.socket.write("GET /time HTTP/1.1\r\nHost: x\r\n\r\n");
    await eventually(() => idle.text().includes("timestamp_ms"));
    const before = idle.text();

    daemon.signal("SIGTERM");
    await daemon.logged("SIGTERM");
    for (const { socket } of [begun, idle]) socket.write("x\r\n\r\n");
    expect(await statusOrCut(daemon.request("/time"))).toBe("cut");
    await idle.closed;
    expect(idle.text()).toBe(before);
    await begun.closed;
    if (begun.text() !== "") {
      expect(begun.text()).toMatch(/^HTTP\/1\.1 503 /);
      expect(begun.text()).toMatch(/"code":"stopping"/);
    }
    driver.fail();
    expect(await status).toBe(200);
    expect(await daemon.exit).toEqual(orderly);
  });

  it("ends all streams at once and properly, and waits for none of their clients", async () => {
    const { daemon, path } = await start();
    const targets = ["/gpu/stream_power", "/gpu/stream_power?gpu_ids=1", "/cpu/stream_power", "/gpu/stream_power"];
    const streams = await Promise.all(targets.map((target) => daemon.stream(target)));
    await streams[0]?.received(1);
    daemon.signal("SIGTERM");
    await exitWithin(2_000, daemon);
    expect(await Promise.all(streams.map(({ end }) => end))).toEqual(streams.map(() => "complete"));
    expect(existsSync(path)).toBe(false);
  });

  it("ends within 5 s though driver calls never do, be it one GPU's or those of 64", async () => {
    const daemons = [1, 64].map(async (gpus) => {
      const { daemon, driver, path } = await start({ gpus });
      driver.fail(`${setter}=hang`);
      const status = write(daemon, { gpu_ids: Array.from({ length: gpus }, (_, id) => id).join(",") });
      await driver.called(/ hangs$/, Math.min(gpus, 60));
      daemon.signal("SIGTERM");
      await exitWithin(5_000, daemon);
      expect(await status).toBe("cut");
      expect(existsSync(path)).toBe(false);
    });
    await Promise.all(daemons);
  });

  it("ends at once when a second signal comes", async () => {
    const subject = await start();
    const { status } = await hangingWrite(subject);
    subject.daemon.signal("SIGTERM");
    await subject.daemon.logged("SIGTERM");
    subject.daemon.signal("SIGINT");
    await exitWithin(2_000, subject.daemon);
    expect(await status).toBe("cut");
    expect(existsSync(subject.path)).toBe(false);
  });
});

describe.each(["SIGINT", "SIGQUIT"] as const)("on %s", (signal) => {
  it("cuts every connection, ends with 0 and removes its socket", async () => {
    const subject = await start();
    const { daemon, driver, path } = subject;
    const stream = await daemon.stream("/gpu/stream_power?gpu_ids=1");
    const idle = await daemon.connect();
    const { status } = await hangingWrite(subject);
    daemon.signal(signal);
    expect(await status).toBe("cut");
    expect(await stream.end).toBe("cut");
    await idle.closed;
    driver.fail();
    expect(await daemon.exit).toEqual(orderly);
    expect(existsSync(path)).toBe(false);
  });
});

describe("without anything to wait for", () => {
  it.each(["SIGTERM", "SIGINT", "SIGQUIT"] as const)("ends at once on %s", async (signal) => {
    const path = join(createFolder(), "zeusd.sock");
    const daemon = startZeusd(["serve", "--sim", "2xh100", "--socket-path", path]);
    expect((await daemon.request("/gpu/get_power")).status).toBe(200);
    daemon.signal(signal);
    await exitWithin(2_000, daemon);
    expect(existsSync(path)).toBe(false);
  });
});
