// Writes and leases: within which lease one is made, whom an exclusive lease keeps out, and in which order a write is refused.
import { readFileSync } from "node:fs";
import { beforeEach, describe, expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import { allOperations } from "../../src/contract/operations.ts";
import { parametersFor } from "../parameters.ts";
import { createHolder, gistOf, json, leaseOf, limit, limits } from "./holder.ts";
import { startLeaseSubject, type LeaseSubject } from "./lease-subject.ts";
import { createFile } from "./subject.ts";

let zeusd: LeaseSubject;

beforeEach(async () => {
  zeusd = await startLeaseSubject();
});

const body = (mw: number): { readonly headers: Readonly<Record<string, string>>; readonly body: string } => ({
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ power_limit_mw: mw, block: true }),
});
/** The leases that have changed the power limit of GPU 0. */
const holders = async (): Promise<readonly number[]> =>
  (await zeusd.list()).flatMap(({ lease, settings }) => ("power_limit" in (settings["0"] ?? {}) ? lease : []));
const queryWrites = allOperations.filter(({ kind, query }) => kind === "write" && query);
const lineOf = (name: string, parameters: object, more = ""): string =>
  `POST /gpu/${name}?gpu_ids=0&${Object.entries(parameters)
    .map(([key, value]) => `${key}=${String(value)}&`)
    .join("")}block=true${more}`;

describe("a write is made within a lease", () => {
  it("by the process that acquired it, whose value is put back when it ends", async () => {
    await zeusd.acquire();
    expect(await zeusd.ask(limit(250_000))).toMatchObject({ status: 200, body: "" });
    expect(await holders()).toEqual([1]);
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0", "300000@0"]);
  });

  it("by one that descends from it, be it another user's", async () => {
    await zeusd.acquire();
    const child = createHolder(201, { uid: 1002, parent: createHolder(200, { parent: zeusd.alice }) });
    await zeusd.ask(limit(250_000), child);
    expect(await holders()).toEqual([1]);
    await child.die();
    expect(await holders()).toEqual([1]);
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0", "300000@0"]);
  });

  it("by anybody who gives its id", async () => {
    const id = await zeusd.acquire();
    await zeusd.ask(limit(250_000, { more: `&lease_id=${id}` }), zeusd.bob);
    expect(await holders()).toEqual([1]);
    await zeusd.ask(limit(240_000, { more: `&lease_id=${id}` }), {});
    await zeusd.bob.die();
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0", "240000@0", "300000@0"]);
  });

  it("on the JSON wire as on the other", async () => {
    await zeusd.acquire();
    expect(await zeusd.ask("POST /gpu/0/set_power_limit", { ...body(250_000), peer: zeusd.alice.peer })).toMatchObject({
      status: 200,
    });
    expect(await holders()).toEqual([1]);
  });

  it("that is the nearest: a child's own before its parent's, and the newest of one process", async () => {
    const child = createHolder(200, { parent: zeusd.alice });
    await zeusd.acquire("", child);
    await zeusd.acquire();
    await zeusd.acquire();
    await zeusd.ask(limit(250_000), child);
    expect(await holders()).toEqual([1]);
    await zeusd.ask(limit(240_000));
    expect(await holders()).toEqual([1, 3]);
  });

  it("on the GPUs that it covers, and without one on the others", async () => {
    await zeusd.acquire("gpu_ids=1");
    expect((await zeusd.ask(limit(250_000, { gpus: "0,1" }))).status).toBe(200);
    expect(await holders()).toEqual([]);
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0", "250000@1", "300000@1"]);
  });

  it("not by another process, nor by one from which its holder descends, nor over TCP", async () => {
    const child = createHolder(200, { parent: zeusd.alice });
    await zeusd.acquire("", child);
    await zeusd.ask(limit(250_000), zeusd.alice);
    await zeusd.ask(limit(240_000), zeusd.bob);
    await zeusd.ask(limit(230_000), {});
    expect(await holders()).toEqual([]);
    await child.die();
    expect(limits(zeusd)).toEqual(["250000@0", "240000@0", "230000@0"]);
  });

  it("not by a process that has got the number of its holder, whether the daemon has noticed its end or not", async () => {
    await zeusd.acquire("exclusive=true&gpu_ids=1");
    await zeusd.acquire("gpu_ids=0");
    const later = createHolder(101, { started: 20_000 });
    await zeusd.ask(limit(250_000), later);
    expect((await zeusd.ask(limit(250_000, { gpus: "1" }), later)).status).toBe(423);
    await zeusd.alice.die();
    await zeusd.ask(limit(240_000), later);
    expect(await holders()).toEqual([]);
    expect(limits(zeusd)).toEqual(["250000@0", "240000@0"]);
  });
});

