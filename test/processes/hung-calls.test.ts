// Driver calls that hang: whatever they hold up, it is not another device, and not the daemon.
import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdirSync, openSync, renameSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { NvmlSymbol } from "../../src/native/nvml.ts";
import { eventsOf, goesOn, gpuIds, launch, noticed, setter, start, write, written, type Driven } from "./driven.ts";
import { createDriver } from "./driver.ts";
import { createFolder } from "../folder.ts";
import { eventually, type Answer } from "./http-client.ts";
import { refusal, type Zeusd } from "./zeusd.ts";

const quick = ["--device-timeout-ms", "400"];

/** A powercap tree with so many CPU packages. */
function createPowercap(packages = 1): string {
  const root = createFolder();
  for (let id = 0; id < packages; id += 1) {
    const zone = join(root, `intel-rapl:${id}`);
    mkdirSync(zone);
    const files = { name: `package-${id}`, energy_uj: "123456", max_energy_range_uj: "262143328850" };
    for (const [name, text] of Object.entries(files)) writeFileSync(join(zone, name), `${text}\n`);
  }
  return root;
}

function codeOf({ body }: Answer): unknown {
  return body === "" ? undefined : (JSON.parse(body) as { code?: unknown }).code;
}

describe("a call that hangs", () => {
  it("is answered with 504 in time, and what comes for its GPU with 503 until it returns; others notice nothing", async () => {
    const { daemon, driver } = await start({ args: quick });
    driver.fail(`${setter}@0=hang`);
    const late = await write(daemon, { ids: "0,1", mw: 150_000 });
    expect([late.status, JSON.parse(late.body)]).toEqual([
      504,
      { errors: { 0: expect.stringContaining("set_power_limit on GPU 0") }, results: { 1: {} }, code: "deadline" },
    ]);
    await daemon.logged("GPU 0 is stuck");
    for (const block of [true, false]) {
      const refused = await write(daemon, { mw: 160_000, block });
      expect([refused.status, codeOf(refused)]).toEqual([503, "lane_stuck"]);
      expect(refused.body).toContain("set_power_limit has not returned");
      expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0);
    }
    expect((await write(daemon, { ids: "1", mw: 170_000 })).status).toBe(200);
    const read = await daemon.request("/gpu/get_power_limit");
    expect([read.status, JSON.parse(read.body)]).toMatchObject([503, { results: { 1: { power_limit_mw: 170_000 } } }]);

    driver.fail();
    await daemon.logged("GPU 0 works again");
    expect(daemon.stderr()).toMatch(/ WARN .*set_power_limit on GPU 0 returned after \d+\.\d s, with success/);
    expect((await write(daemon, { mw: 180_000 })).status).toBe(200);
    expect(written(driver)).toEqual(["150000@1", "170000@1", "150000@0", "180000@0"]);
  });

  it("has what waits behind it refused, also what nobody waits for, which the log tells; the driver never sees it", async () => {
    const { daemon, driver } = await start({ args: quick });
    driver.fail(`${setter}@0=hang`);
    const running = write(daemon, { mw: 150_000, block: false });
    await driver.called(`${setter} 0 hangs`);
    expect((await write(daemon, { mw: 160_000, block: false })).status).toBe(200);
    const waiting = await write(daemon, { mw: 170_000 });
    expect(["deadline", "lane_stuck"]).toContain(codeOf(waiting));
    await daemon.logged("Dropped commands for GPU 0 that had been accepted, 1 of them: GPU 0 is stuck");
    driver.fail();
    await daemon.logged("GPU 0 works again");
    expect((await running).status).toBe(200);
    expect((await write(daemon, { mw: 180_000 })).status).toBe(200);
    expect(written(driver)).toEqual(["150000@0", "180000@0"]);
  });

  it("has what waits behind it run in the order in which it came, whether anybody waits for that or not", async () => {
    const { daemon, driver } = await start({ args: ["--device-timeout-ms", "60000"] });
    driver.fail(`${setter}@0=hang`);
    expect((await write(daemon, { mw: 110_000, block: false })).status).toBe(200);
    await driver.called(`${setter} 0 hangs`);
    const rest: Promise<Answer>[] = [];
    for (const [index, block] of [false, true, false, true].entries()) {
      rest.push(write(daemon, { mw: 120_000 + 10_000 * index, block }));
      await noticed(daemon);
    }
    driver.fail();
    expect((await Promise.all(rest)).map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    expect(written(driver)).toEqual(["110000@0", "120000@0", "130000@0", "140000@0", "150000@0"]);
  });
});

