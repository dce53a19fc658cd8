// Implicit leases: what processes write that ask for no lease is put back when they end.
import { beforeEach, describe, expect, it } from "vitest";
import { createHolder, gistOf, json, leaseOf, limit, limits } from "./holder.ts";
import { startLeaseSubject, type LeaseSubject } from "./lease-subject.ts";

let zeusd: LeaseSubject;

beforeEach(async () => {
  zeusd = await startLeaseSubject({ config: { restoreOnExit: true } });
});

describe("an implicit lease", () => {
  it("is the process's, is shared, and covers what it has changed", async () => {
    await zeusd.ask(limit(250_000));
    expect(await zeusd.list(zeusd.bob)).toEqual([
      {
        lease: 1,
        gpu_ids: [0],
        exclusive: false,
        implicit: true,
        reason: null,
        since_ms: zeusd.clock.epochMs(),
        expires_ms: null,
        holder: { uid: 1000, pid: 101, program: "program-101", sub: null },
        settings: {
          0: { power_limit: { asked: { power_limit_mw: 250_000 }, covers: { power_limit_mw: 300_000 }, wins: true } },
        },
      },
    ]);
    await zeusd.ask("POST /gpu/set_persistence_mode?gpu_ids=1&enabled=true&block=true");
    expect(await zeusd.list(zeusd.bob)).toMatchObject([{ lease: 1, gpu_ids: [0, 1] }]);
    expect(zeusd.alice.handles).toBe(1);
  });

  it("is one for all that a process writes, on whichever wire and however many connections", async () => {
    const { peer } = zeusd.alice;
    for (const mw of [250_000, 240_000]) {
      await zeusd.ask("POST /gpu/0/set_power_limit", {
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ power_limit_mw: mw, block: true }),
        peer: { ...peer },
      });
      await zeusd.ask(limit(mw, { gpus: "1" }));
    }
    expect(await zeusd.list(zeusd.bob)).toMatchObject([{ lease: 1, gpu_ids: [0, 1] }]);
    expect(zeusd.alice.handles).toBe(1);
    await zeusd.alice.die();
    expect(limits(zeusd).slice(4).toSorted()).toEqual(["300000@0", "300000@1"]);
    expect(await zeusd.list(zeusd.bob)).toEqual([]);
  });

  it("is a child's own, and ends with the child", async () => {
    const child = createHolder(200, { parent: zeusd.alice });
    await zeusd.ask(limit(250_000));
    await zeusd.ask(limit(240_000), child);
    await child.die();
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0", "240000@0", "250000@0", "300000@0"]);
  });

  it("is not made where the process, or one that it descends from, has a lease that covers the GPU", async () => {
    await zeusd.ask("POST /lease/acquire?gpu_ids=0");
    const child = createHolder(200, { parent: zeusd.alice });
    await zeusd.ask(limit(250_000), child);
    expect(await zeusd.list(zeusd.bob)).toMatchObject([{ lease: 1, implicit: false, settings: { 0: {} } }]);
    await zeusd.ask(limit(250_000, { gpus: "1" }), child);
    expect(await zeusd.list(zeusd.bob)).toMatchObject([{ lease: 1 }, { lease: 2, implicit: true, gpu_ids: [1] }]);
    await child.die();
    expect(limits(zeusd)).toEqual(["250000@0", "250000@1", "300000@1"]);
  });

  it("is not made over TCP, and not for a process whose end cannot be noticed, which is logged once", async () => {
    await zeusd.ask(limit(250_000), {});
    const hidden = createHolder(103, { hidden: true });
    for (const mw of [240_000, 230_000]) expect((await zeusd.ask(limit(mw), hidden)).status).toBe(200);
    expect(await zeusd.list(zeusd.bob)).toEqual([]);
    expect(zeusd.logged.filter((line) => line.includes("cannot be noticed"))).toHaveLength(1);
    expect(limits(zeusd)).toEqual(["250000@0", "240000@0", "230000@0"]);
  });

  it("that has changed nothing is shown nowhere, and keeps nobody from an exclusive lease", async () => {
    const release = zeusd.hold("gpu 0", "getPowerLimit", { power_limit_mw: 300_000 });
    void zeusd.ask(limit(250_000));
    await zeusd.clock.advance(0);
    expect(await zeusd.list(zeusd.bob)).toEqual([]);
    // What was asked for before is still done.
    const asking = zeusd.ask("POST /lease/acquire?exclusive=true", zeusd.bob);
    release();
    leaseOf(await asking);
  });

  it("keeps others from an exclusive lease on what it has changed alone", async () => {
    await zeusd.ask(limit(250_000));
    expect(gistOf(await zeusd.ask("POST /lease/acquire?exclusive=true", zeusd.bob))).toEqual([
      423,
      "held",
      expect.stringMatching(
        /^GPU 0 is held by lease 1 of uid 1000 \(program-101, pid 101\) since \S+; wait until that ends, or leave it out$/,
      ),
    ]);
    leaseOf(await zeusd.ask("POST /lease/acquire?exclusive=true&gpu_ids=1", zeusd.bob));
    leaseOf(await zeusd.ask("POST /lease/acquire?exclusive=true&gpu_ids=0"));
  });

  it("is refused where somebody has the GPU for themselves", async () => {
    await zeusd.ask("POST /lease/acquire?exclusive=true&gpu_ids=1", zeusd.bob);
    expect((await zeusd.ask(limit(1, { gpus: "0,1" }))).status).toBe(423);
    expect(zeusd.calls).toEqual([]);
    expect(await zeusd.list(zeusd.bob)).toMatchObject([{ lease: 1 }]);
  });

  it("may be released by its number, and the next write begins another", async () => {
    await zeusd.ask(limit(250_000));
    expect(json(await zeusd.ask("POST /lease/release?lease=1"))).toEqual({ lease: 1, gpus: { 0: "restored" } });
    expect(await zeusd.list(zeusd.bob)).toEqual([]);
    await zeusd.ask(limit(240_000));
    expect(await zeusd.list(zeusd.bob)).toMatchObject([{ lease: 2, implicit: true }]);
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0", "300000@0", "240000@0", "300000@0"]);
  });

  it("is of one process out of 256 of a user", async () => {
    const many = Array.from({ length: 257 }, (_, index) => createHolder(1_000 + index));
    const last = many.pop();
    for (const one of many) expect((await zeusd.ask(limit(250_000), one)).status).toBe(200);
    if (!last) throw new Error("there are none");
    const answer = await zeusd.ask(limit(250_000), last);
    expect(gistOf(answer)).toEqual([429, "too_many_leases", "uid 1000 has 256 leases already; release some"]);
    expect(answer.headers["retry-after"]).toBe("5");
    expect(last.handles).toBe(0);
    // Those that were asked for are counted by themselves.
    leaseOf(await zeusd.ask("POST /lease/acquire"));
    await many[0]?.die();
    expect((await zeusd.ask(limit(250_000), last)).status).toBe(200);
  });

  it("is made for a write that does not wait as well", async () => {
    await zeusd.ask(limit(250_000, { block: false }));
    await zeusd.clock.advance(0);
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0", "300000@0"]);
  });
});