describe("lease_id", () => {
  it.each(queryWrites)("is known to $name", async (row) => {
    const id = await zeusd.acquire();
    const line = lineOf(row.name, parametersFor(row, 1_000), `&lease_id=${id}`);
    expect(await zeusd.ask(line, zeusd.bob)).toMatchObject({ status: 200, body: "" });
    const { leases } = json(await zeusd.ask("GET /lease/list")) as {
      readonly leases: readonly { readonly settings: object }[];
    };
    expect(Object.keys(Object.values(leases[0]?.settings ?? {})[0] as object)).toEqual(row.settings);
  });

  it.each(["", "x", "0".repeat(31), "0".repeat(33), "A".repeat(32), "g".repeat(32)])(
    "%j is none, which is refused in text like any value that does not decode",
    async (id) => {
      expect(await zeusd.ask(limit(1, { more: `&lease_id=${id}` }))).toMatchObject({
        status: 400,
        type: "text/plain; charset=utf-8",
        body: "Query deserialize error: lease_id is not 32 hexadecimal digits",
      });
      expect(zeusd.calls).toEqual([]);
    },
  );

  it("given twice is refused, and named by no refusal of another field, as the original's fields are", async () => {
    const id = await zeusd.acquire();
    const twice = await zeusd.ask(limit(1, { more: `&lease_id=${id}&lease_id=${id}` }));
    expect([twice.status, twice.body]).toEqual([400, "Query deserialize error: duplicate field `lease_id`"]);
    const unknown = await zeusd.ask(limit(1, { more: "&leaseid=1" }));
    expect(unknown.body).toMatch(/^Query deserialize error: unknown field `leaseid`, expected /);
    expect(unknown.body.slice(unknown.body.indexOf("expected"))).not.toMatch(/lease|atomic/);
  });

  it("of no lease, or of one that has ended, is 409, and nothing is written, not even without a lease", async () => {
    const id = await zeusd.acquire();
    await zeusd.ask(`POST /lease/release?lease_id=${id}`);
    for (const one of [id, "0".repeat(32)]) {
      for (const block of [true, false]) {
        expect(gistOf(await zeusd.ask(limit(1, { block, more: `&lease_id=${one}` })))).toEqual([
          409,
          "no_such_lease",
          "lease_id is that of no lease, or of one that has ended",
        ]);
      }
    }
    expect(zeusd.calls).toEqual([]);
  });

  it("of one that does not cover the GPU is 400, and nothing is written to those that it does cover", async () => {
    const id = await zeusd.acquire("gpu_ids=0");
    expect(gistOf(await zeusd.ask(limit(1, { gpus: "0,1", more: `&lease_id=${id}` })))).toEqual([
      400,
      "bad_request",
      "Lease 1 does not cover GPU 1; acquire one that does",
    ]);
    expect(zeusd.calls).toEqual([]);
  });

  it("takes a write to that lease and not to the process's own", async () => {
    const id = await zeusd.acquire();
    await zeusd.acquire("", zeusd.bob);
    await zeusd.ask(limit(250_000, { more: `&lease_id=${id}` }), zeusd.bob);
    expect(await holders()).toEqual([1]);
  });

  it.each(allOperations.filter(({ kind, query, device }) => kind === "read" && query && device === "gpu"))(
    "is not known to $name, which changes nothing",
    async ({ name }) => {
      const answer = await zeusd.ask(`GET /gpu/${name}?lease_id=${"0".repeat(32)}`);
      expect(answer.status).toBe(400);
      expect(answer.body).toMatch(/^Query deserialize error: unknown field `lease_id`/);
    },
  );

  it.each(["lease_id", "atomic"])(
    "nor %s to the JSON wire, where it would be ignored: that is refused",
    async (name) => {
      const value = name === "atomic" ? true : "0".repeat(32);
      const sent = { power_limit_mw: 1, block: true, [name]: value };
      const text = `${name} is not supported here and would be ignored; leave it out to write anyway`;
      for (const [path, fields] of [
        ["", sent],
        [`?${name}=${String(value)}`, { power_limit_mw: 1, block: true }],
      ] as const) {
        const answer = await zeusd.ask(`POST /gpu/0/set_power_limit${path}`, {
          headers: { "content-type": "application/json" },
          body: JSON.stringify(fields),
          peer: zeusd.alice.peer,
        });
        expect(answer).toMatchObject({ status: 400, type: "text/plain; charset=utf-8", body: text });
      }
      expect(zeusd.calls).toEqual([]);
    },
  );
});

