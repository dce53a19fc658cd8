// The JSON wire of 0.1 and 0.2: every listed input, and what makes a dry run safe there.
import { beforeEach, describe, expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import { allOperations } from "../../src/contract/operations.ts";
import { startSubject, transports, type Answer, type Subject } from "./subject.ts";

const text = "text/plain; charset=utf-8";
const headers = { "content-type": "application/json" };

describe.each(transports)("the JSON wire %s", (transport) => {
  let zeusd: Subject;
  beforeEach(async () => {
    zeusd = await startSubject(transport);
  });

  const post = (path: string, body: string): Promise<Answer> => zeusd.ask(`POST ${path}`, { headers, body });

  it.each([
    ["set_persistent_mode", '{"enabled":true,"block":true}', 'setPersistenceMode {"enabled":true}'],
    ["set_persistence_mode", '{"enabled":false,"block":true}', 'setPersistenceMode {"enabled":false}'],
    ["set_power_limit", '{"power_limit_mw": 200000, "block": true}', 'setPowerLimit {"power_limit_mw":200000}'],
    ["set_power_limit", "[200000,true]", 'setPowerLimit {"power_limit_mw":200000}'],
    [
      "set_power_limit",
      '{"block":true,"note":{"a":[1,{}]},"power_limit_mw":200000}',
      'setPowerLimit {"power_limit_mw":200000}',
    ],
    [
      "set_gpu_locked_clocks",
      '{"min_clock_mhz":1,"max_clock_mhz":2,"block":true}',
      'setGpuLockedClocks {"min_clock_mhz":1,"max_clock_mhz":2}',
    ],
    ["reset_gpu_locked_clocks", '{"block":true}', "resetGpuLockedClocks {}"],
    ["set_mem_locked_clocks", "[1,2,true]", 'setMemLockedClocks {"min_clock_mhz":1,"max_clock_mhz":2}'],
    ["reset_mem_locked_clocks", '{"block":true}', "resetMemLockedClocks {}"],
  ])("runs %s of %s", async (path, body, call) => {
    expect(await post(`/gpu/1/${path}`, body)).toMatchObject({ status: 200, type: undefined, body: "" });
    expect(zeusd.calls).toEqual([`gpu 1 ${call}`]);
  });

  it.each(["01", "+1", "%31", "%2B1"])("takes the id %s as 1, and ignores a query", async (id) => {
    expect((await post(`/gpu/${id}/reset_gpu_locked_clocks?dry=1`, '{"block":true}')).status).toBe(200);
    expect(zeusd.calls).toEqual(["gpu 1 resetGpuLockedClocks {}"]);
  });

  it("reads CPU energy, and tells whether there is DRAM", async () => {
    expect(await post("/cpu/0/get_index_energy", '{"cpu":true,"dram":false}')).toMatchObject({
      status: 200,
      type: "application/json",
      body: '{"cpu_energy_uj":1000000,"dram_energy_uj":null}',
    });
    expect(await zeusd.ask("GET /cpu/1/supports_dram_energy")).toMatchObject({
      status: 200,
      body: '{"dram_available":false}',
    });
  });

  it.each([
    "application/json",
    "text/json",
    "application/x+json",
    "application/json; charset=utf-8",
    "Application/JSON",
  ])("takes a body of type %s", async (type) => {
    const answer = await zeusd.ask("POST /gpu/0/reset_gpu_locked_clocks", {
      headers: { "content-type": type },
      body: '{"block":true}',
    });
    expect(answer.status).toBe(200);
  });

  it("answers 400 for a GPU that does not exist, also to a write that waits (13.2 #28)", async () => {
    for (const body of ["[1,true]", "[1,false]"]) {
      expect(await post("/gpu/7/set_power_limit", body)).toMatchObject({
        status: 400,
        type: text,
        body: "GPU index 7 does not exist.",
      });
    }
  });

  it("answers a write that does not wait at once", async () => {
    zeusd.answer("gpu 0", "resetGpuLockedClocks", new ZeusdError("driver_error", "NVML error: lost"));
    expect(await post("/gpu/0/reset_gpu_locked_clocks", '{"block":false}')).toMatchObject({ status: 200, body: "" });
  });

  it.each([
    [
      new ZeusdError("invalid_argument", "NVML error: a supplied argument was invalid"),
      400,
      "NVML error: a supplied argument was invalid",
    ],
    [new ZeusdError("not_supported", "NVML error: not supported"), 500, "NVML error: not supported"],
    [new ZeusdError("no_permission", "NVML error: no permission"), 403, "NVML error: no permission"],
    [
      new ZeusdError("driver_error", "NVML error: an internal driver error occurred"),
      500,
      "NVML error: an internal driver error occured",
    ],
  ])("answers the driver's %s with %s", async (error, status, body) => {
    zeusd.answer("gpu 0", "setPowerLimit", error);
    expect(await post("/gpu/0/set_power_limit", "[5,true]")).toMatchObject({ status, type: text, body });
  });

  describe("refuses before any driver call", () => {
    const limit = "/gpu/0/set_power_limit";
    const body = "Json deserialize error: ";
    it.each([
      ["/gpu/abc/set_power_limit", "{}", 404, 'can not parse "abc" to a u64'],
      ["/gpu/-1/set_power_limit", "{}", 404, 'can not parse "-1" to a u64'],
      ["/gpu/18446744073709551616/set_power_limit", "{}", 404, 'can not parse "18446744073709551616" to a u64'],
      ["/gpu/7/set_power_limit", "[1,true]", 400, "GPU index 7 does not exist."],
      ["/gpu/7/set_power_limit", "[1,false]", 400, "GPU index 7 does not exist."],
      ["/gpu/7/set_power_limit", "{}", 400, `${body}missing field \`power_limit_mw\``],
      ["/cpu/7/get_index_energy", "[true,true]", 400, "CPU index 7 does not exist."],
      ["/cpu/0/get_index_energy", "[1,true]", 400, `${body}invalid type: integer \`1\`, expected a boolean`],
      [limit, "", 400, `${body}EOF while parsing a value`],
      [limit, "{", 400, `${body}EOF while parsing an object`],
      [limit, "nonsense", 400, `${body}expected value`],
      [limit, '{"power_limit_mw":1,"block":true} x', 400, `${body}trailing characters`],
      [limit, '{"power_limit_mw":1}', 400, `${body}missing field \`block\``],
      [limit, '{"power_limit_mw":1,"block":1}', 400, `${body}invalid type: integer \`1\`, expected a boolean`],
      [limit, '{"power_limit_mw":"200000"}', 400, `${body}invalid type: string "200000", expected u32`],
      [limit, '{"power_limit_mw":-1}', 400, `${body}invalid value: integer \`-1\`, expected u32`],
      [limit, '{"power_limit_mw":4294967296}', 400, `${body}invalid value: integer \`4294967296\`, expected u32`],
      [limit, '{"power_limit_mw":1.5}', 400, `${body}invalid type: floating point \`1.5\`, expected u32`],
      [limit, '{"power_limit_mw":200000.0}', 400, `${body}invalid type: floating point \`200000.0\`, expected u32`],
      [limit, '{"power_limit_mw":2e5}', 400, `${body}invalid type: floating point \`200000.0\`, expected u32`],
      [limit, '{"power_limit_mw":1e400}', 400, `${body}number out of range`],
      [limit, '{"power_limit_mw":null}', 400, `${body}invalid type: null, expected u32`],
      [limit, '{"power_limit_mw":1,"power_limit_mw":2,"block":true}', 400, `${body}duplicate field \`power_limit_mw\``],
      [limit, '{"power_limit_mw":1,"power\\u005flimit_mw":2}', 400, `${body}duplicate field \`power_limit_mw\``],
      [limit, "null", 400, `${body}invalid type: null, expected struct SetPowerLimit`],
      [limit, "[1]", 400, `${body}invalid length 1, expected struct SetPowerLimit with 2 elements`],
      [limit, "[1,true,2]", 400, `${body}trailing characters`],
      [limit, '{"__proto__":{"block":true},"power_limit_mw":1}', 400, `${body}missing field \`block\``],
      [
        "/gpu/0/set_mem_locked_clocks",
        "[2,1,true]",
        400,
        "set_mem_locked_clocks: min_clock_mhz 2 is above max_clock_mhz 1; it must be at most as large",
      ],
    ])("%s with %s", async (path, sent, status, message) => {
      expect(await post(path, sent)).toMatchObject({ status, type: text, body: message });
      expect(zeusd.calls).toEqual([]);
      expect((await zeusd.ask("GET /time")).status).toBe(200);
    });

    it.each(["dry_run", "atomic", "lease_id"])("a body that has %s, which this wire would ignore", async (name) => {
      const answer = await post(limit, `{"power_limit_mw":1,"block":true,"${name}":true}`);
      expect(answer).toMatchObject({ status: 400, type: text, body: expect.stringContaining(name) });
      expect(zeusd.calls).toEqual([]);
    });

    it.each(["dry_run", "atomic", "lease_id"])(
      "a query that has %s, also behind a thousand other keys",
      async (name) => {
        const many = Array.from({ length: 1_000 }, (_, index) => `k${index}=1&`).join("");
        const written = name.replace("_", "%5f");
        for (const query of [`${name}=true`, name, `x=1&${name}=`, `${many}${name}=1`, `${many}${many}${written}=0`]) {
          const answer = await post(`${limit}?${query}`, '{"power_limit_mw":1,"block":true}');
          expect(answer).toMatchObject({ status: 400, type: text, body: expect.stringContaining(name) });
        }
        expect(zeusd.calls).toEqual([]);
        expect((await post(`${limit}?x${name}=true`, '{"power_limit_mw":1,"block":true}')).status).toBe(200);
      },
    );

    it.each(["", "text/plain", "application/jsonx", "application/x-www-form-urlencoded"])(
      "a body of type '%s'",
      async (type) => {
        const answer = await zeusd.ask(`POST ${limit}`, {
          headers: type ? { "content-type": type } : {},
          body: "[1,true]",
        });
        expect(answer).toMatchObject({ status: 400, type: text, body: "Content type error" });
      },
    );

    it("a compressed body", async () => {
      const answer = await zeusd.ask(`POST ${limit}`, {
        headers: { ...headers, "content-encoding": "gzip" },
        body: "[1,true]",
      });
      expect(answer).toMatchObject({ status: 415, type: text });
    });

    it("what is long and wrong, and repeats its beginning only", async () => {
      const long = "a".repeat(15_000);
      const encoded = { ...headers, "content-encoding": long };
      const answers = [
        await post(limit, `{"power_limit_mw":"${long}","block":true}`),
        await post(`/gpu/${long}/set_power_limit`, "{}"),
        await zeusd.ask(`POST ${limit}`, { headers: encoded, body: "[1,true]" }),
      ];
      expect(answers.map(({ status }) => status)).toEqual([400, 404, 415]);
      for (const answer of answers) {
        expect(answer.body).toMatch(/a{200}…/);
        expect(answer.body.length).toBeLessThan(400);
      }
    });

    it("a body of very many values, whether it is JSON or not", async () => {
      for (const heavy of [`[${"1,".repeat(20_000)}1]`, ",".repeat(20_000)]) {
        const answer = await post(limit, heavy);
        expect(answer).toMatchObject({ status: 400, type: text, body: "Json deserialize error: too many values" });
      }
    });
  });

  it("serves every operation that the table puts on it", async () => {
    for (const row of allOperations) {
      for (const path of row.json?.paths ?? []) {
        const answer = await zeusd.ask(`${row.json?.method} /${row.device}/x/${path}`, { headers });
        expect(answer).toMatchObject({ status: 404, type: text, body: 'can not parse "x" to a u64' });
      }
    }
  });
});

describe.each(["over a Unix socket", "over TCP"] as const)("the JSON wire %s", (transport) => {
  it("reads at most 2 MiB, told or not", async () => {
    const zeusd = await startSubject(transport);
    const body = `[1,true${" ".repeat(2_097_152)}]`;
    const told = await zeusd.ask("POST /gpu/0/set_power_limit", { headers, body });
    expect(told).toMatchObject({
      status: 413,
      type: text,
      body: `JSON payload (${body.length} bytes) is larger than allowed (limit: 2097152 bytes).`,
    });
    const chunked = await zeusd.ask("POST /gpu/0/set_power_limit", {
      headers: { ...headers, "transfer-encoding": "chunked" },
      body,
    });
    expect(chunked).toMatchObject({
      status: 413,
      type: text,
      body: "JSON payload has exceeded limit (2097152 bytes).",
    });
    expect(zeusd.calls).toEqual([]);
  });
});
