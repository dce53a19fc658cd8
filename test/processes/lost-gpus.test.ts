// GPUs that go away while the daemon runs, and come back without a restart; and a driver that is replaced under its library.
import { existsSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { eventsOf, goesOn, gpuIds, launch, setter, start, write, writeTarget, written, type Driven } from "./driven.ts";
import { statusOrCut, type Answer } from "./http-client.ts";
import { refusal } from "./zeusd.ts";

const reading = "nvmlDeviceGetFieldValues";
const texts: Readonly<Record<number, string>> = {
  1: "NVML error: NVML was not first initialized with `Nvml::init()`",
  9: "NVML error: NVIDIA driver is not loaded",
  15: "NVML error: device fell off the bus or has otherwise become inacessible",
  16: "NVML error: device requires a reset before it can be used again",
};

interface Failed {
  readonly errors: Readonly<Record<string, string>>;
  readonly results: Readonly<Record<string, unknown>>;
  readonly code: string;
}

function json({ body }: Answer): Failed {
  return JSON.parse(body) as Failed;
}

describe("a GPU that goes away", () => {
  it("fails the call that meets it, is away for as long as it takes, and comes back under its id, whatever the code", async () => {
    const { daemon, driver } = await start({ gpus: 5 });
    const lost = Object.entries(texts).map(([code, text], id) => ({ id, code, text }));
    driver.fail(
      ...lost.flatMap(({ id, code }) => [
        `${setter}@${id}=code:${code}`,
        `nvmlDeviceGetHandleByUUID@${id}=code:${code}`,
      ]),
    );
    const ids = "0,1,2,3,4";
    const met = await write(daemon, { ids, mw: 150_000 });
    expect([met.status, json(met)]).toEqual([
      500,
      {
        errors: Object.fromEntries(lost.map(({ id, text }) => [id, text])),
        results: { 4: {} },
        code: "gpu_lost",
      },
    ]);
    const away = await write(daemon, { ids, mw: 160_000 });
    expect([away.status, json(away)]).toEqual([
      503,
      {
        errors: Object.fromEntries(lost.map(({ id, text }) => [id, `GPU ${id} is away: ${text}`])),
        results: { 4: {} },
        code: "gpu_away",
      },
    ]);
    expect(Number(away.headers["retry-after"])).toBeGreaterThan(0);
    const several = await write(daemon, { ids, mw: 170_000, block: false });
    expect([several.status, JSON.parse(several.body)]).toMatchObject([503, { code: "gpu_away" }]);
    expect((await daemon.stream("/gpu/stream_power?gpu_ids=0")).status).toBe(503);
    expect(await gpuIds(daemon)).toEqual([4]);

    driver.fail();
    await daemon.logged("All GPUs are there now");
    expect((await write(daemon, { ids, mw: 180_000 })).status).toBe(200);
    expect(await gpuIds(daemon)).toEqual([0, 1, 2, 3, 4]);
    const all = ids.split(",");
    expect(written(driver).toSorted()).toEqual(["150000@4", "160000@4", ...all.map((id) => `180000@${id}`)]);
    for (const id of lost.map((gpu) => gpu.id)) expect(daemon.stderr()).toContain(`GPU ${id} is there again`);
    expect(driver.calls().filter((line) => line.startsWith("nvmlShutdown"))).toEqual([]);
  });

  it("refuses what waits for it in the same moment; the driver never sees that", async () => {
    const { daemon, driver } = await start();
    driver.fail(`${setter}@0=hang,code:15`);
    const met = write(daemon, { mw: 150_000 });
    await driver.called(`${setter} 0 hangs`);
    const waiting = write(daemon, { mw: 160_000 });
    expect((await write(daemon, { mw: 170_000, block: false })).status).toBe(200);
    driver.fail(`${setter}@0=code:15`);
    expect([(await met).status, (await waiting).status]).toEqual([500, 503]);
    expect(json(await waiting)).toEqual({
      errors: { 0: `GPU 0 is away: ${texts[15]}` },
      results: {},
      code: "gpu_away",
    });
    await daemon.logged(`Dropped commands for GPU 0 that had been accepted, 1 of them: GPU 0 is away`);
    driver.fail();
    await daemon.logged("GPU 0 is there again");
    expect(driver.calls().filter((line) => line.startsWith(`${setter} 0 1`))).toEqual([`${setter} 0 150000 -> 15`]);
  });

  it("has its open power stream go on when it is back; that of another GPU never stands still", async () => {
    const { daemon, driver } = await start({ settings: { NVML_STUB_POWER: "changing" } });
    const stream = await daemon.stream("/gpu/stream_power?gpu_ids=0,1");
    await goesOn(stream, 0);
    driver.fail(`${reading}@0=code:15`, "nvmlDeviceGetHandleByUUID@0=code:15");
    await daemon.logged("Reading the power of GPU 0 fails");
    const before = eventsOf(stream, 0);
    await goesOn(stream, 1);
    expect((await write(daemon, { ids: "0" })).status).toBe(503);
    expect(eventsOf(stream, 0)).toBe(before);
    driver.fail();
    await goesOn(stream, 0);
    await goesOn(stream, 1);
    expect((await write(daemon, { ids: "0,1" })).status).toBe(200);
  });

  it("may be every GPU, with its driver: that is begun anew, and each GPU keeps its id", async () => {
    const { daemon, driver } = await start();
    driver.fail(`${setter}=code:9`, "nvmlInit_v2=code:9");
    expect(json(await write(daemon, { ids: "0,1" })).errors).toEqual({ 0: texts[9], 1: texts[9] });
    expect(await gpuIds(daemon)).toEqual([]);
    await driver.called("nvmlInit_v2 - 0 -> 9");
    expect(json(await write(daemon, { ids: "0,1" })).code).toBe("gpu_away");
    driver.fail("order@0=value:1", "order@1=value:0");
    await daemon.logged("All GPUs are there now");
    expect(await gpuIds(daemon)).toEqual([0, 1]);
    expect((await write(daemon, { ids: "0", mw: 150_000 })).status).toBe(200);
    expect(written(driver)).toEqual(["150000@0"]);
  });
});

describe("a driver that was replaced under its library", () => {
  const mismatch = "RM detects a driver/library version mismatch";

  async function expectEnd({ daemon, path }: Driven): Promise<void> {
    expect(await daemon.exit).toEqual({ code: 1, signal: null });
    expect(daemon.stderr()).toMatch(new RegExp(` ERROR .*only a new process can go on.*${mismatch}`));
    expect(existsSync(path)).toBe(false);
  }

  it("fails the call that meets it with 500, and the daemon ends with 1 and the reason, so that it is started anew", async () => {
    const driven = await start();
    const { daemon, driver } = driven;
    driver.fail(`${setter}@1=hang`);
    const other = write(daemon, { ids: "1" });
    await driver.called(`${setter} 1 hangs`);
    driver.fail(`${setter}@1=hang`, `${setter}@0=code:18`);
    const met = await write(daemon, { ids: "0" });
    expect([met.status, json(met)]).toEqual([
      500,
      { errors: { 0: `NVML error: ${mismatch}` }, results: {}, code: "driver_mismatch" },
    ]);
    await daemon.logged("only a new process can go on");
    driver.fail();
    expect((await other).status).toBe(200);
    await expectEnd(driven);
  });

  it("ends it also when a power stream meets it, or a look for a lost GPU", async () => {
    const streaming = await start();
    const stream = await streaming.daemon.stream("/gpu/stream_power");
    await stream.received(1);
    streaming.driver.fail(`${reading}@0=code:18`);
    const looking = await start();
    looking.driver.fail(`${setter}@0=code:15`, "nvmlDeviceGetHandleByUUID@0=code:18");
    expect((await write(looking.daemon)).status).toBe(500);
    await Promise.all([streaming, looking].map(expectEnd));
    expect(await stream.end).toBe("complete");
  });

  it.each(["nvmlInit_v2", "nvmlDeviceGetHandleByIndex_v2@0"])(
    "at the start is refused in one sentence, whichever backend is asked for (%s)",
    async (symbol) => {
      const driven = launch({ rules: [`${symbol}=code:18`] });
      expect(await driven.daemon.exit).toEqual({ code: 1, signal: null });
      expect(driven.daemon.stderr()).toMatch(new RegExp(`^Error: .*${mismatch}.*$`, "m"));
      const words = ["--allow-unprivileged", "--gpu-backend", "nvml", "--socket-path", driven.path];
      expect(await refusal(words, { env: driven.driver.env })).toContain(mismatch);
      expect(existsSync(driven.path)).toBe(false);
    },
  );
});

it("a daemon that is told to stop while a GPU is away ends at once", async () => {
  const { daemon, driver } = await start();
  driver.fail(`${setter}@0=code:15`, "nvmlDeviceGetHandleByUUID@0=hang");
  expect((await write(daemon)).status).toBe(500);
  await driver.called("nvmlDeviceGetHandleByUUID 0 hangs");
  const began = performance.now();
  daemon.signal("SIGTERM");
  expect(await daemon.exit).toEqual({ code: 0, signal: null });
  expect(performance.now() - began).toBeLessThan(2_000);
  expect(await statusOrCut(daemon.request(writeTarget(), { method: "POST" }))).toBe("cut");
});
