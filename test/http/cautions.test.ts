// What a write may ask for beside its parameters, lease_id and atomic: how the query wire reads them, and what it answers.
import { beforeEach, describe, expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import { allOperations, type Row } from "../../src/contract/operations.ts";
import { operationOf } from "../../src/contract/rights.ts";
import { parametersFor } from "../parameters.ts";
import { peer, startSubject, type Answer, type Subject } from "./subject.ts";

const text = "text/plain; charset=utf-8";
const writes = allOperations.filter(({ kind }) => kind === "write");
const others = allOperations.filter(({ kind, query }) => kind !== "write" && query);
const noLease = "0123456789abcdef".repeat(2);
const json = ({ body }: Answer): unknown => JSON.parse(body);

/** A write to both GPUs, whole, with more behind it. */
function lineOf(row: Row, more: string, block = true): string {
  const pairs = Object.entries(parametersFor(row, 1_000)).map(([name, value]) => `${name}=${value}&`);
  return `POST /gpu/${row.name}?gpu_ids=0,1&${pairs.join("")}block=${block}${more}`;
}

let zeusd: Subject;

beforeEach(async () => {
  zeusd = await startSubject("in process");
});

const ask = (line: string): Promise<Answer> => zeusd.ask(line, { peer: peer(1000) });

/** The refusals of a query that cannot be read, by what is behind it; no device hears of any. */
async function expectUnreadable(write: Row, refusals: Readonly<Record<string, string>>): Promise<void> {
  for (const [more, detail] of Object.entries(refusals)) {
    const answer = await ask(lineOf(write, more));
    expect([more, answer]).toMatchObject([
      more,
      { status: 400, type: text, body: `Query deserialize error: ${detail}` },
    ]);
  }
  expect(zeusd.calls).toEqual([]);
}

describe.each(writes.map((write) => [write.name, write] as const))("%s", (_, write) => {
  it("with atomic=true says that it is done on all of its GPUs, and with atomic=false or none nothing", async () => {
    const whole = await ask(lineOf(write, "&atomic=true"));
    expect(whole).toMatchObject({ status: 200, type: "application/json" });
    expect(json(whole)).toEqual({ atomic: true, gpus: { 0: "done", 1: "done" } });
    const made = zeusd.calls.filter((call) => /^gpu \d (set|reset)/.test(call)).length;
    expect(made).toBe(write.name === "reset_locked_clocks" ? 4 : 2);
    for (const more of ["&atomic=false", ""]) {
      expect(await ask(lineOf(write, more))).toMatchObject({ status: 200, type: undefined, body: "" });
    }
  });

  it("that nobody waits for cannot be atomic, since nobody could be told: 400, and no device hears of it", async () => {
    for (const more of ["&atomic=true", "&atomic=true&dry_run=true"]) {
      const answer = await ask(lineOf(write, more, false));
      expect([answer.status, json(answer)]).toEqual([
        400,
        { error: "atomic needs block=true: who does not wait cannot be told", code: "bad_request" },
      ]);
    }
    expect(zeusd.calls).toEqual([]);
    expect((await ask(lineOf(write, "&atomic=false", false))).status).toBe(200);
  });

  it("knows only true and false for atomic, and it said once", async () => {
    const notBoolean = "provided string was not `true` or `false`";
    await expectUnreadable(write, {
      "&atomic": notBoolean,
      "&atomic=": notBoolean,
      "&atomic=1": notBoolean,
      "&atomic=True": notBoolean,
      "&atomic=true&atomic=true": "duplicate field `atomic`",
      "&at%6fmic=true&atomic=false": "duplicate field `atomic`",
    });
  });

  it("knows only 32 hexadecimal digits in small letters for lease_id, and it said once", async () => {
    const notAnId = "lease_id is not 32 hexadecimal digits";
    await expectUnreadable(write, {
      "&lease_id": notAnId,
      "&lease_id=": notAnId,
      "&lease_id=1": notAnId,
      [`&lease_id=${noLease.slice(1)}`]: notAnId,
      [`&lease_id=${noLease}0`]: notAnId,
      [`&lease_id=${noLease.toUpperCase()}`]: notAnId,
      [`&lease_id=${noLease.replace("0", "g")}`]: notAnId,
      [`&lease_id=${noLease}%0a`]: notAnId,
      [`&lease_id=${noLease}&lease_id=${noLease}`]: "duplicate field `lease_id`",
      [`&lease%5fid=${noLease}&lease_id=`]: "duplicate field `lease_id`",
    });
  });

  it("within a lease that there is not is refused with 409, also as a dry run, and no device hears of it", async () => {
    for (const more of ["", "&dry_run=true", "&atomic=true"]) {
      for (const block of more === "" ? [true, false] : [true]) {
        const answer = await ask(lineOf(write, `&lease_id=${noLease}${more}`, block));
        expect([answer.status, json(answer)]).toEqual([
          409,
          { error: "lease_id is that of no lease, or of one that has ended", code: "no_such_lease" },
        ]);
      }
    }
    expect(zeusd.calls).toEqual([]);
  });

  it("does not name them where it lists the fields that it expects, as the original does not", async () => {
    for (const more of ["&leaseid=1", "&lease_id_=1", "&Atomic=true", "&atomics=true"]) {
      const { status, body } = await ask(lineOf(write, more));
      expect(status).toBe(400);
      expect(body).toMatch(/^Query deserialize error: unknown field `[^`]*`, expected /);
      expect(body.slice(body.indexOf("expected"))).not.toMatch(/lease_id|atomic|dry_run/);
    }
    expect(zeusd.calls).toEqual([]);
  });
});

describe.each(["lease_id", "atomic"])("%s", (name) => {
  it.each(others)("is nothing that $device $name knows, which changes nothing", async (row) => {
    const fields = Object.keys(row.parameters).map((parameter) => `${parameter}=true&`);
    const line = (field: string): string => `GET /${row.device}/${row.name}?${fields.join("")}${field}=true`;
    const answer = await ask(line(name));
    expect(answer).toMatchObject({ status: 400, type: text });
    expect(answer.body).toBe((await ask(line("xyz"))).body.replace("xyz", name));
    expect(zeusd.calls).toEqual([]);
  });
});

it("an atomic write that fails says for each GPU either its error or what became of it, and gives no results", async () => {
  zeusd.answer("gpu 1", "setPowerLimit", new ZeusdError("invalid_argument", "NVML error: no"));
  const answer = await ask(lineOf(operationOf("gpu/set_power_limit"), "&atomic=true"));
  expect([answer.status, json(answer)]).toEqual([
    400,
    { errors: { 1: "NVML error: no" }, undone: { 0: "undone" }, code: "invalid_argument" },
  ]);
});