describe("while somebody has an exclusive lease", () => {
  const sentence =
    'GPU 1 is held by lease 1 of uid 1000 (program-101, pid 101) since 2026-11-24T06:00:00Z (reason: "night run"); nothing may be written until it ends';

  beforeEach(async () => {
    await zeusd.acquire("gpu_ids=1&exclusive=true&reason=night+run");
  });

  it.each([true, false])(
    "a write of another is 423 with who holds it, since when and why, before any GPU hears of it, with block=%s",
    async (block) => {
      for (const gpus of ["1", "0,1"]) {
        expect(gistOf(await zeusd.ask(limit(250_000, { gpus, block }), zeusd.bob))).toEqual([423, "held", sentence]);
      }
      await zeusd.clock.advance(60_000);
      expect(zeusd.calls).toEqual([]);
      expect((await zeusd.ask(limit(250_000), zeusd.bob)).status).toBe(200);
    },
  );

  it.each(queryWrites)("$name is refused", async (row) => {
    const line = lineOf(row.name, parametersFor(row, 1_000)).replace("gpu_ids=0", "gpu_ids=1");
    expect((await zeusd.ask(line, zeusd.bob)).status).toBe(423);
    expect(zeusd.calls).toEqual([]);
  });

  it("is refused in text on the JSON wire", async () => {
    for (const path of allOperations.flatMap(({ kind, json: wire }) => (kind === "write" ? (wire?.paths ?? []) : []))) {
      const sent = { enabled: true, power_limit_mw: 1, min_clock_mhz: 1, max_clock_mhz: 2, block: true };
      const answer = await zeusd.ask(`POST /gpu/1/${path}`, {
        ...body(1),
        body: JSON.stringify(sent),
        peer: zeusd.bob.peer,
      });
      expect(answer).toMatchObject({ status: 423, type: "text/plain; charset=utf-8", body: sentence });
    }
    expect(zeusd.calls).toEqual([]);
  });

  it("it says nothing of a reason where there is none", async () => {
    await zeusd.acquire("gpu_ids=0&exclusive=true");
    expect(gistOf(await zeusd.ask(limit(1), zeusd.bob))[2]).toBe(
      "GPU 0 is held by lease 2 of uid 1000 (program-101, pid 101) since 2026-11-24T06:00:00Z; nothing may be written until it ends",
    );
  });

  it("over TCP it is refused as well, and whoever gives its id may write", async () => {
    expect((await zeusd.ask(limit(1, { gpus: "1" }), {})).status).toBe(423);
    const id = leaseOf(await zeusd.ask("POST /lease/acquire?gpu_ids=0&exclusive=true")).lease_id;
    expect((await zeusd.ask(limit(200_000), {})).status).toBe(423);
    expect((await zeusd.ask(limit(200_000, { more: `&lease_id=${id}` }), {})).status).toBe(200);
  });

  it("another process of the same user is another", async () => {
    expect((await zeusd.ask(limit(1, { gpus: "1" }), createHolder(300))).status).toBe(423);
  });

  it("the holder writes, and so do its descendants", async () => {
    expect((await zeusd.ask(limit(250_000, { gpus: "1" }))).status).toBe(200);
    const child = createHolder(200, { uid: 1002, parent: zeusd.alice });
    expect((await zeusd.ask(limit(240_000, { gpus: "1" }), child)).status).toBe(200);
  });

  it("root writes, and without a lease of its own what it wrote stays", async () => {
    await zeusd.ask(limit(250_000, { gpus: "1" }));
    expect((await zeusd.ask(limit(200_000, { gpus: "1" }), zeusd.root)).status).toBe(200);
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@1", "200000@1"]);
  });

  it("reads go on", async () => {
    for (const { name } of allOperations.filter(
      ({ kind, query, device }) => kind === "read" && query && device === "gpu",
    ))
      expect(await zeusd.ask(`GET /gpu/${name}?gpu_ids=1`, zeusd.bob)).toMatchObject({ status: 200 });
    expect((await zeusd.ask("GET /gpu/get_state", zeusd.bob)).status).toBe(200);
    const { status } = await zeusd.follow("GET /gpu/stream_power?gpu_ids=1", () => true, zeusd.bob);
    expect(status).toBe(200);
  });

  it("others' leases on the same GPU are refused, shared or exclusive, and on others are not", async () => {
    for (const query of ["gpu_ids=1", "gpu_ids=0,1", "gpu_ids=1&exclusive=true", ""]) {
      expect(gistOf(await zeusd.ask(`POST /lease/acquire?${query}`, zeusd.bob))).toEqual([
        423,
        "held",
        'GPU 1 is held by lease 1 of uid 1000 (program-101, pid 101) since 2026-11-24T06:00:00Z (reason: "night run"); wait until that ends, or leave it out',
      ]);
    }
    expect(zeusd.bob.handles).toBe(0);
    await zeusd.acquire("gpu_ids=0&exclusive=true", zeusd.bob);
  });

  it("the holder and its descendants may have more leases on it", async () => {
    await zeusd.acquire("gpu_ids=1");
    await zeusd.acquire("gpu_ids=1&exclusive=true");
    const child = createHolder(200, { parent: zeusd.alice });
    const id = await zeusd.acquire("gpu_ids=1", child);
    expect((await zeusd.ask(limit(250_000, { gpus: "1" }), child)).status).toBe(200);
    // A shared lease of the holder's opens nothing to others.
    expect((await zeusd.ask(limit(240_000, { gpus: "1", more: `&lease_id=${id}` }), zeusd.bob)).status).toBe(423);
    expect(limits(zeusd)).toEqual(["250000@1"]);
  });

  it("it is over when it ends, for whoever comes then", async () => {
    await zeusd.alice.die();
    expect((await zeusd.ask(limit(250_000, { gpus: "1" }), zeusd.bob)).status).toBe(200);
    await zeusd.acquire("exclusive=true", zeusd.bob);
  });
});

