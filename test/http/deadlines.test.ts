// What clients are told when a device hangs, its queue is full, or it goes away: on both wires and on every transport.
import { beforeEach, describe, expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import { capacity } from "../../src/devices/lane.ts";
import { startSubject, transports, type Answer, type Subject } from "./subject.ts";

const set = (ids: string, block = true): string =>
  `POST /gpu/set_power_limit?gpu_ids=${ids}&power_limit_mw=200000&block=${block}`;
const setByBody = { headers: { "content-type": "application/json" }, body: '{"power_limit_mw":200000,"block":true}' };

const json = ({ body }: Answer): unknown => JSON.parse(body);

async function gpuIds(zeusd: Subject): Promise<readonly number[]> {
  const { gpus } = json(await zeusd.ask("GET /discover")) as { gpus: readonly { id: number }[] };
  return gpus.map(({ id }) => id);
}

describe.each(transports)("a device that hangs, %s,", (transport) => {
  let zeusd: Subject;
  beforeEach(async () => {
    zeusd = await startSubject(transport, { config: { deviceTimeoutMs: 60 } });
  });

  it("is answered for with 504 to whoever waited, with 503 to whoever comes, and as ever when it is over", async () => {
    const release = zeusd.hold("gpu 0", "setPowerLimit");
    const late = await zeusd.ask(set("0"));
    expect([late.status, late.headers["retry-after"], json(late)]).toEqual([
      504,
      undefined,
      {
        errors: { 0: "set_power_limit on GPU 0 has not returned within 0.06 s; it may still take effect" },
        results: {},
        code: "deadline",
      },
    ]);
    await expect.poll(async () => (await zeusd.ask(set("0"))).status).toBe(503);
    const stuck = await zeusd.ask(set("0"));
    expect([stuck.status, json(stuck)]).toEqual([
      503,
      {
        errors: { 0: expect.stringMatching(/^GPU 0 is stuck: set_power_limit has not returned for \d+ s/) },
        results: {},
        code: "lane_stuck",
      },
    ]);
    expect(Number(stuck.headers["retry-after"])).toBeGreaterThan(0);
    release();
    await expect.poll(async () => (await zeusd.ask(set("0"))).status).toBe(200);
    expect(zeusd.logged.join("\n")).toMatch(/error GPU 0 is stuck[^]*warn GPU 0 works again/);
  });

  it("costs a request for several only its own result", async () => {
    zeusd.hold("gpu 0", "getPowerLimit");
    const answer = await zeusd.ask("GET /gpu/get_power_limit");
    expect([answer.status, json(answer)]).toEqual([
      504,
      {
        errors: { 0: expect.stringContaining("get_power_limit on GPU 0") },
        results: { 1: { power_limit_mw: 300_000 } },
        code: "deadline",
      },
    ]);
  });

  it("is answered for with the numerically largest status where several fail", async () => {
    zeusd.hold("gpu 0", "setPowerLimit");
    await zeusd.ask(set("0"));
    zeusd.hold("gpu 1", "setPowerLimit");
    const both = await zeusd.ask(set("0,1"));
    expect([both.status, json(both)]).toMatchObject([504, { code: "deadline", results: {} }]);
  });

  it("takes no write that does not wait, nor do others for which it was meant too", async () => {
    zeusd.hold("gpu 0", "setPowerLimit");
    await zeusd.ask(set("0"));
    await expect.poll(async () => (await zeusd.ask(set("0", false))).status).toBe(503);
    const refused = await zeusd.ask(set("0,1", false));
    expect([refused.status, json(refused)]).toEqual([
      503,
      { error: expect.stringContaining("GPU 0 is stuck"), code: "lane_stuck" },
    ]);
    expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0);
    expect(zeusd.calls.filter((call) => call.startsWith("gpu 1"))).toEqual([]);
  });

  it("is answered for in a sentence on the JSON wire", async () => {
    zeusd.hold("gpu 0", "setPowerLimit");
    const late = await zeusd.ask("POST /gpu/0/set_power_limit", setByBody);
    expect(late).toMatchObject({ status: 504, type: "text/plain; charset=utf-8" });
    expect(late.body).toMatch(/^set_power_limit on GPU 0 has not returned within/);
    await expect.poll(async () => (await zeusd.ask("POST /gpu/0/set_power_limit", setByBody)).status).toBe(503);
    const stuck = await zeusd.ask("POST /gpu/0/set_power_limit", setByBody);
    expect(stuck.body).toMatch(/^GPU 0 is stuck/);
    expect(Number(stuck.headers["retry-after"])).toBeGreaterThan(0);
    expect((await zeusd.ask("POST /gpu/1/set_power_limit", setByBody)).status).toBe(200);
  });

  it("may be a CPU: its energy and its power are answered for in the same way, the others' as ever", async () => {
    zeusd.hold("cpu 0", "getCumulativeEnergy");
    for (const line of ["GET /cpu/get_cumulative_energy?cpu=true&dram=false", "GET /cpu/get_power"]) {
      const late = await zeusd.ask(line);
      expect([late.status, json(late)]).toMatchObject([504, { errors: { 0: expect.any(String) }, code: "deadline" }]);
      await expect.poll(async () => json(await zeusd.ask(line))).toMatchObject({ code: "lane_stuck" });
    }
    expect((await zeusd.ask("GET /cpu/get_cumulative_energy?cpu_ids=1&cpu=true&dram=false")).status).toBe(200);
    expect((await zeusd.ask("GET /cpu/get_power?cpu_ids=1")).status).toBe(200);
  });
});

