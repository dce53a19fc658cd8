// The query wire: the golden exchanges of 0.5, every malformed query, and what ours adds.
import { beforeEach, describe, expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import { allOperations } from "../../src/contract/operations.ts";
import { parametersFor } from "../parameters.ts";
import { startSubject, transports, type Subject } from "./subject.ts";

const json = "application/json";
const text = "text/plain; charset=utf-8";
const refusedLimit = new ZeusdError("invalid_argument", "NVML error: a supplied argument was invalid");

describe.each(transports)("the query wire %s", (transport) => {
  let zeusd: Subject;
  beforeEach(async () => {
    zeusd = await startSubject(transport);
  });

  it("answers reads of all GPUs, by ascending id", async () => {
    const golden = {
      get_cumulative_energy: { 0: { energy_mj: 1_000_000 }, 1: { energy_mj: 2_000_000 } },
      get_power_limit: { 0: { power_limit_mw: 300_000 }, 1: { power_limit_mw: 300_000 } },
      get_enforced_power_limit: { 0: { power_limit_mw: 300_000 }, 1: { power_limit_mw: 300_000 } },
      get_power_limit_constraints: {
        0: { min_power_limit_mw: 100_000, max_power_limit_mw: 400_000 },
        1: { min_power_limit_mw: 100_000, max_power_limit_mw: 400_000 },
      },
      get_persistence_mode: { 0: { enabled: false }, 1: { enabled: false } },
      // These are not the original's.
      get_default_power_limit: { 0: { power_limit_mw: 300_000 }, 1: { power_limit_mw: 300_000 } },
      get_clocks: {
        0: { gpu_clock_mhz: 1980, memory_clock_mhz: 2619 },
        1: { gpu_clock_mhz: 1980, memory_clock_mhz: 2619 },
      },
      get_supported_clocks: {
        0: { memory_clocks_mhz: [2619], gpu_clocks_mhz: [1980, 1965, 1950] },
        1: { memory_clocks_mhz: [2619], gpu_clocks_mhz: [1980, 1965, 1950] },
      },
    };
    for (const [name, body] of Object.entries(golden)) {
      expect(await zeusd.ask(`GET /gpu/${name}`)).toMatchObject({
        status: 200,
        type: json,
        body: JSON.stringify(body),
      });
    }
  });

  it.each([
    "1,0,1",
    "0%2C1",
    " 1 ,%200",
    "01,%2B0",
    "%C2%851,0",
    "GPU-00000000-0000-0000-0000-000000000001,0",
    "0000:41:00.0,0000:42:00.0",
    "00000000:41:00.0,42:00.0",
  ])("takes the ids %s as GPUs 0 and 1", async (ids) => {
    const { status, body } = await zeusd.ask(`GET /gpu/get_power?gpu_ids=${ids.replaceAll(" ", "+")}`);
    expect(status).toBe(200);
    expect(JSON.parse(body)).toEqual({ timestamp_ms: expect.any(Number), power_mw: { 0: 50_000, 1: 50_001 } });
    expect(body).toMatch(/^\{"timestamp_ms":\d+,"power_mw":\{"0":50000,"1":50001\}\}$/);
  });

  it("answers a write with an empty 200, and passes its parameters to each GPU", async () => {
    const answer = await zeusd.ask("POST /gpu/set_power_limit?gpu_ids=0,1&power_limit_mw=200000&block=true");
    expect(answer).toMatchObject({ status: 200, type: undefined, body: "" });
    expect(zeusd.calls).toEqual([
      'gpu 0 setPowerLimit {"power_limit_mw":200000}',
      'gpu 1 setPowerLimit {"power_limit_mw":200000}',
    ]);
  });

  it("ignores any body and content type of a query", async () => {
    const asked = { headers: { "content-type": "application/json" }, body: '{"power_limit_mw":' };
    const answer = await zeusd.ask("POST /gpu/reset_locked_clocks?gpu_ids=0&block=true", asked);
    expect(answer).toMatchObject({ status: 200, body: "" });
    expect(zeusd.calls).toEqual(["gpu 0 resetGpuLockedClocks {}", "gpu 0 resetMemLockedClocks {}"]);
  });

  it("answers every write at once when it does not wait for the driver, whatever the driver says later", async () => {
    zeusd.answer("gpu 0", "setPowerLimit", refusedLimit);
    const answer = await zeusd.ask("POST /gpu/set_power_limit?gpu_ids=0,1&power_limit_mw=5&block=false");
    expect(answer).toMatchObject({ status: 200, body: "" });
    await expect
      .poll(() => zeusd.logged.join("\n"))
      .toMatch(/set_power_limit on GPU 0 failed after its reply: NVML error/);
  });

  it("tells which GPUs failed, and keeps the results of the others (13.2 #8)", async () => {
    zeusd.answer("gpu 1", "getPowerLimit", new ZeusdError("no_permission", "NVML error: no permission"));
    expect(await zeusd.ask("GET /gpu/get_power_limit")).toMatchObject({
      status: 403,
      type: json,
      body: '{"errors":{"1":"NVML error: no permission"},"results":{"0":{"power_limit_mw":300000}},"code":"no_permission"}',
    });
  });

  it("answers with the numerically largest status of the failures", async () => {
    zeusd.answer("gpu 0", "getPower", new ZeusdError("not_supported", "NVML error: not supported"));
    zeusd.answer("gpu 1", "getPower", new ZeusdError("driver_error", "NVML error: lost"));
    const { status, body } = await zeusd.ask("GET /gpu/get_power");
    expect(status).toBe(500);
    expect(JSON.parse(body).errors).toEqual({ 0: "NVML error: not supported", 1: "NVML error: lost" });
  });

  it("tells a caller that a GPU cannot do what its vendor lacks", async () => {
    const other = await startSubject(transport, { lacks: ["setPersistenceMode"] });
    const { status, body } = await other.ask("POST /gpu/set_persistence_mode?gpu_ids=0&enabled=true&block=true");
    expect({ status, ...JSON.parse(body) }).toMatchObject({ status: 400, code: "not_supported" });
  });

  it("says in the reply only that something unforeseen happened, and in the log what", async () => {
    zeusd.answer("gpu 0", "getPower", new TypeError("secret detail"));
    const { status, body } = await zeusd.ask("GET /gpu/get_power?gpu_ids=0");
    expect(status).toBe(500);
    expect(body).toMatch(
      /^\{"error":"Internal error. The log has the details under request id \S+\.","code":"internal"\}$/,
    );
    expect(zeusd.logged.join("\n")).toMatch(/error GET \/gpu\/get_power failed unforeseen/);
  });

  it("answers CPU energy by ascending id, with null for what was not asked for or is not measured (13.2 #21)", async () => {
    expect(await zeusd.ask("GET /cpu/get_cumulative_energy?cpu=true&dram=true")).toMatchObject({
      status: 200,
      type: json,
      body: '{"0":{"cpu_energy_uj":1000000,"dram_energy_uj":700000},"1":{"cpu_energy_uj":2000000,"dram_energy_uj":null}}',
    });
    expect(await zeusd.ask("GET /cpu/get_cumulative_energy?cpu_ids=0&cpu=false&dram=false")).toMatchObject({
      status: 200,
      body: '{"0":{"cpu_energy_uj":null,"dram_energy_uj":null}}',
    });
  });

  it("measures CPU power over one sampling period", async () => {
    const { status, body } = await zeusd.ask("GET /cpu/get_power");
    expect(status).toBe(200);
    expect(JSON.parse(body).power_mw).toEqual({ 0: { cpu_mw: 0, dram_mw: 0 }, 1: { cpu_mw: 0, dram_mw: null } });
  });

  it("refuses a range of clocks that is upside down, waiting or not (13.2 #19)", async () => {
    for (const name of ["set_gpu_locked_clocks", "set_mem_locked_clocks"]) {
      for (const block of [true, false]) {
        const line = `POST /gpu/${name}?gpu_ids=0&min_clock_mhz=1500&max_clock_mhz=210&block=${block}`;
        const { status, type, body } = await zeusd.ask(line);
        expect({ status, type }).toEqual({ status: 400, type: json });
        expect(JSON.parse(body).error).toBe(
          `${name}: min_clock_mhz 1500 is above max_clock_mhz 210; it must be at most as large`,
        );
      }
    }
    expect(zeusd.calls).toEqual([]);
  });

  it("answers for an unknown GPU in one form, whatever the operation: 400, JSON, the code and the ids that exist (13.2 #20)", async () => {
    for (const row of allOperations.filter((one) => one.query && one.device === "gpu")) {
      const names = Object.entries(parametersFor(row)).map(([name, value]) => `&${name}=${value}`);
      const line =
        row.kind === "write"
          ? `POST /gpu/${row.name}?gpu_ids=0,7${names.join("")}&block=false`
          : `GET /gpu/${row.name}?gpu_ids=0,7`;
      const { status, type, body } = await zeusd.ask(line);
      expect({ status, type, ...JSON.parse(body) }).toEqual({
        status: 400,
        type: json,
        error: expect.stringContaining("7"),
        code: "unknown_device",
        available: [0, 1],
      });
    }
    expect(zeusd.calls).toEqual([]);
  });

  it("answers at once when there are no devices (13.2 #5)", async () => {
    const empty = await startSubject(transport, { gpus: 0, cpus: 0 });
    expect((await empty.ask("GET /gpu/get_power_limit")).body).toBe("{}");
    expect(JSON.parse((await empty.ask("GET /gpu/get_power")).body)).toMatchObject({ power_mw: {} });
    expect(JSON.parse((await empty.ask("GET /cpu/get_power")).body)).toMatchObject({ power_mw: {} });
  });

  it("answers for a GPU that cannot be opened with the reason, and for the others as ever (13.2 #16)", async () => {
    const away = { id: 1, away: new ZeusdError("driver_error", "NVML error: lost") };
    const degraded = await startSubject(transport, { away: [away] });
    expect(JSON.parse((await degraded.ask("GET /gpu/get_power")).body).power_mw).toEqual({ 0: 50_000 });
    for (const line of ["GET /gpu/get_power?gpu_ids=1", "POST /gpu/reset_locked_clocks?gpu_ids=1&block=true"]) {
      const { status, headers, body } = await degraded.ask(line);
      expect({ status, body: JSON.parse(body) }).toMatchObject({
        status: 503,
        body: { errors: { 1: "GPU 1 is away: NVML error: lost" }, code: "gpu_away" },
      });
      expect(headers["retry-after"]).toBe("5");
    }
    const queued = await degraded.ask("POST /gpu/reset_locked_clocks?gpu_ids=0,1&block=false");
    expect(queued).toMatchObject({
      status: 503,
      body: '{"error":"GPU 1 is away: NVML error: lost","code":"gpu_away"}',
    });
    expect(degraded.calls.filter((call) => call.includes("reset"))).toEqual([]);
  });

  describe("refuses before any driver call", () => {
    const write = "POST /gpu/set_power_limit";
    const clocks = "POST /gpu/set_gpu_locked_clocks";
    const query = "Query deserialize error: ";
    const oneOf = "expected one of `gpu_ids`, `power_limit_mw`, `block`";
    it.each([
      ["GET /gpu/get_power?foo=1", 400, text, `${query}unknown field \`foo\`, expected \`gpu_ids\``],
      ["GET /gpu/get_power?GPU_IDS=1", 400, text, `${query}unknown field \`GPU_IDS\`, expected \`gpu_ids\``],
      ["POST /gpu/reset_locked_clocks?x", 400, text, `${query}unknown field \`x\`, expected \`gpu_ids\` or \`block\``],
      [`${write}?x=1`, 400, text, `${query}unknown field \`x\`, ${oneOf}`],
      [`${write}`, 400, text, `${query}missing field \`gpu_ids\``],
      [`${write}?block=true&&gpu_ids=0`, 400, text, `${query}missing field \`power_limit_mw\``],
      [`${write}?gpu_ids=0&power_limit_mw=1`, 400, text, `${query}missing field \`block\``],
      [`${write}?gpu_ids=0&gpu_ids=1`, 400, text, `${query}duplicate field \`gpu_ids\``],
      [
        `${write}?gpu_ids=0&power_limit_mw=200000&block=1`,
        400,
        text,
        `${query}provided string was not \`true\` or \`false\``,
      ],
      [`${write}?block=True`, 400, text, `${query}provided string was not \`true\` or \`false\``],
      [`${write}?block`, 400, text, `${query}provided string was not \`true\` or \`false\``],
      [`${write}?power_limit_mw=-1`, 400, text, `${query}invalid digit found in string`],
      [`${write}?power_limit_mw=1.5`, 400, text, `${query}invalid digit found in string`],
      [`${write}?power_limit_mw=+1`, 400, text, `${query}invalid digit found in string`],
      [`${write}?power_limit_mw=4294967296`, 400, text, `${query}number too large to fit in target type`],
      [`${write}?power_limit_mw=`, 400, text, `${query}cannot parse integer from empty string`],
      [`${write}?gpu_ids=0;block=true`, 400, text, `${query}missing field \`power_limit_mw\``],
      ["GET /cpu/get_cumulative_energy?cpu=true", 400, text, `${query}missing field \`dram\``],
      [
        "GET /gpu/get_power?gpu_ids=",
        400,
        json,
        '{"error":"gpu_ids must contain at least one GPU index","code":"bad_request"}',
      ],
      [
        "GET /gpu/get_power?gpu_ids=+",
        400,
        json,
        '{"error":"gpu_ids must contain at least one GPU index","code":"bad_request"}',
      ],
      [
        "GET /cpu/get_power?cpu_ids=",
        400,
        json,
        '{"error":"cpu_ids must contain at least one CPU index","code":"bad_request"}',
      ],
      [
        "GET /gpu/get_power?gpu_ids=0,",
        400,
        json,
        '{"error":"gpu_ids contains an empty GPU index","code":"bad_request"}',
      ],
      ["GET /gpu/get_power?gpu_ids=-1", 400, json, '{"error":"Invalid GPU index: -1","code":"bad_request"}'],
      ["GET /gpu/get_power?gpu_ids=1.0", 400, json, '{"error":"Invalid GPU index: 1.0","code":"bad_request"}'],
      [
        "GET /gpu/get_power?gpu_ids=18446744073709551616",
        400,
        json,
        '{"error":"Invalid GPU index: 18446744073709551616","code":"bad_request"}',
      ],
      ["GET /cpu/get_power?cpu_ids=GPU-0", 400, json, '{"error":"Invalid CPU index: GPU-0","code":"bad_request"}'],
      [
        "GET /gpu/get_power?gpu_ids=5",
        400,
        json,
        '{"error":"GPU 5 not found","code":"unknown_device","available":[0,1]}',
      ],
      [
        "GET /gpu/get_power?gpu_ids=9,5",
        400,
        json,
        '{"error":"GPU 5 not found","code":"unknown_device","available":[0,1]}',
      ],
      [
        "GET /gpu/get_power?gpu_ids=18446744073709551615",
        400,
        json,
        '{"error":"GPU 18446744073709551615 not found","code":"unknown_device","available":[0,1]}',
      ],
      [
        "GET /gpu/stream_power?gpu_ids=9,0,4",
        400,
        json,
        '{"error":"Unknown GPU indices: [4, 9]. Available: [0, 1]","code":"unknown_device","available":[0,1]}',
      ],
      [
        `${write}?gpu_ids=0,7,9&power_limit_mw=1&block=false`,
        400,
        json,
        '{"error":"GPU index 7 does not exist.","code":"unknown_device","available":[0,1]}',
      ],
      [
        `${clocks}?gpu_ids=0&min_clock_mhz=2&max_clock_mhz=1&block=true`,
        400,
        json,
        '{"error":"set_gpu_locked_clocks: min_clock_mhz 2 is above max_clock_mhz 1; it must be at most as large","code":"bad_request"}',
      ],
    ])("%s", async (line, status, type, body) => {
      expect(await zeusd.ask(line)).toMatchObject({ status, type, body });
      expect(zeusd.calls).toEqual([]);
      expect((await zeusd.ask("GET /time")).status).toBe(200);
    });
  });

  it.each([
    ["a parameter", "", 400],
    ["a GPU", "gpu_ids=", 400],
    ["a UUID", "gpu_ids=GPU-", 400],
  ])("repeats of %s that is long and wrong its beginning only", async (_, before, status) => {
    const answer = await zeusd.ask(`GET /gpu/get_power?${before}${"a".repeat(20_000)}`);
    expect(answer.status).toBe(status);
    expect(answer.body).toMatch(/a{150,200}…/);
    expect(answer.body.length).toBeLessThan(400);
  });

  it.each([
    "HEAD /discover",
    "POST /discover",
    "GET /discover/",
    "GET /gpu",
    "GET /gpu//get_power",
    "GET /GPU/get_power",
    "GET /gpu/set_power_limit",
    "OPTIONS /time",
    "GET /gpu/0/get_power",
    "GET /lease/acquire?gpu_ids=0&ttl_s=1",
    "GET /lease/release?lease=1",
    "POST /lease/list",
    "GET /lease",
    "POST /events",
    "POST /gpu/get_state",
    "GET /gpu/0/get_state",
  ])("knows no %s", async (line) => {
    expect(await zeusd.ask(line)).toMatchObject({ status: 404, type: undefined, body: "" });
  });

  it.each(["GET /%74ime", "GET /time?whatever=1&x", "GET http://example.test/time"])(
    "takes %s as the time",
    async (line) => {
      expect(JSON.parse((await zeusd.ask(line)).body)).toEqual({ timestamp_ms: expect.any(Number) });
    },
  );

  it("routes every operation of the table, and refuses what it does not know by the table's own names", async () => {
    for (const row of allOperations.filter(({ query }) => query)) {
      const { status, body } = await zeusd.ask(
        `${row.kind === "write" ? "POST" : "GET"} /${row.device}/${row.name}?nonsense=1`,
      );
      expect({ status, body }).toMatchObject({ status: 400, body: expect.stringContaining(`\`${row.device}_ids\``) });
      for (const name of Object.keys(row.parameters)) expect(body).toContain(`\`${name}\``);
    }
  });
});