describe("an exclusive lease", () => {
  it("is refused while others share the GPU, and not while only the same process and its descendants do", async () => {
    await zeusd.acquire("gpu_ids=1");
    await zeusd.acquire("gpu_ids=1", createHolder(200, { parent: zeusd.alice }));
    expect(gistOf(await zeusd.ask("POST /lease/acquire?exclusive=true", zeusd.bob))).toEqual([
      423,
      "held",
      "GPU 1 is held by lease 1 of uid 1000 (program-101, pid 101) since 2026-11-24T06:00:00Z; wait until that ends, or leave it out",
    ]);
    await zeusd.acquire("gpu_ids=1", zeusd.bob);
    expect((await zeusd.ask("POST /lease/acquire?exclusive=true", zeusd.bob)).status).toBe(423);
    expect((await zeusd.ask("POST /lease/acquire?exclusive=true")).status).toBe(423);
    await zeusd.bob.die();
    // The child's lease is its own and not the parent's.
    expect((await zeusd.ask("POST /lease/acquire?exclusive=true")).status).toBe(423);
  });

  it("is answered when what others have asked for before is done, and keeps out what they ask for meanwhile", async () => {
    const done = zeusd.hold("gpu 0", "setPowerLimit");
    const before = [zeusd.ask(limit(250_000), zeusd.bob), zeusd.ask(limit(240_000, { block: false }), zeusd.bob)];
    await zeusd.clock.advance(0);
    let answered = false;
    const acquired = zeusd.ask("POST /lease/acquire?exclusive=true").finally(() => (answered = true));
    await zeusd.clock.advance(0);
    expect((await zeusd.ask(limit(230_000), zeusd.bob)).status).toBe(423);
    expect(answered).toBe(false);
    zeusd.answer("gpu 0", "setPowerLimit", {});
    done();
    expect((await Promise.all(before)).map(({ status }) => status)).toEqual([200, 200]);
    leaseOf(await acquired);
    expect(limits(zeusd)).toEqual(["250000@0", "240000@0"]);
  });

  it("is not to be had of a GPU that does not get to the end of that: none is left behind, on any GPU", async () => {
    zeusd.hold("gpu 0", "resetMemLockedClocks");
    void zeusd.ask("POST /gpu/reset_mem_locked_clocks?gpu_ids=0&block=true", zeusd.bob);
    await zeusd.clock.advance(1);
    const late = zeusd.ask("POST /lease/acquire?exclusive=true");
    await zeusd.clock.advance(4_000);
    expect((await late).status).toBe(503);
    expect(gistOf(await zeusd.ask("POST /lease/acquire?exclusive=true")).slice(0, 2)).toEqual([503, "lane_stuck"]);
    expect(json(await zeusd.ask("GET /lease/list"))).toEqual({ leases: [] });
    expect(zeusd.alice.handles).toBe(0);
    // A shared lease waits for nothing.
    leaseOf(await zeusd.ask("POST /lease/acquire"));
  });

  it("is upgraded to by its only holder", async () => {
    await zeusd.acquire();
    await zeusd.acquire("exclusive=true");
    expect((await zeusd.ask(limit(1), zeusd.bob)).status).toBe(423);
  });

  it("root gets at once, whoever shares the GPU, and keeps out those that share it too", async () => {
    await zeusd.acquire();
    await zeusd.acquire("exclusive=true", zeusd.root);
    expect((await zeusd.ask(limit(1))).status).toBe(423);
    await zeusd.root.die();
    expect((await zeusd.ask(limit(250_000))).status).toBe(200);
  });

  it("binds a holder in another's lease", async () => {
    const id = await zeusd.acquire("exclusive=true&gpu_ids=0");
    await zeusd.acquire("exclusive=true&gpu_ids=1", zeusd.bob);
    expect((await zeusd.ask(limit(1, { gpus: "0,1" }))).status).toBe(423);
    expect((await zeusd.ask(limit(1, { gpus: "0,1" }), zeusd.bob)).status).toBe(423);
    expect((await zeusd.ask(limit(200_000, { more: `&lease_id=${id}` }), zeusd.bob)).status).toBe(200);
  });
});