it("a queue that is full is answered for with 503, be it a write that waits or one that does not (13.2 #7)", async () => {
  const zeusd = await startSubject("in process");
  const release = zeusd.hold("gpu 0", "setPowerLimit");
  for (let count = 0; count < capacity + 1; count += 1) expect((await zeusd.ask(set("0", false))).status).toBe(200);
  const refused = await zeusd.ask(set("0,1", false));
  expect([refused.status, refused.headers["retry-after"], json(refused)]).toEqual([
    503,
    "1",
    { error: "1024 commands are waiting for GPU 0; try again later", code: "queue_full" },
  ]);
  const waiting = await zeusd.ask(set("0,1"));
  expect([waiting.status, waiting.headers["retry-after"], json(waiting)]).toEqual([
    503,
    "1",
    { errors: { 0: "1024 commands are waiting for GPU 0; try again later" }, results: { 1: {} }, code: "queue_full" },
  ]);
  expect((await zeusd.ask("POST /gpu/0/set_power_limit", setByBody)).body).toBe(
    "1024 commands are waiting for GPU 0; try again later",
  );
  release();
  await expect.poll(async () => (await zeusd.ask("GET /gpu/get_power_limit")).status).toBe(200);
  expect(zeusd.calls.filter((call) => call.startsWith("gpu 0 set"))).toHaveLength(capacity + 1);
  expect(zeusd.calls.filter((call) => call.startsWith("gpu 1 set"))).toHaveLength(1);
});

it("a GPU that goes away is answered for with 500, then 503, then as ever", async () => {
  const zeusd = await startSubject("in process");
  const reason = "NVML error: device fell off the bus or has otherwise become inacessible";
  const lost = new ZeusdError("gpu_lost", reason);
  zeusd.answer("gpu 0", "setPowerLimit", lost);
  zeusd.takeAway({ id: 0, away: lost });
  const met = await zeusd.ask(set("0,1"));
  expect([met.status, json(met)]).toEqual([500, { errors: { 0: reason }, results: { 1: {} }, code: "gpu_lost" }]);
  const away = await zeusd.ask("GET /gpu/get_power?gpu_ids=0,1");
  expect([away.status, json(away)]).toEqual([
    503,
    { errors: { 0: `GPU 0 is away: ${reason}` }, results: { 1: { power_mw: 50_001 } }, code: "gpu_away" },
  ]);
  expect(Number(away.headers["retry-after"])).toBeGreaterThan(0);
  const byBody = await zeusd.ask("POST /gpu/0/set_power_limit", setByBody);
  expect(byBody).toMatchObject({ status: 503, body: `GPU 0 is away: ${reason}` });
  expect((await zeusd.ask("GET /gpu/stream_power?gpu_ids=0")).status).toBe(503);
  expect(await gpuIds(zeusd)).toEqual([1]);

  zeusd.answer("gpu 0", "setPowerLimit", {});
  zeusd.takeAway();
  await expect.poll(async () => (await zeusd.ask(set("0,1"))).status, { timeout: 10_000 }).toBe(200);
  expect(await gpuIds(zeusd)).toEqual([0, 1]);
});
