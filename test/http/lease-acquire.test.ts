// Leases over HTTP: to acquire, to renew and to list them, and everything that is refused.
import { readFileSync } from "node:fs";
import { beforeEach, describe, expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import { createHolder, gistOf, json, leaseOf, limit, limits, written } from "./holder.ts";
import { startLeaseSubject, type LeaseSubject } from "./lease-subject.ts";
import { createFile, type Answer } from "./subject.ts";

const startMs = 1_795_500_000_000;
const uuids = ["GPU-00000000-0000-0000-0000-000000000000", "GPU-00000000-0000-0000-0000-000000000001"] as const;

let zeusd: LeaseSubject;

beforeEach(async () => {
  zeusd = await startLeaseSubject();
});

const acquire = (query = "", by = zeusd.alice): Promise<Answer> => zeusd.ask(`POST /lease/acquire?${query}`, by);
const renew = (query: string, by = zeusd.alice): Promise<Answer> => zeusd.ask(`POST /lease/renew?${query}`, by);

describe("a lease that is acquired", () => {
  it("covers all GPUs, is shared, has no reason, and lasts as long as its process, unless it says otherwise", async () => {
    const answer = await acquire();
    expect(answer).toMatchObject({ status: 200, type: "application/json" });
    expect(json(answer)).toEqual({
      lease_id: expect.stringMatching(/^[\da-f]{32}$/),
      lease: 1,
      gpu_ids: [0, 1],
      exclusive: false,
      implicit: false,
      reason: null,
      since_ms: startMs,
      expires_ms: null,
      holder: { uid: 1000, pid: 101, program: "program-101", sub: null },
    });
    expect(zeusd.calls).toEqual([]);
    expect(zeusd.alice.handles).toBe(1);
  });

  it("is as it was asked for", async () => {
    await zeusd.clock.advance(1_234);
    expect(leaseOf(await acquire("gpu_ids=1&exclusive=true&reason=night+run%21&ttl_s=60", zeusd.bob))).toMatchObject({
      lease: 1,
      gpu_ids: [1],
      exclusive: true,
      implicit: false,
      reason: "night run!",
      since_ms: startMs + 1_234,
      expires_ms: startMs + 1_234 + 60_000,
      holder: { uid: 1001, pid: 102, program: "program-102" },
    });
    expect(zeusd.logged).toContain("debug Lease 1 of uid 1001 (program-102, pid 102) has begun");
  });

  it.each([
    ["ids, once each and in order", "1,0,1", [0, 1]],
    ["a UUID", uuids[1], [1]],
    ["a UUID in capitals", uuids[1].toUpperCase(), [1]],
    ["a PCI address", "0000:41:00.0", [0]],
    ["a PCI address as NVML writes it", "00000000:42:00.0", [1]],
    ["names of every kind for one GPU", `0,${uuids[0]},0000:41:00.0`, [0]],
  ])("can name its GPUs by %s", async (_, names, gpu_ids) => {
    expect(leaseOf(await acquire(`gpu_ids=${encodeURIComponent(names)}`)).gpu_ids).toEqual(gpu_ids);
  });

  it("has a number that no other has, not even one that has ended, and an id that nobody could guess", async () => {
    const first = leaseOf(await acquire());
    const second = leaseOf(await acquire("", zeusd.bob));
    await zeusd.ask(`POST /lease/release?lease_id=${second.lease_id}`, zeusd.bob);
    const third = leaseOf(await acquire("", zeusd.bob));
    expect([first, second, third].map(({ lease }) => lease)).toEqual([1, 2, 3]);
    expect(new Set([first, second, third].map(({ lease_id }) => lease_id)).size).toBe(3);
  });

  it("has no reason if that is empty, and one of 200 characters of any script if it is a line", async () => {
    expect(leaseOf(await acquire("reason=")).reason).toBeNull();
    const reason = "日".repeat(200);
    expect(leaseOf(await acquire(`reason=${encodeURIComponent(reason)}`)).reason).toBe(reason);
  });

  it("takes the shortest and the longest time to live", async () => {
    expect(leaseOf(await acquire("ttl_s=1")).expires_ms).toBe(startMs + 1_000);
    expect(leaseOf(await acquire("ttl_s=86400")).expires_ms).toBe(startMs + 86_400_000);
  });

  it("with a time to live ends with its process all the same, or when its time is up, whichever is first", async () => {
    await acquire("ttl_s=60");
    await acquire("ttl_s=10");
    await zeusd.clock.advance(9_999);
    expect(await zeusd.list()).toHaveLength(2);
    await zeusd.clock.advance(1);
    expect((await zeusd.list()).map(({ lease }) => lease)).toEqual([1]);
    expect(zeusd.logged).toContain("debug Lease 2 of uid 1000 (program-101, pid 101) has ended: expired");
    await zeusd.alice.die();
    expect(await zeusd.list()).toEqual([]);
    expect(zeusd.logged).toContain("debug Lease 1 of uid 1000 (program-101, pid 101) has ended: holder ended");
    expect(zeusd.alice.handles).toBe(0);
  });

  it("on a process that cannot be watched needs a time to live, and ends then", async () => {
    const hidden = createHolder(103, { hidden: true });
    const [status, , error] = gistOf(await acquire("", hidden));
    expect(status).toBe(400);
    expect(error).toMatch(/^ttl_s is required, since the end of your process cannot be noticed .* 1 to 86400 s/);
    const lease = leaseOf(await acquire("ttl_s=5", hidden));
    expect(lease.holder).toEqual({ uid: 1000, pid: null, program: null, sub: null });
    await zeusd.clock.advance(5_000);
    expect(await zeusd.list()).toEqual([]);
  });

  it("may be one of 64 of a user, whoever of that user's processes has them; other users have their own", async () => {
    const sibling = createHolder(104);
    for (let count = 0; count < 64; count += 1) leaseOf(await acquire("", count % 2 === 0 ? zeusd.alice : sibling));
    const answer = await acquire();
    expect(gistOf(answer)).toEqual([429, "too_many_leases", "uid 1000 has 64 leases already; release some"]);
    expect(answer.headers["retry-after"]).toBe("5");
    leaseOf(await acquire("", zeusd.bob));
    await sibling.die();
    expect(leaseOf(await acquire()).lease).toBe(66);
  });
});

describe("refused, with JSON and nothing done, is to acquire a lease", () => {
  const bad: readonly (readonly [what: string, query: string, error: string | RegExp])[] = [
    [
      "with a parameter that is not known",
      "gpus=0",
      'unknown parameter "gpus"; there are gpu_ids, exclusive, reason, ttl_s',
    ],
    ["with one that other routes have", "lease_id=x", /^unknown parameter "lease_id"/],
    ["with an empty parameter name", "=1", /^unknown parameter ""/],
    ["with a parameter that is given twice", "ttl_s=1&ttl_s=1", "ttl_s is given twice"],
    ["with a list that is given twice", "gpu_ids=0&gpu_ids=1", "gpu_ids is given twice"],
    ...["0", "-1", "1.5", "1e3", "86401", "", "+5", "0x10", " 5", "99999999999"].map(
      (ttl) =>
        [
          `with ttl_s=${JSON.stringify(ttl)}`,
          `ttl_s=${encodeURIComponent(ttl)}`,
          `ttl_s is ${JSON.stringify(ttl)} and must be a whole number from 1 to 86400`,
        ] as const,
    ),
    ...["1", "yes", "", "TRUE", "null"].map(
      (flag) =>
        [
          `with exclusive=${JSON.stringify(flag)}`,
          `exclusive=${flag}`,
          `exclusive is ${JSON.stringify(flag)} and must be true or false`,
        ] as const,
    ),
    ...["x".repeat(201), "a\nb", "a\rb", "a\tb", "\u0000", "\u007f", "\u0085", "\u2028", "\u202e", "\u200b"].map(
      (reason) =>
        [
          `with the reason ${JSON.stringify(reason.slice(0, 3))}`,
          `reason=${encodeURIComponent(reason)}`,
          "reason must be one line of at most 200 characters",
        ] as const,
    ),
    ["with an empty list", "gpu_ids=", "gpu_ids must contain at least one GPU index"],
    ["with an empty part", "gpu_ids=0,,1", "gpu_ids contains an empty GPU index"],
    ["with what can be no GPU", "gpu_ids=first", "Invalid GPU index: first"],
  ];
  it.each(bad)("%s", async (_, query, error) => {
    const answer = await acquire(query);
    expect(answer.type).toBe("application/json");
    expect(gistOf(answer)).toEqual([
      400,
      "bad_request",
      typeof error === "string" ? error : expect.stringMatching(error),
    ]);
    expect(await zeusd.list()).toEqual([]);
    expect(zeusd.alice.handles).toBe(0);
  });

  it.each(["7", "0,7", "GPU-00000000-0000-0000-0000-000000000009", "0000:99:00.0"])(
    "on %s, which is not there",
    async (gpus) => {
      const answer = await acquire(`gpu_ids=${encodeURIComponent(gpus)}`);
      expect(answer.status).toBe(400);
      expect(json(answer)).toMatchObject({ code: "unknown_device", available: [0, 1] });
      expect(await zeusd.list()).toEqual([]);
    },
  );

  it("on a machine without GPUs", async () => {
    zeusd = await startLeaseSubject({ gpus: 0 });
    expect(gistOf(await acquire())).toEqual([400, "bad_request", "There are no GPUs to lease"]);
  });

  it("on a GPU that was never there, since nobody could say which one it is; all that are there go without it", async () => {
    zeusd = await startLeaseSubject({ away: [{ id: 1, away: new ZeusdError("driver_error", "NVML error: sick") }] });
    const answer = await acquire("gpu_ids=0,1");
    expect(gistOf(answer).slice(0, 2)).toEqual([503, "gpu_away"]);
    expect(answer.headers["retry-after"]).toBe("5");
    expect(await zeusd.list()).toEqual([]);
    expect(leaseOf(await acquire()).gpu_ids).toEqual([0]);
  });

  it("by another method than POST, with a 404 like any path that is not there", async () => {
    for (const line of ["GET /lease/acquire", "GET /lease/renew", "GET /lease/release", "POST /lease/list"])
      expect(await zeusd.ask(line)).toMatchObject({ status: 404, body: "" });
    expect(await zeusd.list()).toEqual([]);
  });
});

describe("to renew a lease", () => {
  it("lets it live for as long as before from now on, or for longer, or for less", async () => {
    const { lease_id } = leaseOf(await acquire("ttl_s=60"));
    await zeusd.clock.advance(50_000);
    const renewed = leaseOf(await renew(`lease_id=${lease_id}`));
    expect(renewed).toMatchObject({ lease_id, lease: 1, since_ms: startMs, expires_ms: startMs + 110_000 });
    await zeusd.clock.advance(59_999);
    expect(await zeusd.list()).toMatchObject([{ lease: 1, expires_ms: startMs + 110_000 }]);
    leaseOf(await renew(`lease_id=${lease_id}&ttl_s=5`));
    await zeusd.clock.advance(4_000);
    // What was asked for last is what counts.
    expect(leaseOf(await renew(`lease_id=${lease_id}`)).expires_ms).toBe(zeusd.clock.epochMs() + 5_000);
    await zeusd.clock.advance(5_000);
    expect(await zeusd.list()).toEqual([]);
  });

  it("is everybody's who has its id, which changes nothing of whose it is", async () => {
    const { lease_id, holder } = leaseOf(await acquire("ttl_s=60&exclusive=true"));
    expect(leaseOf(await renew(`lease_id=${lease_id}&ttl_s=70`, zeusd.bob)).holder).toEqual(holder);
    expect((await zeusd.ask(limit(200_000), zeusd.bob)).status).toBe(423);
  });

  it("gives one that ends with its process a time to live", async () => {
    const { lease_id } = leaseOf(await acquire());
    expect(leaseOf(await renew(`lease_id=${lease_id}&ttl_s=10`)).expires_ms).toBe(startMs + 10_000);
    await zeusd.clock.advance(10_000);
    expect(await zeusd.list()).toEqual([]);
  });

  it("is refused where it has no time to live and none is given", async () => {
    const { lease_id } = leaseOf(await acquire());
    expect(gistOf(await renew(`lease_id=${lease_id}`))).toEqual([
      400,
      "bad_request",
      "Lease 1 ends with its holder and has no time to renew",
    ]);
  });

  it.each([
    ["without an id", "ttl_s=5", "lease_id is missing"],
    ["by its number", "lease=1", 'unknown parameter "lease"; there are lease_id, ttl_s'],
    ["for no time", "lease_id=x&ttl_s=0", 'ttl_s is "0" and must be a whole number from 1 to 86400'],
    ["with two ids", "lease_id=x&lease_id=y", "lease_id is given twice"],
  ])("is refused %s", async (_, query, error) => {
    expect(gistOf(await renew(query))).toEqual([400, "bad_request", error]);
  });

  it("is refused for an id that is no lease's, or that of one that has ended", async () => {
    const { lease_id } = leaseOf(await acquire("ttl_s=1"));
    const refusal = [409, "no_such_lease", "lease_id is that of no lease, or of one that has ended"];
    for (const id of ["0".repeat(32), "", "1", lease_id.toUpperCase().replace(/\d/g, "A")])
      expect(gistOf(await renew(`lease_id=${id}`))).toEqual(refusal);
    await zeusd.clock.advance(1_000);
    expect(gistOf(await renew(`lease_id=${lease_id}`))).toEqual(refusal);
  });
});

describe("the list of leases", () => {
  it("says who has which, since when and why, what each has changed, and what that covers up", async () => {
    await zeusd.ask(limit(280_000), zeusd.bob);
    const first = leaseOf(await acquire("gpu_ids=0&reason=first"));
    await zeusd.ask(limit(250_000, { more: `&lease_id=${first.lease_id}` }));
    await zeusd.ask("POST /gpu/set_gpu_locked_clocks?gpu_ids=0&min_clock_mhz=100&max_clock_mhz=900&block=true");
    await zeusd.clock.advance(10);
    const second = leaseOf(await acquire("ttl_s=60", zeusd.bob));
    await zeusd.ask(limit(200_000, { gpus: "0,1" }), zeusd.bob);
    const { lease_id: _, ...firstFacts } = first;
    const { lease_id: __, ...secondFacts } = second;
    expect(await zeusd.list(createHolder(105, { uid: 1002 }))).toEqual([
      {
        ...firstFacts,
        settings: {
          0: {
            power_limit: { asked: { power_limit_mw: 250_000 }, covers: { power_limit_mw: 280_000 }, wins: false },
            gpu_clocks: { asked: { min_clock_mhz: 100, max_clock_mhz: 900 }, covers: {}, wins: true },
          },
        },
      },
      {
        ...secondFacts,
        settings: {
          0: { power_limit: { asked: { power_limit_mw: 200_000 }, covers: { power_limit_mw: 280_000 }, wins: true } },
          1: { power_limit: { asked: { power_limit_mw: 200_000 }, covers: { power_limit_mw: 300_000 }, wins: true } },
        },
      },
    ]);
  });

  it("is empty where there are none, and knows no parameters", async () => {
    expect(await zeusd.list()).toEqual([]);
    expect(gistOf(await zeusd.ask("GET /lease/list?all=true"))).toEqual([
      400,
      "bad_request",
      'unknown parameter "all"; this takes none',
    ]);
  });
});

it("an id is shown to whoever acquired or renewed the lease alone: not in lists, states, refusals, the log and the audit", async () => {
  const auditLog = createFile("audit.jsonl", "");
  zeusd = await startLeaseSubject({ config: { auditLog } });
  const stream = zeusd.follow("GET /events", (text) => text.includes("lease_ended"), zeusd.bob);
  await zeusd.clock.advance(0);
  const { lease_id } = leaseOf(await acquire("exclusive=true&ttl_s=60"));
  leaseOf(await renew(`lease_id=${lease_id}`));
  await zeusd.ask(limit(250_000, { more: `&lease_id=${lease_id}` }));
  const told = [
    await zeusd.ask("GET /lease/list", zeusd.bob),
    await zeusd.ask("GET /gpu/get_state", zeusd.bob),
    await zeusd.ask(limit(1), zeusd.bob),
    await acquire("", zeusd.bob),
    await zeusd.ask("POST /lease/release?lease=1", zeusd.bob),
    await zeusd.ask(limit(1, { more: `&lease_id=${lease_id}&dry_run=true` })),
    await zeusd.ask(limit(1, { gpus: "9", more: `&lease_id=${lease_id}` })),
    await zeusd.ask(`POST /lease/release?lease_id=${lease_id}&force=maybe`),
    await zeusd.ask(`POST /lease/release?lease_id=${lease_id}`),
    await zeusd.ask(limit(1, { more: `&lease_id=${lease_id}` })),
  ];
  expect(told.map(({ status }) => status)).toEqual([200, 200, 423, 423, 403, 200, 400, 400, 200, 409]);
  const { body: events } = await stream;
  await zeusd.clock.advance(1_000);
  const audit = readFileSync(auditLog, "utf8");
  expect(audit).toContain('"lease":1');
  expect(written(zeusd)).not.toEqual([]);
  const everything = [...told.map(({ body }) => body), events, audit, ...zeusd.logged].join("\n");
  expect(everything).toContain('"lease":1');
  expect(everything).not.toContain(lease_id);
});

it("without leases a write is what it was: nobody is asked for anything, and nothing is put back", async () => {
  expect(await zeusd.ask(limit(250_000))).toMatchObject({ status: 200, body: "" });
  await zeusd.alice.die();
  await zeusd.clock.advance(60_000);
  expect(zeusd.calls).toEqual(['gpu 0 setPowerLimit {"power_limit_mw":250000}']);
  expect(limits(zeusd)).toEqual(["250000@0"]);
});