describe("in the lane", () => {
  it("a command whose lease ends while it waits is dropped: its caller is told 409, and the others are run", async () => {
    const id = await zeusd.acquire();
    const done = zeusd.hold("gpu 0", "resetMemLockedClocks");
    const first = zeusd.ask("POST /gpu/reset_mem_locked_clocks?gpu_ids=0&block=true", zeusd.bob);
    const own = zeusd.ask(limit(250_000));
    const byId = zeusd.ask(limit(240_000, { gpus: "0,1", more: `&lease_id=${id}` }), zeusd.bob);
    const other = zeusd.ask(limit(230_000), zeusd.bob);
    await zeusd.clock.advance(0);
    await zeusd.alice.die();
    const dropped = "Lease 1 has ended, and what was to be written within it was dropped";
    expect(json(await own)).toEqual({ errors: { 0: dropped }, results: {}, code: "no_such_lease" });
    expect(await byId).toMatchObject({ status: 409 });
    expect(json(await byId)).toEqual({ errors: { 0: dropped }, results: { 1: {} }, code: "no_such_lease" });
    done();
    expect((await first).status).toBe(200);
    expect((await other).status).toBe(200);
    await zeusd.clock.advance(0);
    expect(limits(zeusd)).toEqual(["240000@1", "300000@1", "230000@0"]);
  });

  it("those for which nobody waits are dropped with one line in the log", async () => {
    await zeusd.acquire();
    const done = zeusd.hold("gpu 0", "resetMemLockedClocks");
    const first = zeusd.ask("POST /gpu/reset_mem_locked_clocks?gpu_ids=0&block=true", zeusd.bob);
    for (const mw of [250_000, 240_000, 230_000])
      expect((await zeusd.ask(limit(mw, { block: false }))).status).toBe(200);
    await zeusd.ask(limit(220_000, { block: false }), zeusd.bob);
    await zeusd.alice.die();
    expect(zeusd.logged.filter((line) => line.includes("Dropped"))).toEqual([
      "warn Dropped commands for GPU 0 that had been accepted, 3 of them: Lease 1 has ended, and what was to be written within it was dropped",
    ]);
    done();
    await first;
    await zeusd.clock.advance(0);
    expect(limits(zeusd)).toEqual(["220000@0"]);
  });

  it("what a lease has changed is put back before what waits", async () => {
    await zeusd.acquire();
    await zeusd.ask("POST /gpu/set_gpu_locked_clocks?gpu_ids=0&min_clock_mhz=100&max_clock_mhz=900&block=true");
    const done = zeusd.hold("gpu 0", "resetMemLockedClocks");
    const first = zeusd.ask("POST /gpu/reset_mem_locked_clocks?gpu_ids=0&block=true", zeusd.bob);
    const waiting = [zeusd.ask(limit(230_000), zeusd.bob), zeusd.ask("GET /gpu/get_clocks?gpu_ids=0", zeusd.bob)];
    await zeusd.clock.advance(0);
    await zeusd.alice.die();
    done();
    await Promise.all([first, ...waiting]);
    const calls = zeusd.calls.slice(zeusd.calls.findIndex((call) => call.includes("resetMem")) + 1);
    expect(calls.map((call) => call.split(" ")[2])).toEqual(["resetGpuLockedClocks", "setPowerLimit", "getClocks"]);
  });

  it("a write that is under way when its lease ends takes effect, and is put back then", async () => {
    await zeusd.acquire();
    const done = zeusd.hold("gpu 0", "setPowerLimit");
    const running = zeusd.ask(limit(250_000));
    await zeusd.clock.advance(0);
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0"]);
    done();
    expect((await running).status).toBe(200);
    await zeusd.clock.advance(0);
    expect(limits(zeusd)).toEqual(["250000@0", "300000@0"]);
  });

  it("a write is dropped whose lease ends while the daemon reads what was there before", async () => {
    await zeusd.acquire();
    const done = zeusd.hold("gpu 0", "getPowerLimit", { power_limit_mw: 300_000 });
    const running = zeusd.ask(limit(250_000));
    await zeusd.clock.advance(0);
    await zeusd.alice.die();
    done();
    expect(gistOf(await running)[0]).toBe(409);
    await zeusd.clock.advance(60_000);
    expect(limits(zeusd)).toEqual([]);
  });

  it("nothing is written within a lease where nobody could say what to put back", async () => {
    await zeusd.acquire();
    zeusd.answer("gpu 0", "getPowerLimit", new ZeusdError("driver_error", "NVML error: busy"));
    const answer = await zeusd.ask(limit(250_000));
    expect(answer.status).toBe(500);
    expect(json(answer)).toMatchObject({ errors: { 0: "NVML error: busy" } });
    expect(limits(zeusd)).toEqual([]);
    expect((await zeusd.ask(limit(250_000), zeusd.bob)).status).toBe(200);
  });
});

