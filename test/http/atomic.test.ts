// Writes to several GPUs that are done on all of them or on none.
import { beforeEach, describe, expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import { allOperations } from "../../src/contract/operations.ts";
import { parametersFor } from "../parameters.ts";
import { gistOf, json, leaseOf, limit, limits, written, type Holder } from "./holder.ts";
import { startLeaseSubject, type LeaseSubject } from "./lease-subject.ts";
import type { Answer } from "./subject.ts";

let zeusd: LeaseSubject;

beforeEach(async () => {
  zeusd = await startLeaseSubject();
});

const ask = (line: string, by?: Holder): Promise<Answer> => zeusd.ask(line, by ? { peer: by.peer } : {});
const both = (mw: number, more = ""): string => limit(mw, { gpus: "0,1", more: `&atomic=true${more}` });
const atomic = (mw: number, by?: Holder): Promise<Answer> => ask(both(mw), by);
const low = new ZeusdError("invalid_argument", "NVML error: a supplied argument was invalid");
const busy = new ZeusdError("driver_error", "NVML error: busy");
const away = new ZeusdError("driver_error", "NVML error: sick");
/** What reached one GPU. */
const on = (gpu: number): readonly string[] => limits(zeusd).filter((call) => call.endsWith(`@${gpu}`));

describe("an atomic write", () => {
  it.each(allOperations.filter(({ kind, query }) => kind === "write" && query))(
    "$name that succeeds says so of each GPU",
    async (row) => {
      const pairs = Object.entries(parametersFor(row, 1_000)).map(([name, value]) => `${name}=${value}&`);
      const line = (more: string): string => `POST /gpu/${row.name}?gpu_ids=1,0&${pairs.join("")}block=true${more}`;
      const answer = await ask(line("&atomic=true"));
      expect(answer).toMatchObject({ status: 200, type: "application/json" });
      expect(json(answer)).toEqual({ atomic: true, gpus: { 0: "done", 1: "done" } });
      const wanted = written(zeusd);
      await zeusd.clock.advance(60_000);
      expect(written(zeusd)).toEqual(wanted);
      // With atomic=false it is as ever.
      expect(await ask(line("&atomic=false"))).toMatchObject({ status: 200, type: undefined, body: "" });
    },
  );

  it("that fails on one GPU is undone on the others, which the reply says once it is so", async () => {
    zeusd.answer("gpu 1", "setPowerLimit", low);
    const answer = await atomic(250_000);
    expect(answer).toMatchObject({ status: 400, type: "application/json" });
    expect(json(answer)).toEqual({ errors: { 1: low.message }, undone: { 0: "undone" }, code: "invalid_argument" });
    expect(limits(zeusd).toSorted()).toEqual(["250000@0", "250000@1", "300000@0"]);
  });

  it("undoes what the slow ones do, too: the reply waits for all of them", async () => {
    zeusd.answer("gpu 0", "setPowerLimit", low);
    const done = zeusd.hold("gpu 1", "setPowerLimit");
    let answered = false;
    const answer = atomic(250_000).finally(() => (answered = true));
    await zeusd.clock.advance(100);
    expect(answered).toBe(false);
    done();
    expect(json(await answer)).toMatchObject({ undone: { 1: "undone" } });
    expect(on(1)).toEqual(["250000@1", "300000@1"]);
    expect(on(0)).toEqual(["250000@0"]);
  });

  it("goes back to what was written without a lease before", async () => {
    await ask(limit(280_000, { gpus: "0,1" }));
    zeusd.answer("gpu 1", "setPowerLimit", low);
    await atomic(250_000);
    expect(on(0)).toEqual(["280000@0", "250000@0", "280000@0"]);
  });

  it("goes back to locked clocks that somebody had set, and resets them where nobody had", async () => {
    const lock = (gpus: string, high: number, more = ""): string =>
      `POST /gpu/set_gpu_locked_clocks?gpu_ids=${gpus}&min_clock_mhz=100&max_clock_mhz=${high}&block=true${more}`;
    zeusd = await startLeaseSubject({ gpus: 3 });
    await ask(lock("1", 800));
    zeusd.answer("gpu 2", "setGpuLockedClocks", low);
    expect(json(await ask(lock("0,1,2", 900, "&atomic=true")))).toMatchObject({ undone: { 0: "undone", 1: "undone" } });
    expect(written(zeusd).slice(-2).toSorted()).toEqual([
      "gpu 0 resetGpuLockedClocks",
      "gpu 1 setGpuLockedClocks 100 800",
    ]);
  });

  it("that fails everywhere has nothing to undo, and answers with the worst", async () => {
    zeusd.answer("gpu 0", "setPowerLimit", low);
    zeusd.answer("gpu 1", "setPowerLimit", busy);
    const answer = await atomic(250_000);
    expect(answer.status).toBe(500);
    expect(json(answer)).toMatchObject({
      errors: { 0: low.message, 1: busy.message },
      undone: {},
      code: "driver_error",
    });
  });

  it("on a GPU that is away or stuck is not begun on the other", async () => {
    zeusd = await startLeaseSubject({ away: [{ id: 1, away }] });
    const answer = await atomic(250_000);
    expect(answer.status).toBe(503);
    expect(answer.headers["retry-after"]).toBe("5");
    expect(json(answer)).toEqual({ error: "GPU 1 is away: NVML error: sick", code: "gpu_away" });
    zeusd = await startLeaseSubject();
    zeusd.hold("gpu 1", "resetMemLockedClocks");
    void ask("POST /gpu/reset_mem_locked_clocks?gpu_ids=1&block=true");
    await zeusd.clock.advance(4_000);
    expect(gistOf(await atomic(250_000)).slice(0, 2)).toEqual([503, "lane_stuck"]);
    expect(limits(zeusd)).toEqual([]);
  });

  it("on a GPU where nobody can tell what to go back to is not even tried there", async () => {
    zeusd.answer("gpu 1", "getPowerLimit", busy);
    expect(json(await atomic(250_000))).toMatchObject({ errors: { 1: busy.message }, undone: { 0: "undone" } });
    expect(on(1)).toEqual([]);
  });

  it("that cannot be undone now says why, and is undone when that works", async () => {
    zeusd.answer("gpu 1", "setPowerLimit", low);
    let first = true;
    zeusd.answer("gpu 0", "setPowerLimit", async () => {
      if (!first) throw busy;
      first = false;
      return {};
    });
    expect(json(await atomic(250_000))).toEqual({
      errors: { 1: low.message },
      undone: { 0: "NVML error: busy" },
      code: "invalid_argument",
    });
    zeusd.answer("gpu 0", "setPowerLimit", {});
    await zeusd.clock.advance(1_000);
    expect(on(0)).toEqual(["250000@0", "300000@0", "300000@0"]);
  });

  it("that has not returned in time is 504, and undone when it succeeds all the same", async () => {
    const done = zeusd.hold("gpu 1", "setPowerLimit");
    const answer = atomic(250_000);
    await zeusd.clock.advance(4_000);
    expect((await answer).status).toBe(504);
    expect(json(await answer)).toMatchObject({ undone: { 0: "undone" }, code: "deadline" });
    expect(limits(zeusd).toSorted()).toEqual(["250000@0", "250000@1", "300000@0"]);
    zeusd.answer("gpu 1", "setPowerLimit", {});
    done();
    await zeusd.clock.advance(0);
    expect(on(1)).toEqual(["250000@1", "300000@1"]);
  });

  it("that has not returned in time and fails then is over", async () => {
    let fail = (_error: unknown): void => {};
    zeusd.answer("gpu 1", "setPowerLimit", () => new Promise((_, reject) => (fail = reject)));
    const answer = atomic(250_000);
    await zeusd.clock.advance(4_000);
    expect((await answer).status).toBe(504);
    fail(low);
    await zeusd.clock.advance(60_000);
    expect(on(1)).toEqual(["250000@1"]);
  });

  it("leaves a later write of somebody else as it is", async () => {
    const done = zeusd.hold("gpu 1", "setPowerLimit");
    const answer = atomic(250_000);
    await zeusd.clock.advance(0);
    expect((await ask(limit(200_000))).status).toBe(200);
    zeusd.answer("gpu 1", "setPowerLimit", low);
    await zeusd.clock.advance(4_000);
    expect((await answer).status).toBe(504);
    done();
    await zeusd.clock.advance(60_000);
    expect(on(0)).toEqual(["250000@0", "200000@0"]);
  });

  it("that fails leaves nothing behind where another that overlaps it fails as well", async () => {
    const ends: (() => void)[] = [];
    zeusd.answer("gpu 1", "setPowerLimit", () => new Promise((_, reject) => ends.push(() => reject(low))));
    const answers = [atomic(250_000), atomic(200_000)];
    await zeusd.clock.advance(0);
    expect(on(0)).toEqual(["250000@0", "200000@0"]);
    for (const [index, answer] of answers.entries()) {
      ends[index]?.();
      expect((await answer).status).toBe(400);
      await zeusd.clock.advance(0);
    }
    expect(on(0).at(-1)).toBe("300000@0");
  });

  it("is a single GPU's as well", async () => {
    expect(json(await ask(limit(250_000, { more: "&atomic=true" })))).toEqual({ atomic: true, gpus: { 0: "done" } });
    zeusd.answer("gpu 0", "setPowerLimit", low);
    expect(json(await ask(limit(1, { more: "&atomic=true" })))).toEqual({
      errors: { 0: low.message },
      undone: {},
      code: "invalid_argument",
    });
  });

  it("of two settings undoes the one that succeeded on the GPU where the other failed", async () => {
    zeusd.answer("gpu 1", "resetMemLockedClocks", low);
    await ask("POST /gpu/set_gpu_locked_clocks?gpu_ids=0,1&min_clock_mhz=1&max_clock_mhz=2&block=true");
    const before = written(zeusd).length;
    const answer = await ask("POST /gpu/reset_locked_clocks?gpu_ids=0,1&block=true&atomic=true");
    expect(json(answer)).toMatchObject({ errors: { 1: low.message }, undone: { 0: "undone" } });
    await zeusd.clock.advance(0);
    expect(written(zeusd).slice(before).toSorted()).toEqual(
      [0, 1].flatMap((gpu) => [
        `gpu ${gpu} resetGpuLockedClocks`,
        `gpu ${gpu} resetMemLockedClocks`,
        `gpu ${gpu} setGpuLockedClocks 1 2`,
      ]),
    );
  });
});

describe("an atomic write within a lease", () => {
  beforeEach(async () => {
    leaseOf(await ask("POST /lease/acquire", zeusd.alice));
  });

  it("that succeeds is the lease's", async () => {
    expect((await atomic(250_000, zeusd.alice)).status).toBe(200);
    await zeusd.alice.die();
    await zeusd.clock.advance(0);
    expect(limits(zeusd).slice(2).toSorted()).toEqual(["300000@0", "300000@1"]);
  });

  it("that fails goes back to the lease's value before, which stays the lease's", async () => {
    await ask(limit(270_000, { gpus: "0,1" }), zeusd.alice);
    zeusd.answer("gpu 1", "setPowerLimit", low);
    expect(json(await atomic(250_000, zeusd.alice))).toMatchObject({ undone: { 0: "undone" } });
    expect(on(0)).toEqual(["270000@0", "250000@0", "270000@0"]);
    expect(json(await ask("GET /lease/list"))).toMatchObject({
      leases: [{ settings: { 0: { power_limit: { asked: { power_limit_mw: 270_000 }, wins: true } } } }],
    });
    zeusd.answer("gpu 1", "setPowerLimit", {});
    await zeusd.alice.die();
    await zeusd.clock.advance(0);
    expect(on(0).at(-1)).toBe("300000@0");
    expect(on(1)).toEqual(["270000@1", "250000@1", "300000@1"]);
  });

  it("that fails as its first leaves nothing that the lease has changed", async () => {
    zeusd.answer("gpu 1", "setPowerLimit", low);
    await atomic(250_000, zeusd.alice);
    expect(on(0)).toEqual(["250000@0", "300000@0"]);
    expect(json(await ask("GET /lease/list"))).toMatchObject({ leases: [{ lease: 1, settings: {} }] });
    await zeusd.alice.die();
    await zeusd.clock.advance(0);
    expect(on(0)).toHaveLength(2);
  });

  it("that ends before it fails is put back once", async () => {
    const done = zeusd.hold("gpu 1", "setPowerLimit");
    const answer = atomic(250_000, zeusd.alice);
    await zeusd.clock.advance(0);
    await zeusd.alice.die();
    expect(on(0)).toEqual(["250000@0", "300000@0"]);
    zeusd.answer("gpu 1", "setPowerLimit", {});
    done();
    expect((await answer).status).toBe(200);
    await zeusd.clock.advance(0);
    expect(on(0)).toHaveLength(2);
    expect(on(1)).toEqual(["250000@1", "300000@1"]);
  });
});

describe("atomic", () => {
  it("is refused where nobody waits, also in a dry run, in words and not in text", async () => {
    for (const more of ["&atomic=true", "&atomic=true&dry_run=true"]) {
      const answer = await ask(limit(1, { gpus: "0,1", block: false, more }));
      expect(answer.type).toBe("application/json");
      expect(gistOf(answer)).toEqual([400, "bad_request", "atomic needs block=true: who does not wait cannot be told"]);
    }
    expect((await ask(limit(1, { block: false, more: "&atomic=false" }))).status).toBe(200);
    expect(limits(zeusd)).toEqual(["1@0"]);
  });

  it.each(["", "1", "TRUE", "yes"])("is not %j", async (value) => {
    expect(await ask(limit(1, { more: `&atomic=${value}` }))).toMatchObject({
      status: 400,
      type: "text/plain; charset=utf-8",
      body: "Query deserialize error: provided string was not `true` or `false`",
    });
    expect(zeusd.calls).toEqual([]);
  });

  it("with dry_run=true is a dry run", async () => {
    expect(json(await ask(both(250_000, "&dry_run=true")))).toMatchObject({
      dry_run: true,
      operation: "set_power_limit",
    });
    expect(zeusd.calls).toEqual([]);
  });

  it("is not known to reads", async () => {
    expect((await ask("GET /gpu/get_power_limit?gpu_ids=0&atomic=true")).status).toBe(400);
  });

  it("does not go past an exclusive lease", async () => {
    await ask("POST /lease/acquire?gpu_ids=1&exclusive=true", zeusd.alice);
    expect((await atomic(250_000)).status).toBe(423);
    expect(zeusd.calls).toEqual([]);
  });
});