/** What uses a function of the driver: an operation, or how GPUs are opened, or opened anew. */
type Use =
  | readonly [line: string, ...rules: readonly string[]]
  | "opening"
  | "all opening"
  | "opening anew"
  | "closing";

const noFields = ["field186.0=code:3", "field186.1=code:3"];
const clocks = "min_clock_mhz=210&max_clock_mhz=1500";

const uses: Readonly<Record<NvmlSymbol, Use>> = {
  nvmlInit_v2: "all opening",
  nvmlShutdown: "closing",
  nvmlDeviceGetCount_v2: "all opening",
  nvmlDeviceGetHandleByIndex_v2: "opening",
  nvmlDeviceGetHandleByUUID: "opening anew",
  nvmlDeviceGetName: "opening",
  nvmlDeviceGetUUID: "opening",
  nvmlDeviceGetPciInfo_v3: "opening",
  nvmlDeviceSetPersistenceMode: ["POST /gpu/set_persistence_mode?enabled=true"],
  nvmlDeviceGetPersistenceMode: ["GET /gpu/get_persistence_mode?"],
  nvmlDeviceSetPowerManagementLimit: ["POST /gpu/set_power_limit?power_limit_mw=200000"],
  nvmlDeviceGetPowerManagementLimit: ["GET /gpu/get_power_limit?"],
  nvmlDeviceGetEnforcedPowerLimit: ["GET /gpu/get_enforced_power_limit?"],
  nvmlDeviceGetPowerManagementDefaultLimit: ["GET /gpu/get_default_power_limit?"],
  nvmlDeviceGetPowerManagementLimitConstraints: ["GET /gpu/get_power_limit_constraints?"],
  nvmlDeviceSetGpuLockedClocks: [`POST /gpu/set_gpu_locked_clocks?${clocks}`],
  nvmlDeviceResetGpuLockedClocks: ["POST /gpu/reset_gpu_locked_clocks?"],
  nvmlDeviceSetMemoryLockedClocks: [`POST /gpu/set_mem_locked_clocks?${clocks}`],
  nvmlDeviceResetMemoryLockedClocks: ["POST /gpu/reset_locked_clocks?"],
  nvmlDeviceGetClockInfo: ["GET /gpu/get_clocks?"],
  nvmlDeviceGetSupportedMemoryClocks: ["GET /gpu/get_supported_clocks?"],
  nvmlDeviceGetSupportedGraphicsClocks: ["GET /gpu/get_supported_clocks?"],
  nvmlDeviceGetCurrentClocksThrottleReasons: ["GET /gpu/get_throttle_reasons?"],
  nvmlDeviceGetTotalEnergyConsumption: ["GET /gpu/get_cumulative_energy?"],
  nvmlDeviceGetFieldValues: ["GET /gpu/get_power?"],
  nvmlDeviceGetPowerUsage: ["GET /gpu/get_power?", ...noFields],
};

function symbolsOf(...kinds: readonly Use[]): readonly string[] {
  return Object.entries(uses).flatMap(([symbol, use]) => (kinds.includes(use) ? [symbol] : []));
}

function ask(daemon: Zeusd, line: string, gpu: number): Promise<Answer> {
  const [method = "", target = ""] = line.split(" ");
  const block = method === "POST" ? "&block=true" : "";
  return daemon.request(`${target}&gpu_ids=${gpu}${block}`, { method: method as "GET" | "POST" });
}