describe("a write is refused in this order:", () => {
  const policy = `
    [[rule]]
    name = "slow"
    anyone = true
    allow = ["gpu-read", "set_power_limit"]
    bounds = [{ power_limit_mw = { max = 300000 } }]
    rate = { writes_per_second = 1, burst = 1 }
  `;

  it.each([true, false])("by the policy, by its rate, by the lane, with block=%s", async (block) => {
    zeusd = await startLeaseSubject({ policy });
    zeusd.hold("gpu 0", "setPowerLimit");
    const stuck = zeusd.ask(limit(1), zeusd.root);
    await zeusd.clock.advance(4_000);
    expect((await stuck).status).toBe(504);
    const refusal = async (mw: number): Promise<number> => (await zeusd.ask(limit(mw, { block }), zeusd.bob)).status;
    expect(await refusal(1)).toBe(503);
    expect(await refusal(1)).toBe(429);
    expect(await refusal(300_001)).toBe(403);
  });

  it.each([true, false])(
    "by the policy, by leases, and then by its rate and by the lane, with block=%s",
    async (block) => {
      zeusd = await startLeaseSubject({ policy });
      await zeusd.acquire("exclusive=true&gpu_ids=0");
      zeusd.hold("gpu 0", "setPowerLimit");
      const stuck = zeusd.ask(limit(1), zeusd.root);
      await zeusd.clock.advance(4_000);
      expect((await stuck).status).toBe(504);
      expect((await zeusd.ask(limit(1, { gpus: "1" }), zeusd.bob)).status).toBe(200);
      expect((await zeusd.ask(limit(1, { gpus: "1" }), zeusd.bob)).status).toBe(429);
      const refusal = async (mw: number): Promise<number> => (await zeusd.ask(limit(mw, { block }), zeusd.bob)).status;
      expect(await refusal(1)).toBe(423);
      expect(await refusal(300_001)).toBe(403);
    },
  );

  it("a 423 uses up no rate, in a dry run as little as in earnest", async () => {
    zeusd = await startLeaseSubject({ policy });
    const id = await zeusd.acquire("exclusive=true");
    for (let count = 0; count < 5; count += 1) {
      expect((await zeusd.ask(limit(1), zeusd.bob)).status).toBe(423);
      expect((await zeusd.ask(limit(1, { more: "&dry_run=true" }), zeusd.bob)).status).toBe(423);
      expect((await zeusd.ask(limit(1, { more: `&lease_id=${"0".repeat(32)}` }), zeusd.bob)).status).toBe(409);
    }
    await zeusd.ask(`POST /lease/release?lease_id=${id}`);
    expect((await zeusd.ask(limit(200_000), zeusd.bob)).status).toBe(200);
    expect((await zeusd.ask(limit(200_000), zeusd.bob)).status).toBe(429);
  });
});

