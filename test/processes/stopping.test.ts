// How the daemon ends: what is in flight, what comes meanwhile, and what is left behind.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { launch, noticed, setter, start, write, written, type Driven, type Write } from "./driven.ts";
import { createFolder } from "../folder.ts";
import { eventually, statusOrCut } from "./http-client.ts";
import { startZeusd, type Zeusd } from "./zeusd.ts";

const orderly = { code: 0, signal: null };

function writeStatus(daemon: Zeusd, what: Write = {}): Promise<number | "cut"> {
  return statusOrCut(write(daemon, what));
}

/** A blocking write that the driver has begun and does not end. */
async function hangingWrite({ daemon, driver }: Driven): Promise<{ readonly status: Promise<number | "cut"> }> {
  driver.fail(`${setter}@0=hang`);
  const status = writeStatus(daemon);
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
    const { daemon, driver } = launch({ rules: ["nvmlInit_v2=hang"] });
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
    expect(await writeStatus(daemon, { mw: 150_000, block: false })).toBe(200);
    expect(await writeStatus(daemon, { mw: 160_000, block: false })).toBe(200);
    await driver.called(`${setter} 0 hangs`);
    daemon.signal("SIGTERM");
    await daemon.logged("SIGTERM");
    driver.fail();
    expect(await daemon.exit).toEqual(orderly);
    expect(written(driver)).toEqual(["150000@0", "160000@0"]);
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

  it("ends within 5 s though driver calls never do, be it one GPU's or those of 64, and all that wait are answered", async () => {
    const courses = [
      { gpus: 1, args: [], statuses: [503, 504] },
      { gpus: 1, args: ["--device-timeout-ms", "60000"], statuses: [503, 504] },
      { gpus: 64, args: ["--device-timeout-ms", "60000", "--num-workers", "200"], statuses: [503, 504] },
    ].map(async ({ gpus, args, statuses }) => {
      const { daemon, driver, path } = await start({ gpus, args });
      driver.fail(`${setter}=hang`);
      const ids = Array.from({ length: gpus }, (_, id) => id).join(",");
      const running = write(daemon, { ids });
      await driver.called(/ hangs$/, gpus);
      const waiting = [write(daemon, { ids, mw: 150_000 }), write(daemon, { ids, mw: 160_000, block: false })];
      expect((await waiting[1])?.status).toBe(200);
      daemon.signal("SIGTERM");
      await exitWithin(5_000, daemon);
      for (const answer of [running, ...waiting.slice(0, 1)]) {
        const { status, body } = await answer;
        expect(statuses).toContain(status);
        expect(body).toMatch(/"code":"(stopping|deadline|lane_stuck)"/);
      }
      expect(daemon.stderr()).toMatch(/ WARN .*the driver is still at (.*, )?set_power_limit on GPU 0 \(\d+\.\d s\)/);
      expect(daemon.stderr()).toMatch(/ WARN .*Dropped commands for GPU 0 that had been accepted, 1 of them/);
      expect(existsSync(path)).toBe(false);
      expect(written(driver)).toEqual([]);
    });
    await Promise.all(courses);
  });

  it("runs what waits as far as time permits, though one call hangs only now; the rest is refused", async () => {
    const { daemon, driver, path } = await start({ args: ["--device-timeout-ms", "60000"] });
    const reading = "nvmlDeviceGetPowerManagementLimit";
    driver.fail(`${setter}@0=hang`, `${reading}@0=hang`);
    const first = writeStatus(daemon);
    await driver.called(`${setter} 0 hangs`);
    const second = statusOrCut(daemon.request("/gpu/get_power_limit?gpu_ids=0"));
    await noticed(daemon);
    const third = writeStatus(daemon, { mw: 150_000 });
    await noticed(daemon);
    daemon.signal("SIGTERM");
    await daemon.logged("SIGTERM");
    driver.fail(`${reading}@0=hang`);
    await driver.called(`${reading} 0 hangs`);
    expect(await first).toBe(200);
    await exitWithin(5_000, daemon);
    expect([await second, await third]).toEqual([504, 503]);
    expect(daemon.stderr()).toMatch(/still at get_power_limit on GPU 0/);
    expect(written(driver)).toEqual(["200000@0"]);
    expect(existsSync(path)).toBe(false);
  });

  it("runs all that waits where time permits, in order", async () => {
    const { daemon, driver } = await start();
    driver.fail(`${setter}@0=hang`);
    const statuses: Promise<number | "cut">[] = [];
    for (const mw of [110_000, 120_000, 130_000]) {
      statuses.push(writeStatus(daemon, { mw }));
      await noticed(daemon);
    }
    await driver.called(`${setter} 0 hangs`);
    daemon.signal("SIGTERM");
    await daemon.logged("SIGTERM");
    driver.fail();
    expect(await Promise.all(statuses)).toEqual([200, 200, 200]);
    expect(await daemon.exit).toEqual(orderly);
    expect(written(driver)).toEqual(["110000@0", "120000@0", "130000@0"]);
  });

  it("ends at once though the reading of a GPU's power hangs", async () => {
    const { daemon, driver } = await start({ args: ["--device-timeout-ms", "400"] });
    const stream = await daemon.stream("/gpu/stream_power?gpu_ids=0");
    await stream.received(1);
    driver.fail("nvmlDeviceGetFieldValues@0=hang");
    await daemon.logged("Reading the power of GPU 0 has not returned");
    daemon.signal("SIGTERM");
    await exitWithin(2_000, daemon);
    expect(await stream.end).toBe("complete");
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

  it("ends within 2 s though a driver call hangs, and the log says what it leaves undone", async () => {
    const subject = await start({ args: ["--device-timeout-ms", "60000"] });
    const { daemon, driver, path } = subject;
    const { status } = await hangingWrite(subject);
    for (const mw of [150_000, 160_000]) expect(await writeStatus(daemon, { mw, block: false })).toBe(200);
    const waiting = writeStatus(daemon, { mw: 170_000 });
    await noticed(daemon);
    daemon.signal(signal);
    await exitWithin(2_000, daemon);
    expect([await status, await waiting]).toEqual(["cut", "cut"]);
    expect(daemon.stderr()).toMatch(
      / WARN .*Dropped commands for GPU 0 that had been accepted, 2 of them: The daemon is stopping/,
    );
    expect(daemon.stderr()).toMatch(/ WARN .*the driver is still at set_power_limit on GPU 0 \(\d+\.\d s\)/);
    expect(existsSync(path)).toBe(false);
    expect(written(driver)).toEqual([]);
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