describe("a hang in each function of the driver", () => {
  it("that an operation uses: 504, then 503, and 200 again when it is over; all the while 200 for another GPU", async () => {
    const operations = Object.entries(uses).flatMap(([symbol, use]) => {
      if (typeof use === "string") return [];
      const [line, ...rules] = use;
      return [{ symbol, line, rules }];
    });
    // Each function hangs on a GPU of its own; the last GPU is well.
    const well = operations.length;
    const { daemon, driver } = await start({ gpus: well + 1, args: quick });
    const rules = operations.flatMap((operation, gpu) => [
      `${operation.symbol}@${gpu}=hang`,
      ...operation.rules.map((rule) => rule.replace("=", `@${gpu}=`)),
    ]);
    driver.fail(...rules);
    const course = await Promise.all(
      operations.map(async ({ symbol, line }, gpu) => {
        const late = await ask(daemon, line, gpu);
        const hangs = driver.calls().includes(`${symbol} ${gpu} hangs`);
        await daemon.logged(`GPU ${gpu} is stuck`);
        const stuck = await ask(daemon, line, gpu);
        const other = await ask(daemon, line, well);
        return [symbol, hangs, late.status, stuck.status, other.status];
      }),
    );
    expect(course).toEqual(operations.map(({ symbol }) => [symbol, true, 504, 503, 200]));
    driver.fail();
    const after = await Promise.all(
      operations.map(async ({ symbol, line }, gpu) => {
        await daemon.logged(`GPU ${gpu} works again`);
        return [symbol, (await ask(daemon, line, gpu)).status];
      }),
    );
    expect(after).toEqual(operations.map(({ symbol }) => [symbol, 200]));
  });

  it("that opens a GPU: the daemon starts in time and serves the others, and that GPU when it is over", async () => {
    const symbols = symbolsOf("opening");
    const began = performance.now();
    const courses = symbols.map(async (symbol) => {
      const { daemon, driver } = launch({ args: quick, rules: [`${symbol}@0=hang`] });
      await daemon.listening();
      const startedMs = performance.now() - began;
      expect(await gpuIds(daemon)).toEqual([1]);
      expect((await write(daemon, { ids: "0" })).status).toBe(503);
      expect((await write(daemon, { ids: "1" })).status).toBe(200);
      expect(daemon.stderr()).toMatch(/ WARN .*GPU 0 .*has not answered/);
      driver.fail();
      await eventually(async () => (await write(daemon, { ids: "0" })).status === 200);
      expect(await gpuIds(daemon)).toEqual([0, 1]);
      return [symbol, startedMs < 8_000];
    });
    expect(await Promise.all(courses)).toEqual(symbols.map((symbol) => [symbol, true]));
  });

  it("that opens the driver: the daemon starts in time and serves what is there, and the GPUs when it is over", async () => {
    const symbols = symbolsOf("all opening");
    const began = performance.now();
    const courses = symbols.map(async (symbol) => {
      const args = [...quick, "--powercap-root", createPowercap()];
      const { daemon, driver } = launch({ args, rules: [`${symbol}=hang`] });
      await daemon.listening();
      const startedMs = performance.now() - began;
      expect(await gpuIds(daemon)).toEqual([]);
      expect((await daemon.request("/cpu/get_cumulative_energy?cpu=true&dram=true")).status).toBe(200);
      expect(daemon.stderr()).toMatch(/ WARN .*has not answered/);
      driver.fail();
      await eventually(async () => (await gpuIds(daemon)).length === 2);
      expect((await write(daemon, { ids: "0,1" })).status).toBe(200);
      return [symbol, startedMs < 8_000];
    });
    expect(await Promise.all(courses)).toEqual(symbols.map((symbol) => [symbol, true]));
  });

  it("that opens a lost GPU anew: the others are served, and that GPU when it is over", async () => {
    for (const symbol of symbolsOf("opening anew")) {
      const { daemon, driver } = await start({ args: quick });
      driver.fail(`${setter}@0=code:15`, `${symbol}@0=hang`);
      expect((await write(daemon)).status).toBe(500);
      await driver.called(`${symbol} 0 hangs`);
      expect([(await write(daemon)).status, (await write(daemon, { ids: "1" })).status]).toEqual([503, 200]);
      driver.fail();
      await eventually(async () => (await write(daemon)).status === 200);
    }
  });

  it("that closes a driver whose GPUs are all lost: the daemon goes on, and serves them when it is over", async () => {
    for (const symbol of symbolsOf("closing")) {
      const { daemon, driver } = await start({ args: quick });
      driver.fail(`${setter}=code:15`, `${symbol}=hang`);
      expect((await write(daemon, { ids: "0,1" })).status).toBe(500);
      await driver.called(`${symbol} - hangs`);
      expect([(await write(daemon)).status, (await daemon.request("/time")).status]).toEqual([503, 200]);
      driver.fail();
      await eventually(async () => (await write(daemon, { ids: "0,1" })).status === 200);
      expect(await gpuIds(daemon)).toEqual([0, 1]);
    }
  });
});