describe("the audit", () => {
  let auditLog: string;
  const lines = async (): Promise<readonly Record<string, unknown>[]> => {
    await zeusd.clock.advance(2_000);
    const text = readFileSync(auditLog, "utf8");
    return text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  };

  beforeEach(async () => {
    auditLog = createFile("audit.jsonl", "");
    zeusd = await startLeaseSubject({ config: { auditLog, auditRequired: true } });
  });

  it("names the lease within which a write was made by its number, and none where there was none", async () => {
    await zeusd.acquire("gpu_ids=1");
    await zeusd.ask(limit(250_000, { gpus: "0,1" }));
    await zeusd.clock.advance(2_000);
    await zeusd.ask(limit(240_000), zeusd.bob);
    const ended = (await lines()).filter(({ event }) => event === undefined);
    expect(ended.map(({ uid, gpu, lease, outcome }) => [uid, gpu, lease, outcome])).toEqual([
      [1000, 0, undefined, "ok"],
      [1000, 1, 1, "ok"],
      [1001, 0, undefined, "ok"],
    ]);
  });

  it("has no line that a write begins for one that is held, and one that it was refused", async () => {
    await zeusd.acquire("exclusive=true");
    await zeusd.ask(limit(250_000), zeusd.bob);
    const [line, ...more] = await lines();
    expect(more).toEqual([]);
    expect(line).toMatchObject({
      uid: 1001,
      operation: "set_power_limit",
      gpus: [0],
      asked: { power_limit_mw: 250_000 },
      outcome: "held",
      message: expect.stringMatching(/^GPU 0 is held by lease 1 of uid 1000/),
    });
    expect(line).not.toHaveProperty("event");
  });

  it("has a line for what was dropped with its lease", async () => {
    await zeusd.acquire();
    const done = zeusd.hold("gpu 0", "resetMemLockedClocks");
    void zeusd.ask("POST /gpu/reset_mem_locked_clocks?gpu_ids=0&block=true", zeusd.bob);
    await zeusd.ask(limit(250_000, { block: false }));
    await zeusd.alice.die();
    done();
    const dropped = (await lines()).find(({ outcome }) => outcome === "no_such_lease");
    expect(dropped).toMatchObject({ uid: 1000, gpu: 0, lease: 1, operation: "set_power_limit" });
    expect(dropped).not.toHaveProperty("after");
  });
});

