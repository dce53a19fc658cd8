// Dry runs: everything is checked, nothing is done, and the answer says what would have been.
import { beforeEach, describe, expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import { allOperations, type Row } from "../../src/contract/operations.ts";
import { operationOf } from "../../src/contract/rights.ts";
import { capacity } from "../../src/devices/lane.ts";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";
import { parametersFor } from "../parameters.ts";
import { peer, startSubject, type Answer, type Subject, type SubjectOptions } from "./subject.ts";

const writes = allOperations.filter(({ kind, query }) => kind === "write" && query);
const text = "text/plain; charset=utf-8";

/** A write, whole, with more behind it. */
function lineOf(row: Row, more: string, ids = "0,1"): string {
  const pairs = Object.entries(parametersFor(row, 1_000)).map(([name, value]) => `${name}=${value}&`);
  return `POST /gpu/${row.name}?gpu_ids=${ids}&${pairs.join("")}block=true${more}`;
}

const setLimit = operationOf("gpu/set_power_limit");
const dry = "&dry_run=true";
const json = ({ body }: Answer): unknown => JSON.parse(body);

let clock: FakeClock;
let zeusd: Subject;

async function setUp(options: SubjectOptions = {}): Promise<void> {
  clock = createFakeClock();
  zeusd = await startSubject("in process", { clock, ...options });
}

beforeEach(() => setUp());

/** Its status, its code, and when to try again. */
function gistOf(answer: Answer): readonly unknown[] {
  const { code } = json(answer) as { readonly code?: string };
  return [answer.status, code, answer.headers["retry-after"]];
}

/** A refusal that a dry run and the write itself have in common. */
async function expectSame(expected: readonly unknown[], ids = "0,1", from = peer(1000)): Promise<void> {
  const before = zeusd.calls.length;
  const rehearsed = await zeusd.ask(lineOf(setLimit, dry, ids), { peer: from });
  expect(gistOf(rehearsed)).toEqual(expected);
  expect(zeusd.calls).toHaveLength(before);
  expect(gistOf(await zeusd.ask(lineOf(setLimit, "", ids), { peer: from }))).toEqual(expected);
}

describe.each(writes.map((write) => [write.name, write] as const))("%s", (name, write) => {
  it("with dry_run=true says what would be done where, and reaches no device", async () => {
    const answer = await zeusd.ask(lineOf(write, dry, "1,0,1"));
    expect(answer).toMatchObject({ status: 200, type: "application/json" });
    const asked = Object.entries(parametersFor(write, 1_000));
    const shown = asked.map(([parameter, value]) => ` ${parameter}=${value}`).join("");
    expect(json(answer)).toEqual({
      dry_run: true,
      would: `${name}${shown} on GPU 0, GPU 1`,
      operation: name,
      asked: Object.fromEntries(asked),
      gpus: { 0: { rule: null, lease: null }, 1: { rule: null, lease: null } },
    });
    await clock.advance(60_000);
    expect(zeusd.calls).toEqual([]);
  });

  it("with dry_run=false, or with none, writes", async () => {
    for (const more of ["&dry_run=false", ""]) {
      expect(await zeusd.ask(lineOf(write, more))).toMatchObject({ status: 200, type: undefined, body: "" });
    }
    // Twice on two GPUs, and once more each for what consists of two parts.
    expect(zeusd.calls).toHaveLength(name === "reset_locked_clocks" ? 8 : 4);
  });

  it("is a dry run wherever it says so, and whether it would wait or not", async () => {
    const line = lineOf(write, "");
    const lines = [
      line.replace("?", "?dry_run=true&"),
      line.replace("block=true", "block=false&dry_run=true"),
      `${line}&dry%5Frun=tru%65`,
      `${line}&&dry_run=true&`,
    ];
    for (const one of lines) expect(json(await zeusd.ask(one))).toMatchObject({ dry_run: true });
    await clock.advance(60_000);
    expect(zeusd.calls).toEqual([]);
  });

  it("knows only true and false for it, says it once, and needs all of its own parameters", async () => {
    const refusals = {
      "&dry_run=": "provided string was not `true` or `false`",
      "&dry_run": "provided string was not `true` or `false`",
      "&dry_run=1": "provided string was not `true` or `false`",
      "&dry_run=TRUE": "provided string was not `true` or `false`",
      "&dry_run=true&dry_run=true": "duplicate field `dry_run`",
      "&dry_run=true&dry_run=false": "duplicate field `dry_run`",
    };
    for (const [more, detail] of Object.entries(refusals)) {
      const answer = await zeusd.ask(lineOf(write, more));
      expect(answer).toMatchObject({ status: 400, type: text, body: `Query deserialize error: ${detail}` });
    }
    const whole = lineOf(write, dry);
    for (const parameter of ["gpu_ids", ...Object.keys(write.parameters), "block"]) {
      const answer = await zeusd.ask(whole.replace(new RegExp(`${parameter}=[^&]*&`), ""));
      expect([answer.status, answer.body]).toEqual([400, `Query deserialize error: missing field \`${parameter}\``]);
    }
    expect(zeusd.calls).toEqual([]);
  });

  it("does not name it where it lists the fields that it expects, as the original does not", async () => {
    const { status, body } = await zeusd.ask(lineOf(write, "&dryrun=true"));
    expect(status).toBe(400);
    expect(body).toMatch(/^Query deserialize error: unknown field `dryrun`, expected /);
    expect(body.slice(body.indexOf("expected"))).not.toContain("dry_run");
    expect(zeusd.calls).toEqual([]);
  });
});

it.each(allOperations.filter(({ kind, query }) => kind !== "write" && query))(
  "$device $name changes nothing and knows no dry run: that is refused as any field that it does not know",
  async ({ device, name, parameters }) => {
    const fields = Object.keys(parameters).map((parameter) => `${parameter}=true&`);
    const line = (field: string): string => `GET /${device}/${name}?${fields.join("")}${field}=true`;
    const answer = await zeusd.ask(line("dry_run"));
    expect(answer).toMatchObject({ status: 400, type: text });
    expect(answer.body).toMatch(/^Query deserialize error: unknown field `dry_run`, expected /);
    expect(answer.body).toBe((await zeusd.ask(line("xyz_run"))).body.replace("xyz_run", "dry_run"));
    expect(zeusd.calls).toEqual([]);
  },
);

it("a JSON body cannot ask for a dry run, and is not taken for a write", async () => {
  const headers = { "content-type": "application/json" };
  for (const path of allOperations.flatMap((one) => (one.kind === "write" ? (one.json?.paths ?? []) : []))) {
    const fields = { enabled: true, power_limit_mw: 1, min_clock_mhz: 1, max_clock_mhz: 2, block: true };
    for (const dry_run of [true, false, null]) {
      const answer = await zeusd.ask(`POST /gpu/0/${path}`, { headers, body: JSON.stringify({ ...fields, dry_run }) });
      expect(answer).toMatchObject({ status: 400, type: text, body: expect.stringContaining("dry_run") });
    }
  }
  expect(zeusd.calls).toEqual([]);
});

describe("a dry run is refused as the write would be, with the same status and code,", () => {
  it("on a GPU that does not exist", async () => {
    await expectSame([400, "unknown_device", undefined], "0,7");
    await expectSame([400, "unknown_device", undefined], "GPU-ffffffff");
  });

  it("on a GPU that is away, also with others", async () => {
    await setUp({ away: [{ id: 0, away: new ZeusdError("driver_error", "NVML error: sick") }] });
    await expectSame([503, "gpu_away", "5"], "0");
    const rehearsed = await zeusd.ask(lineOf(setLimit, dry));
    expect(json(rehearsed)).toEqual({ error: "GPU 0 is away: NVML error: sick", code: "gpu_away" });
    expect(zeusd.calls).toEqual([]);
  });

  it("on a GPU whose lane is stuck", async () => {
    zeusd.hold("gpu 0", "resetMemLockedClocks");
    const stuck = zeusd.ask(lineOf(operationOf("gpu/reset_locked_clocks"), "", "0"));
    await clock.advance(4_000);
    expect((await stuck).status).toBe(504);
    await expectSame([503, "lane_stuck", "5"], "0");
    expect(json(await zeusd.ask(lineOf(setLimit, dry, "1")))).toMatchObject({ dry_run: true });
  });

  it("on a GPU whose queue is full", async () => {
    const release = zeusd.hold("gpu 0", "setPowerLimit");
    const queued = lineOf(setLimit, "", "0").replace("block=true", "block=false");
    for (let count = 0; count < capacity + 1; count += 1) await zeusd.ask(queued);
    await expectSame([503, "queue_full", "1"], "0");
    release();
  });

  it("on a GPU whose vendor lacks the call", async () => {
    await setUp({ lacks: ["setPowerLimit"] });
    await expectSame([400, "not_supported", undefined], "0");
    const rehearsed = await zeusd.ask(lineOf(setLimit, dry));
    expect(json(rehearsed)).toEqual({ error: "set_power_limit is not supported by GPU 0", code: "not_supported" });
    expect(zeusd.calls).toEqual([]);
  });

  it("for a range that is upside down", async () => {
    const line = "POST /gpu/set_gpu_locked_clocks?gpu_ids=0&min_clock_mhz=2&max_clock_mhz=1&block=true";
    expect(gistOf(await zeusd.ask(`${line}${dry}`))).toEqual(gistOf(await zeusd.ask(line)));
  });

  it("where the policy does not allow it", async () => {
    const rule = `
      [[rule]]
      name = "low"
      uids = [1000]
      allow = ["set_power_limit"]
      bounds = [{ power_limit_mw = { max = 999 } }]
    `;
    await setUp({ policy: rule });
    await expectSame([403, "forbidden", undefined]);
    await expectSame([403, "forbidden", undefined], "0", peer(1001));
  });

  it("where an API group is off", async () => {
    await setUp({ config: { enabledGroups: ["gpu-read"] } });
    await expectSame([404, "group_disabled", undefined]);
  });
});

describe("under a policy with a rate", () => {
  const policy = `
    [[rule]]
    name = "slow"
    uids = [1000]
    allow = ["gpu-control"]
    rate = { writes_per_second = 1, burst = 2 }

    [[rule]]
    name = "fast"
    uids = [1001]
    allow = ["gpu-control"]
  `;
  const ask = (more: string, ids: string, from = 1000): Promise<Answer> =>
    zeusd.ask(lineOf(setLimit, more, ids), { peer: peer(from) });

  beforeEach(() => setUp({ policy }));

  it("a dry run says which rule would allow it on each GPU", async () => {
    for (const [uid, rule] of [
      [1000, "slow"],
      [1001, "fast"],
    ] as const) {
      expect(json(await ask(dry, "0,1", uid))).toMatchObject({ gpus: { 0: { rule }, 1: { rule } } });
    }
  });

  it("dry runs use nothing of it up, and are refused once it is used up, as the write is", async () => {
    for (let count = 0; count < 10; count += 1) expect((await ask(dry, "0,1")).status).toBe(200);
    expect((await ask("", "0,1")).status).toBe(200);
    await expectSame([429, "rate_limited", "1"], "0");
    await expectSame([429, "rate_limited", "2"], "0,1");
    await clock.advance(1_000);
    for (let count = 0; count < 10; count += 1) expect((await ask(dry, "0")).status).toBe(200);
    expect((await ask(dry, "0,1")).status).toBe(429);
    expect((await ask("", "0")).status).toBe(200);
    expect(zeusd.calls).toHaveLength(3);
  });
});