describe("power streams and commands", () => {
  const settings = { NVML_STUB_POWER: "changing" };
  const reading = "nvmlDeviceGetFieldValues";

  it("do not wait for each other: a reading that hangs stops no command, and its streams go on when it is over", async () => {
    const { daemon, driver } = await start({ args: quick, settings });
    const stream = await daemon.stream("/gpu/stream_power");
    await goesOn(stream, 0);
    driver.fail(`${reading}@0=hang`);
    await daemon.logged("Reading the power of GPU 0 has not returned");
    const before = eventsOf(stream, 0);
    expect((await write(daemon, { ids: "0,1", mw: 150_000 })).status).toBe(200);
    expect((await daemon.request("/gpu/get_power_limit?gpu_ids=0")).status).toBe(200);
    await goesOn(stream, 1);
    expect(eventsOf(stream, 0)).toBe(before);
    driver.fail();
    await daemon.logged("Reading the power of GPU 0 returned");
    await goesOn(stream, 0);
    expect(written(driver).toSorted()).toEqual(["150000@0", "150000@1"]);
  });

  it("do not wait for each other: a command that hangs stops no stream", async () => {
    const { daemon, driver } = await start({ args: quick, settings });
    const stream = await daemon.stream("/gpu/stream_power?gpu_ids=0");
    await goesOn(stream, 0);
    driver.fail(`${setter}@0=hang`);
    expect((await write(daemon)).status).toBe(504);
    await goesOn(stream, 0);
    const second = await daemon.stream("/gpu/stream_power?gpu_ids=0");
    await goesOn(second, 0);
    driver.fail();
    await daemon.logged("GPU 0 works again");
  });
});

it("a CPU whose counter hangs holds up neither another CPU nor a GPU, and is read again when it is over", async () => {
  const root = createPowercap(2);
  const { daemon } = await start({ args: [...quick, "--powercap-root", root] });
  const counter = join(root, "intel-rapl:0", "energy_uj");
  const read = (id: number): Promise<Answer> =>
    daemon.request(`/cpu/get_cumulative_energy?cpu_ids=${id}&cpu=true&dram=false`);
  expect((await read(0)).status).toBe(200);

  // Whoever opens a pipe waits until somebody writes to it.
  execFileSync("sh", ["-c", `mkfifo "$1"`, "sh", join(root, "pipe")]);
  renameSync(join(root, "pipe"), counter);
  const late = await read(0);
  expect([late.status, codeOf(late)]).toEqual([504, "deadline"]);
  await daemon.logged("CPU 0 is stuck");
  const stuck = await read(0);
  expect([stuck.status, codeOf(stuck)]).toEqual([503, "lane_stuck"]);
  expect((await read(1)).status).toBe(200);
  expect((await daemon.request("/cpu/get_power?cpu_ids=1")).status).toBe(200);
  expect((await write(daemon, { ids: "0,1" })).status).toBe(200);

  const pipe = openSync(counter, constants.O_WRONLY | constants.O_NONBLOCK);
  writeFileSync(join(root, "file"), "234567\n");
  renameSync(join(root, "file"), counter);
  writeSync(pipe, "123456\n");
  closeSync(pipe);
  await daemon.logged("CPU 0 works again");
  await eventually(async () => (await read(0)).body === '{"0":{"cpu_energy_uj":234567,"dram_energy_uj":null}}');
});

