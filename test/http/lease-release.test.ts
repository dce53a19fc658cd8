// To release a lease over HTTP: who may, and that what it had changed is put back.
import { beforeEach, describe, expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import { createHolder, gistOf, json, limit, limits } from "./holder.ts";
import { startLeaseSubject, type LeaseSubject } from "./lease-subject.ts";
import type { Answer } from "./subject.ts";

let zeusd: LeaseSubject;

beforeEach(async () => {
  zeusd = await startLeaseSubject();
});

const release = (query: string, by = zeusd.alice): Promise<Answer> => zeusd.ask(`POST /lease/release?${query}`, by);

describe("to release a lease", () => {
  it("puts back what it had changed, and says of each GPU what became of it", async () => {
    const id = await zeusd.acquire();
    await zeusd.ask(limit(250_000));
    const answer = await release(`lease_id=${id}`);
    expect(answer).toMatchObject({ status: 200, type: "application/json" });
    expect(json(answer)).toEqual({ lease: 1, gpus: { 0: "restored", 1: "unchanged" } });
    expect(limits(zeusd)).toEqual(["250000@0", "300000@0"]);
    expect(await zeusd.living()).toEqual([]);
    expect(zeusd.alice.handles).toBe(0);
    expect(zeusd.logged).toContain("info Lease 1 of uid 1000 (program-101, pid 101) has ended: released");
    expect(zeusd.logged).toContain("info GPU 0: power_limit is power_limit_mw=300000 again");
  });

  it("answers when it is put back, and with block=false at once", async () => {
    const [first, second] = [await zeusd.acquire(), await zeusd.acquire()];
    await zeusd.ask(limit(250_000));
    const done = zeusd.hold("gpu 0", "setPowerLimit");
    let answered = false;
    const waiting = release(`lease_id=${second}&block=true`).then((answer) => {
      answered = true;
      return answer;
    });
    await zeusd.clock.advance(100);
    expect(limits(zeusd)).toEqual(["250000@0", "300000@0"]);
    expect(answered).toBe(false);
    expect(json(await release(`lease_id=${first}&block=false`))).toEqual({ lease: 1 });
    done();
    expect(json(await waiting)).toEqual({ lease: 2, gpus: { 0: "restored", 1: "unchanged" } });
  });

  it("says of a GPU that cannot be put back now why that has to wait", async () => {
    const id = await zeusd.acquire();
    await zeusd.ask(limit(250_000, { gpus: "0,1" }));
    zeusd.answer("gpu 0", "setPowerLimit", new ZeusdError("driver_error", "NVML error: busy"));
    expect(json(await release(`lease_id=${id}`))).toEqual({ lease: 1, gpus: { 0: "NVML error: busy", 1: "restored" } });
    expect(await zeusd.living()).toEqual([]);
  });

  it("is done once: its id and its number are nobody's afterwards", async () => {
    const id = await zeusd.acquire();
    await release(`lease_id=${id}`);
    expect(gistOf(await release(`lease_id=${id}`))).toEqual([
      409,
      "no_such_lease",
      "lease_id is that of no lease, or of one that has ended",
    ]);
    for (const by of [zeusd.alice, zeusd.root]) {
      expect(gistOf(await release("lease=1&force=true", by))).toEqual([
        409,
        "no_such_lease",
        "There is no lease 1, or it has ended",
      ]);
    }
  });
});

describe("a lease may be released", () => {
  it("by its holder, by its number", async () => {
    await zeusd.acquire();
    expect(json(await release("lease=1"))).toMatchObject({ lease: 1 });
  });

  it("by a process that descends from its holder, unless that has become another user", async () => {
    await zeusd.acquire();
    const stranger = createHolder(201, { uid: 1002, parent: createHolder(200, { uid: 1002, parent: zeusd.alice }) });
    expect((await release("lease=1", stranger)).status).toBe(403);
    expect(json(await release("lease=1", createHolder(202, { parent: zeusd.alice })))).toMatchObject({ lease: 1 });
    expect(await zeusd.living()).toEqual([]);
  });

  it("by another process of the same user", async () => {
    await zeusd.acquire();
    expect(json(await release("lease=1", createHolder(300)))).toMatchObject({ lease: 1 });
  });

  it("by whoever has its id", async () => {
    const id = await zeusd.acquire();
    expect(json(await release(`lease_id=${id}`, zeusd.bob))).toMatchObject({ lease: 1 });
    expect(zeusd.logged).toContain("debug Lease 1 of uid 1000 (program-101, pid 101) has ended: released");
  });

  it("by root with force, which the log says", async () => {
    await zeusd.acquire();
    await zeusd.ask(limit(250_000));
    expect(json(await release("lease=1&force=true", zeusd.root))).toEqual({
      lease: 1,
      gpus: { 0: "restored", 1: "unchanged" },
    });
    expect(zeusd.logged).toContain("info Lease 1 of uid 1000 (program-101, pid 101) has ended: forced");
    expect(limits(zeusd)).toEqual(["250000@0", "300000@0"]);
  });

  it("by root without force only where it is root's own", async () => {
    await zeusd.acquire();
    await zeusd.acquire("", zeusd.root);
    expect(gistOf(await release("lease=1", zeusd.root))).toEqual([
      400,
      "bad_request",
      "Lease 1 is somebody else's; give force=true to end it all the same",
    ]);
    expect(json(await release("lease=2", zeusd.root))).toMatchObject({ lease: 2 });
    expect(await zeusd.living()).toEqual([1]);
  });
});

describe("refused is to release a lease", () => {
  it("to others, with force as without", async () => {
    await zeusd.acquire();
    await zeusd.acquire("ttl_s=60", createHolder(104, { hidden: true, uid: 1003 }));
    for (const [query, uid, number] of [
      ["lease=1", 1000, 1],
      ["lease=1&force=true", 1000, 1],
      ["lease=2", 1003, 2],
    ] as const) {
      expect(gistOf(await release(query, zeusd.bob))).toEqual([
        403,
        "forbidden",
        `Lease ${number} can be released by uid ${uid} and by root on this machine only`,
      ]);
    }
    expect(await zeusd.living()).toEqual([1, 2]);
  });

  it.each([
    ["of none", "", "Give either lease_id, or lease with its number"],
    ["of two", "lease=1&lease_id=x", "Give either lease_id, or lease with its number"],
    ["by a number that can be none", "lease=0", /^lease is "0" and must be a whole number/],
    ["by a name", "lease=first", /^lease is "first" and must be a whole number/],
    ["with force that is neither yes nor no", "lease=1&force=1", 'force is "1" and must be true or false'],
    ["with block that is neither yes nor no", "lease=1&block=", 'block is "" and must be true or false'],
    ["with what is not known", "lease=1&why=x", /^unknown parameter "why"; there are lease_id, lease, force, block$/],
  ])("%s", async (_, query, error) => {
    await zeusd.acquire();
    expect(gistOf(await release(query))).toEqual([
      400,
      "bad_request",
      typeof error === "string" ? error : expect.stringMatching(error),
    ]);
    expect(await zeusd.living()).toEqual([1]);
  });
});
