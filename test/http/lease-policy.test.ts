// Who may have leases, by API groups, tokens and the policy, and whose writes are put back.
import { beforeEach, describe, expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import { createHolder, gistOf, json, leaseOf, limit, limits, type Holder } from "./holder.ts";
import { startLeaseSubject, type LeaseSubject } from "./lease-subject.ts";
import { bearer, keyFile, type Answer } from "./subject.ts";

let zeusd: LeaseSubject;

const rule = (name: string, who: string, allow: readonly string[], more = ""): string =>
  `[[rule]]\nname = "${name}"\n${who}\nallow = ${JSON.stringify(allow)}\n${more}\n`;

const changes = ["POST /lease/acquire", "POST /lease/renew?lease_id=x", "POST /lease/release?lease=1"];
const looks = ["GET /lease/list", "GET /gpu/get_state", "GET /events"];
const statusOf = async (line: string, headers: Readonly<Record<string, string>> = {}): Promise<number> =>
  (await zeusd.follow(line, () => true, { headers, peer: zeusd.alice.peer })).status;

describe("API groups", () => {
  it("gpu-control is what it takes to have leases, and gpu-read to see them", async () => {
    zeusd = await startLeaseSubject({ config: { enabledGroups: ["gpu-read", "cpu-read"] } });
    for (const line of changes) {
      const answer = await zeusd.ask(line);
      expect(gistOf(answer)).toEqual([404, "group_disabled", "API group 'gpu-control' is not enabled on this server."]);
    }
    for (const line of looks) expect(await statusOf(line)).toBe(200);
    zeusd = await startLeaseSubject({ config: { enabledGroups: ["gpu-control"] } });
    for (const line of changes) expect(await statusOf(line)).not.toBe(404);
    for (const line of looks) {
      expect(gistOf(await zeusd.ask(line))).toEqual([
        404,
        "group_disabled",
        "API group 'gpu-read' is not enabled on this server.",
      ]);
    }
  });

  it("an implicit lease needs no group of its own: it comes with a write", async () => {
    zeusd = await startLeaseSubject({ config: { enabledGroups: ["gpu-control"], restoreOnExit: true } });
    await zeusd.ask(limit(250_000));
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0", "300000@0"]);
  });
});

describe("where tokens are needed", () => {
  const holding = (...scopes: readonly string[]): Readonly<Record<string, string>> => bearer({ sub: "ci", scopes });

  beforeEach(async () => {
    zeusd = await startLeaseSubject({ config: keyFile() });
  });

  it.each([...changes, ...looks])("%s takes one, with the scope of its group", async (line) => {
    const group = line.startsWith("POST") ? "gpu-control" : "gpu-read";
    const other = group === "gpu-read" ? "gpu-control" : "gpu-read";
    expect(gistOf(await zeusd.ask(line)).slice(0, 2)).toEqual([401, "unauthenticated"]);
    const answer = await zeusd.ask(line, { headers: holding(other, "cpu-read"), peer: zeusd.alice.peer });
    expect(gistOf(answer)).toEqual([403, "scope_missing", expect.stringContaining(`lacks required scope '${group}'`)]);
    expect([401, 403]).not.toContain(await statusOf(line, holding(group)));
  });

  it("a scope of one operation shows neither leases nor events, and lets nobody have a lease", async () => {
    for (const line of ["GET /lease/list", "GET /events"])
      expect(await statusOf(line, holding("get_power", "get_state"))).toBe(403);
    expect(await statusOf("POST /lease/acquire", holding("set_power_limit"))).toBe(403);
  });

  it("a lease shows the subject, and may be released by whoever comes with it over TCP", async () => {
    const scopes = ["gpu-control", "gpu-read"];
    const as = (sub: string, line: string): Promise<Answer> => zeusd.ask(line, { headers: bearer({ sub, scopes }) });
    const lease = leaseOf(await as("ci", "POST /lease/acquire?ttl_s=60&exclusive=true"));
    expect(lease.holder).toEqual({ uid: null, pid: null, program: null, sub: "ci" });
    expect(gistOf(await as("other", limit(1)))).toEqual([
      423,
      "held",
      expect.stringMatching(/^GPU 0 is held by lease 1 of token subject 'ci' since /),
    ]);
    // The subject alone opens nothing: a token may be on many machines.
    expect((await as("ci", limit(1))).status).toBe(423);
    expect(gistOf(await as("other", "POST /lease/release?lease=1&force=true")).slice(0, 2)).toEqual([403, "forbidden"]);
    expect(json(await as("ci", "POST /lease/release?lease=1"))).toMatchObject({ lease: 1 });
  });

  it("over the Unix socket it is the user who counts, whatever the subject", async () => {
    const headers = holding("gpu-control");
    const from = (line: string, { peer }: Holder): Promise<Answer> => zeusd.ask(line, { headers, peer });
    expect(leaseOf(await from("POST /lease/acquire", zeusd.alice)).holder).toMatchObject({ uid: 1000, sub: "ci" });
    expect((await from("POST /lease/release?lease=1", zeusd.bob)).status).toBe(403);
    expect((await from("POST /lease/release?lease=1", zeusd.alice)).status).toBe(200);
  });

  it("64 leases are one subject's", async () => {
    const as = (sub: string): Promise<Answer> =>
      zeusd.ask("POST /lease/acquire?ttl_s=60", { headers: bearer({ sub, scopes: ["gpu-control"] }) });
    for (let count = 0; count < 64; count += 1) expect((await as("ci")).status).toBe(200);
    expect((await as("ci")).status).toBe(429);
    expect((await as("other")).status).toBe(200);
  });
});

describe("a lease is acquired", () => {
  const control = ["set_power_limit"];

  it("by whom a rule lets write to all of its GPUs", async () => {
    zeusd = await startLeaseSubject({ policy: rule("of GPU 0", "uids = [1000]", control, "gpus = [0]") });
    leaseOf(await zeusd.ask("POST /lease/acquire?gpu_ids=0"));
    for (const query of ["gpu_ids=0,1", "gpu_ids=1", ""]) {
      expect(gistOf(await zeusd.ask(`POST /lease/acquire?${query}`))).toEqual([
        403,
        "forbidden",
        "no rule of the policy allows uid 1000 to change GPU 1, so there is nothing to lease",
      ]);
    }
    expect(gistOf(await zeusd.ask("POST /lease/acquire?gpu_ids=0", zeusd.bob))).toEqual([
      403,
      "forbidden",
      "no rule of the policy allows uid 1001 to change GPU 0, so there is nothing to lease",
    ]);
    expect(zeusd.bob.handles).toBe(0);
  });

  it("not by whom a rule lets only read", async () => {
    zeusd = await startLeaseSubject({ policy: rule("readers", "uids = [1000]", ["gpu-read", "cpu-read"]) });
    expect((await zeusd.ask("POST /lease/acquire")).status).toBe(403);
  });

  it("not where the rule forbids leases, nor an exclusive one where it forbids those", async () => {
    zeusd = await startLeaseSubject({
      policy:
        rule("no leases", "uids = [1000]", control, 'lease = "forbidden"') +
        rule("shared", "uids = [1001]", control, "exclusive = false"),
    });
    expect(gistOf(await zeusd.ask("POST /lease/acquire?gpu_ids=0"))[2]).toBe(
      'rule "no leases" allows no leases on GPU 0',
    );
    expect(gistOf(await zeusd.ask("POST /lease/acquire?exclusive=true", zeusd.bob))).toEqual([
      403,
      "forbidden",
      'rule "shared" allows no exclusive lease on GPU 0',
    ]);
    leaseOf(await zeusd.ask("POST /lease/acquire", zeusd.bob));
  });

  it("the policy's no comes before that of other leases", async () => {
    zeusd = await startLeaseSubject({
      policy: rule("shared", "uids = [1001]", control, "exclusive = false") + rule("all", "uids = [1000]", control),
    });
    await zeusd.ask("POST /lease/acquire?exclusive=true");
    expect((await zeusd.ask("POST /lease/acquire?exclusive=true", zeusd.bob)).status).toBe(403);
    expect((await zeusd.ask("POST /lease/acquire", zeusd.bob)).status).toBe(423);
  });

  it("not on a GPU that was never there, though the policy would allow it", async () => {
    zeusd = await startLeaseSubject({
      policy: rule("all", "uids = [1000]", control),
      away: [{ id: 1, away: new ZeusdError("driver_error", "NVML error: sick") }],
    });
    expect((await zeusd.ask("POST /lease/acquire?gpu_ids=1")).status).toBe(503);
  });

  it("and is renewed and released by whom a rule lets change anything", async () => {
    zeusd = await startLeaseSubject({
      policy: rule("all", "uids = [1000]", [...control, "gpu-read"]) + rule("readers", "uids = [1001]", ["gpu-read"]),
    });
    const { lease_id } = leaseOf(await zeusd.ask("POST /lease/acquire?ttl_s=60"));
    for (const what of ["renew", "release"]) {
      expect(gistOf(await zeusd.ask(`POST /lease/${what}?lease_id=${lease_id}`, zeusd.bob))).toEqual([
        403,
        "forbidden",
        "no rule of the policy allows anything of gpu-control to uid 1001",
      ]);
    }
    expect(await zeusd.living(zeusd.bob)).toEqual([1]);
    expect((await zeusd.ask(`POST /lease/renew?lease_id=${lease_id}`)).status).toBe(200);
    expect((await zeusd.ask(`POST /lease/release?lease_id=${lease_id}`)).status).toBe(200);
  });

  it("and what is written within it is judged as any other write", async () => {
    zeusd = await startLeaseSubject({
      policy: rule("low", "uids = [1000]", control, "bounds = [{ power_limit_mw = { max = 300000 } }]"),
    });
    const { lease_id } = leaseOf(await zeusd.ask("POST /lease/acquire"));
    expect((await zeusd.ask(limit(300_001))).status).toBe(403);
    expect((await zeusd.ask(limit(250_000))).status).toBe(200);
    // The id is no right: it says only where a write belongs.
    expect((await zeusd.ask(limit(250_000, { more: `&lease_id=${lease_id}` }), zeusd.bob)).status).toBe(403);
    expect(limits(zeusd)).toEqual(["250000@0"]);
  });
});

describe("a rule that requires a lease", () => {
  const refusal = 'rule "leased" requires a lease to write to GPU 0; acquire one, or use zeusd run';

  beforeEach(async () => {
    zeusd = await startLeaseSubject({
      policy: rule("leased", "anyone = true", ["gpu-control", "gpu-read"], 'lease = "required"'),
    });
  });

  it("lets nothing be written without, in a dry run as little, and everything within", async () => {
    for (const line of [limit(250_000), limit(250_000, { block: false }), limit(250_000, { more: "&dry_run=true" })])
      expect(gistOf(await zeusd.ask(line))).toEqual([403, "forbidden", refusal]);
    expect(zeusd.calls).toEqual([]);
    const { lease_id } = leaseOf(await zeusd.ask("POST /lease/acquire"));
    expect((await zeusd.ask(limit(250_000))).status).toBe(200);
    expect((await zeusd.ask(limit(240_000), zeusd.bob)).status).toBe(403);
    expect((await zeusd.ask(limit(240_000, { more: `&lease_id=${lease_id}` }), zeusd.bob)).status).toBe(200);
    expect((await zeusd.ask("GET /gpu/get_power_limit?gpu_ids=0", zeusd.bob)).status).toBe(200);
  });

  it("says so on the JSON wire, in text", async () => {
    const answer = await zeusd.ask("POST /gpu/0/set_power_limit", {
      headers: { "content-type": "application/json" },
      body: '{"power_limit_mw":1,"block":true}',
      peer: zeusd.alice.peer,
    });
    expect(answer).toMatchObject({ status: 403, type: "text/plain; charset=utf-8", body: refusal });
  });

  it("wants it on each of the GPUs", async () => {
    leaseOf(await zeusd.ask("POST /lease/acquire?gpu_ids=0"));
    expect(gistOf(await zeusd.ask(limit(1, { gpus: "0,1" })))[2]).toMatch(/requires a lease to write to GPU 1/);
    expect(zeusd.calls).toEqual([]);
  });

  it("is content with the lease that comes with a write, also in a dry run, and not over TCP or where no end can be noticed", async () => {
    const terms = 'lease = "required"\nrestore_on_exit = true';
    zeusd = await startLeaseSubject({ policy: rule("leased", "anyone = true", ["gpu-control", "gpu-read"], terms) });
    expect((await zeusd.ask(limit(1, { more: "&dry_run=true" }))).status).toBe(200);
    expect((await zeusd.ask(limit(250_000))).status).toBe(200);
    expect((await zeusd.ask(limit(1), {})).status).toBe(403);
    expect((await zeusd.ask(limit(1, { more: "&dry_run=true" }), {})).status).toBe(403);
    expect((await zeusd.ask(limit(1), createHolder(103, { hidden: true }))).status).toBe(403);
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0", "300000@0"]);
  });

  it("is content with it where the daemon has it for all", async () => {
    zeusd = await startLeaseSubject({
      config: { restoreOnExit: true },
      policy: rule("leased", "anyone = true", ["gpu-control"], 'lease = "required"'),
    });
    expect((await zeusd.ask(limit(250_000))).status).toBe(200);
  });
});

describe("a rule that forbids leases", () => {
  it("lets nothing be written within one, and everything without", async () => {
    zeusd = await startLeaseSubject({
      policy:
        rule("none", "uids = [1001]", ["gpu-control"], 'lease = "forbidden"') +
        rule("all", "uids = [1000]", ["gpu-control", "gpu-read"]),
    });
    const { lease_id } = leaseOf(await zeusd.ask("POST /lease/acquire?gpu_ids=0"));
    expect(gistOf(await zeusd.ask(limit(1, { more: `&lease_id=${lease_id}` }), zeusd.bob))).toEqual([
      403,
      "forbidden",
      'rule "none" allows no leases on GPU 0',
    ]);
    expect((await zeusd.ask(limit(250_000), zeusd.bob)).status).toBe(200);
    await zeusd.bob.die();
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0"]);
  });

  it("keeps its writes from being put back where the daemon does that", async () => {
    zeusd = await startLeaseSubject({
      config: { restoreOnExit: true },
      policy: rule("none", "uids = [1000]", ["gpu-control"], 'lease = "forbidden"'),
    });
    expect((await zeusd.ask(limit(250_000))).status).toBe(200);
    await zeusd.alice.die();
    expect(limits(zeusd)).toEqual(["250000@0"]);
  });
});

describe("what a process writes is put back when it ends", () => {
  const writeAndDie = async (by: Holder): Promise<readonly string[]> => {
    const before = zeusd.calls.length;
    expect((await zeusd.ask(limit(250_000), by)).status).toBe(200);
    await by.die();
    return limits({ calls: zeusd.calls.slice(before) });
  };
  const kept = ["250000@0"];
  const restored = ["250000@0", "300000@0"];

  it("if the daemon does so, and not otherwise", async () => {
    for (const restoreOnExit of [true, false]) {
      zeusd = await startLeaseSubject({ config: { restoreOnExit } });
      expect(await writeAndDie(zeusd.alice)).toEqual(restoreOnExit ? restored : kept);
    }
  });

  it.each([true, false])("as the rule that allows it says, where the daemon's own is %s", async (restoreOnExit) => {
    const policy =
      rule("yes", "uids = [1000]", ["gpu-control"], "restore_on_exit = true") +
      rule("no", "uids = [1001]", ["gpu-control"], "restore_on_exit = false") +
      rule("neither", "uids = [1002]", ["gpu-control"]);
    const outcomes = [];
    for (const uid of [1000, 1001, 1002]) {
      zeusd = await startLeaseSubject({ config: { restoreOnExit }, policy });
      outcomes.push(await writeAndDie(createHolder(200 + uid, { uid })));
    }
    expect(outcomes).toEqual([restored, kept, restoreOnExit ? restored : kept]);
  });

  it("GPU by GPU, where different rules allow it", async () => {
    const gpu = (id: number, more: string): string =>
      rule(`of GPU ${id}`, "anyone = true", ["gpu-control"], `gpus = [${id}]\n${more}`);
    zeusd = await startLeaseSubject({ policy: gpu(0, "restore_on_exit = true") + gpu(1, "") });
    expect((await zeusd.ask(limit(250_000, { gpus: "0,1" }))).status).toBe(200);
    await zeusd.alice.die();
    expect(limits(zeusd).toSorted()).toEqual(["250000@0", "250000@1", "300000@0"]);
  });
});

describe("leases and events are shown", () => {
  it("to whom a rule allows anything of gpu-read, on whichever GPU, and to nobody else", async () => {
    zeusd = await startLeaseSubject({
      policy:
        rule("power of GPU 1", "uids = [1000]", ["gpu/get_power"], "gpus = [1]") +
        rule("writes", "uids = [1001]", ["gpu-control", "cpu-read"]),
    });
    leaseOf(await zeusd.ask("POST /lease/acquire", zeusd.bob));
    expect(await zeusd.living()).toEqual([1]);
    expect((await zeusd.follow("GET /events", () => true, zeusd.alice)).status).toBe(200);
    for (const line of ["GET /lease/list", "GET /events"]) {
      for (const [by, who] of [
        [zeusd.bob, "uid 1001"],
        [createHolder(103, { uid: 1002 }), "uid 1002"],
      ] as const) {
        expect(gistOf(await zeusd.ask(line, by))).toEqual([
          403,
          "forbidden",
          `no rule of the policy allows anything of gpu-read to ${who}`,
        ]);
      }
    }
  });

  it("with nothing said of parameters to whom they are not shown", async () => {
    zeusd = await startLeaseSubject({ policy: rule("writes", "uids = [1001]", ["gpu-control"]) });
    expect((await zeusd.ask("GET /events?x=1")).status).toBe(403);
    expect((await zeusd.ask("GET /lease/list?x=1")).status).toBe(403);
  });
});