describe("many hung calls", () => {
  it.each([
    [27, "one worker asked for", ["--num-workers", "1"]],
    [64, "as many workers as they need", ["--num-workers", "138"]],
  ])("of all but 4 of %i GPUs hold up neither those nor CPUs, with %s", async (gpus, _, workers) => {
    const args = ["--powercap-root", createPowercap(), "--device-timeout-ms", "60000", ...workers];
    const { daemon, driver } = await start({ gpus, args });
    const hung = Array.from({ length: gpus - 4 }, (_gpu, id) => id);
    driver.fail(...hung.map((id) => `${setter}@${id}=hang`));
    const held = write(daemon, { ids: hung.join(",") });
    await driver.called(/ hangs$/, hung.length);

    const ids = [4, 3, 2, 1].map((back) => gpus - back).join(",");
    expect((await write(daemon, { ids })).status).toBe(200);
    expect((await daemon.request(`/gpu/get_power?gpu_ids=${ids}`)).status).toBe(200);
    expect((await daemon.request("/cpu/get_cumulative_energy?cpu=true&dram=true")).body).toBe(
      '{"0":{"cpu_energy_uj":123456,"dram_energy_uj":null}}',
    );
    expect((await daemon.request("/discover")).status).toBe(200);
    const stream = await daemon.stream(`/gpu/stream_power?gpu_ids=${gpus - 1}`);
    await stream.received(1);
    expect(stream.text()).toMatch(/^data: \{.*\}\n\n$/);

    driver.fail();
    expect((await held).status).toBe(200);
  });
});

describe("a driver that takes long to begin", () => {
  const slow = { args: ["--device-timeout-ms", "100"], rules: ["nvmlInit_v2=delay:500"] };
  const beginnings = ({ driver }: Driven): readonly string[] =>
    driver.calls().filter((line) => /Init|Shutdown/.test(line));

  it("is not waited for, and its GPUs are taken in when it is there; it is begun once", async () => {
    const driven = await start(slow);
    expect(await gpuIds(driven.daemon)).toEqual([]);
    await driven.daemon.logged("All GPUs are there now");
    expect(await gpuIds(driven.daemon)).toEqual([0, 1]);
    expect(beginnings(driven)).toEqual(["nvmlInit_v2 - 0 -> 0"]);
  });

  it("is waited for where there is no starting without", async () => {
    const driven = await start({ ...slow, args: [...slow.args, "--gpu-backend", "nvml"] });
    expect(await gpuIds(driven.daemon)).toEqual([0, 1]);
    expect(driven.daemon.stderr()).not.toMatch(/ WARN /);
    expect(beginnings(driven)).toEqual(["nvmlInit_v2 - 0 -> 0"]);
  });
});

describe("a start", () => {
  it.each([
    [29, 0],
    [28, 1],
  ])(
    "with %i GPUs and %i CPUs is refused with 65 threads, in a sentence that names --num-workers 66",
    async (gpus, cpus) => {
      const { env } = createDriver({ gpus });
      const socket = ["--socket-path", join(createFolder(), "zeusd.sock")];
      const words = ["--allow-unprivileged", ...socket, "--powercap-root", createPowercap(cpus), "--num-workers", "65"];
      expect(await refusal(words, { env })).toContain("--num-workers 66");
    },
  );

  it("with as many threads as its devices need, goes on", async () => {
    expect(await gpuIds((await start({ gpus: 28 })).daemon)).toHaveLength(28);
    expect(await gpuIds((await start({ gpus: 29, args: ["--num-workers", "66"] })).daemon)).toHaveLength(29);
  });

  it("before its driver is there goes on when that has more GPUs than there are threads for, and the log says so", async () => {
    const { daemon, driver } = await start({ gpus: 29, rules: ["nvmlInit_v2=code:9"] });
    driver.fail();
    await daemon.logged("--num-workers 66");
    expect(await gpuIds(daemon)).toHaveLength(29);
    expect(daemon.stderr()).toContain("All GPUs are there now");
  });
});