describe("a dry run", () => {
  const dry = "&dry_run=true";
  const leases = async (line: string, by = zeusd.alice): Promise<unknown> => {
    const { gpus } = json(await zeusd.ask(line, by)) as { readonly gpus: Record<string, { readonly lease: unknown }> };
    return Object.fromEntries(Object.entries(gpus).map(([id, { lease }]) => [id, lease]));
  };

  it("says within which lease it would be written to each GPU", async () => {
    const id = await zeusd.acquire("gpu_ids=1");
    expect(await leases(limit(1, { gpus: "0,1", more: dry }))).toEqual({ 0: null, 1: 1 });
    expect(await leases(limit(1, { gpus: "1", more: `${dry}&lease_id=${id}` }), zeusd.bob)).toEqual({ 1: 1 });
    expect(await leases(limit(1, { gpus: "1", more: dry }), zeusd.bob)).toEqual({ 1: null });
    expect(zeusd.calls).toEqual([]);
  });

  it("is refused by an exclusive lease as the write would be", async () => {
    await zeusd.acquire("exclusive=true");
    const [rehearsed, real] = [
      await zeusd.ask(limit(1, { more: dry }), zeusd.bob),
      await zeusd.ask(limit(1), zeusd.bob),
    ];
    expect(gistOf(rehearsed)).toEqual(gistOf(real));
    expect(rehearsed.status).toBe(423);
  });

  it("makes no lease where a write would come with one", async () => {
    zeusd = await startLeaseSubject({ config: { restoreOnExit: true } });
    expect(await leases(limit(1, { more: dry }))).toEqual({ 0: null });
    expect(zeusd.alice.handles).toBe(0);
    expect((await zeusd.ask(limit(250_000))).status).toBe(200);
    expect(zeusd.alice.handles).toBe(1);
  });
});
