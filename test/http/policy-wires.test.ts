// What the policy says no to, on both wires: its shape, its code, its text, and that no device hears of it.
import { writeFile } from "node:fs/promises";
import { beforeEach, describe, expect, it } from "vitest";
import { Audit, type AuditSink } from "../../src/access/audit.ts";
import { Gate } from "../../src/access/gate.ts";
import type { Access } from "../../src/access/guard.ts";
import { ZeusdError } from "../../src/contract/errors.ts";
import { Health } from "../../src/contract/health.ts";
import { allOperations, apiGroups, type Row } from "../../src/contract/operations.ts";
import { createHandler } from "../../src/http/handle.ts";
import type { Reply } from "../../src/http/message.ts";
import { createRoutes } from "../../src/http/routes.ts";
import { parseTarget } from "../../src/http/target.ts";
import { createPathWire } from "../../src/http/wire/path-style.ts";
import { createQueryWire } from "../../src/http/wire/query-style.ts";
import { noLeases } from "../access/subjects.ts";
import { createFakeClock, type FakeClock } from "../fake-clock.ts";
import { parametersFor } from "../parameters.ts";
import { createQuietLog } from "../quiet-log.ts";
import { openBare, type BareConnection } from "./bare-connection.ts";
import { startFleetOn } from "./test-fleet.ts";
import { createFakeMachine } from "./fake-machine.ts";
import { startOnSocket } from "./socket-daemon.ts";
import {
  bearer,
  keyFile,
  peer,
  policyFile,
  startSubject,
  transports,
  type Answer,
  type Subject,
  type SubjectOptions,
} from "./subject.ts";

const text = "text/plain; charset=utf-8";
const json = ({ body }: Answer): unknown => JSON.parse(body);
const typed = { "content-type": "application/json" };
const me = process.getuid?.() ?? 0;

let clock: FakeClock;

/** In process; whoever is not named has no rule. */
async function start(policy: string, options: SubjectOptions = {}): Promise<Subject> {
  clock = createFakeClock();
  return startSubject("in process", { policy, clock, ...options });
}

const rule = (name: string, ...lines: readonly string[]): string => `[[rule]]\nname = "${name}"\n${lines.join("\n")}\n`;

const fieldsOf = (row: Row): Readonly<Record<string, boolean | number>> => ({
  ...parametersFor(row, 1_000),
  ...(row.kind === "write" ? { block: true } : {}),
});

interface Asking {
  readonly line: string;
  readonly body?: string;
  /** Whether it is refused in text. */
  readonly asText: boolean;
}

/** A whole request for an operation on each wire that has it. */
function requestsOf(row: Row, ids = "0"): readonly Asking[] {
  const method = row.kind === "write" ? "POST" : "GET";
  const pairs = Object.entries(fieldsOf(row)).map(([name, value]) => `&${name}=${value}`);
  const onQuery = {
    line: `${method} /${row.device}/${row.name}?${row.device}_ids=${ids}${pairs.join("")}`,
    asText: false,
  };
  const onPath = (row.json?.paths ?? []).map((path) => ({
    line: `${row.json?.method} /${row.device}/${ids}/${path}`,
    ...(row.json?.method === "POST" ? { body: JSON.stringify(fieldsOf(row)) } : {}),
    asText: true,
  }));
  return [...(hasQuery(row) ? [onQuery] : []), ...(ids.includes(",") ? [] : onPath)];
}

/** The state of the settings is asked for as an operation of the query wire is. */
const hasQuery = ({ query, by }: Row): boolean => query || by === "settings";

const send = (zeusd: Subject, { line, body }: Asking, uid: number): Promise<Answer> =>
  zeusd.ask(line, { headers: typed, peer: peer(uid), ...(body === undefined ? {} : { body }) });

const everyRequest = allOperations.flatMap((row) =>
  requestsOf(row).map((request) => ({ ...request, row, name: request.line.replace(/\?.*/, "") })),
);

const setLimit = (ids: string, mw = 200_000, block = true): string =>
  `POST /gpu/set_power_limit?gpu_ids=${ids}&power_limit_mw=${mw}&block=${block}`;
const setByBody = { line: "POST /gpu/0/set_power_limit", body: '{"power_limit_mw":200000,"block":true}', asText: true };

describe.each(everyRequest)("$name", ({ row, ...request }) => {
  it("is refused to whom no rule names with 403 and a sentence, in the form of its wire, before any device hears of it", async () => {
    const zeusd = await start(rule("others", "uids = [1001]", `allow = ["${apiGroups.join('", "')}"]`));
    const answer = await send(zeusd, request, 1000);
    const sentence = "no rule of the policy is for uid 1000";
    expect(answer.status).toBe(403);
    expect(answer.headers["retry-after"]).toBeUndefined();
    if (request.asText) expect(answer).toMatchObject({ type: text, body: sentence });
    else expect([answer.type, json(answer)]).toEqual(["application/json", { error: sentence, code: "forbidden" }]);
    expect(zeusd.calls).toEqual([]);
  });

  it("is refused to whom the rules allow everything else, with what they do allow", async () => {
    const own = `${row.device}/${row.name}`;
    const rest = allOperations.filter((one) => one !== row).map(({ device, name }) => `${device}/${name}`);
    const zeusd = await start(rule("rest", "uids = [1000]", `allow = ${JSON.stringify(rest)}`));
    const answer = await send(zeusd, request, 1000);
    const said = request.asText ? answer.body : String((json(answer) as { error: string }).error);
    expect([answer.status, said]).toEqual([
      403,
      `no rule of the policy allows ${row.name} to uid 1000: rule "rest" allows ${rest.join(", ")}`,
    ]);
    expect(rest).not.toContain(own);
    expect(zeusd.calls).toEqual([]);
  });

  it("is let through to whom a rule allows this operation alone", async () => {
    const zeusd = await startSubject("in process", {
      policy: rule("one", "uids = [1000]", `allow = ["${row.device}/${row.name}"]`),
    });
    const asked = { headers: typed, peer: peer(1000), ...(request.body === undefined ? {} : { body: request.body }) };
    const answer =
      row.kind === "stream" ? zeusd.follow(request.line, () => true, asked) : zeusd.ask(request.line, asked);
    expect((await answer).status).toBe(200);
  });
});

describe("a refusal says what was asked, what is allowed, and by which rule:", () => {
  const bounded = rule(
    "bounded",
    "uids = [1000]",
    'allow = ["gpu-control"]',
    "gpus = [0]",
    "bounds = [",
    '  { models = ["Fake GPU 0"], power_limit_mw = { min = 100000, max = 300000 } },',
    "  { memory_clock_mhz = { max = 2619 } },",
    "]",
  );
  it.each([
    [
      "POST /gpu/set_power_limit?gpu_ids=0&power_limit_mw=300001&block=true",
      'power_limit_mw 300001 is above 300000, the most that rule "bounded" allows on GPU 0',
    ],
    [
      "POST /gpu/set_power_limit?gpu_ids=0&power_limit_mw=99999&block=false",
      'power_limit_mw 99999 is below 100000, the least that rule "bounded" allows on GPU 0',
    ],
    [
      "POST /gpu/set_mem_locked_clocks?gpu_ids=0&min_clock_mhz=1&max_clock_mhz=2620&block=true",
      'max_clock_mhz 2620 is above 2619, the most that rule "bounded" allows on GPU 0',
    ],
    [
      "POST /gpu/set_power_limit?gpu_ids=1&power_limit_mw=200000&block=true",
      'rule "bounded" allows set_power_limit to uid 1000 on GPU 0 only, and not on GPU 1',
    ],
    ["GET /gpu/get_power", 'no rule of the policy allows get_power to uid 1000: rule "bounded" allows gpu-control'],
  ])("%s", async (line, error) => {
    const zeusd = await start(bounded);
    const answer = await zeusd.ask(line, { peer: peer(1000) });
    expect([answer.status, json(answer)]).toEqual([403, { error, code: "forbidden" }]);
    expect(zeusd.calls).toEqual([]);
  });

  it("and the same on the JSON wire, in text", async () => {
    const zeusd = await start(bounded);
    const body = '{"power_limit_mw":300001,"block":true}';
    expect(await send(zeusd, { ...setByBody, body }, 1000)).toMatchObject({
      status: 403,
      type: text,
      body: 'power_limit_mw 300001 is above 300000, the most that rule "bounded" allows on GPU 0',
    });
    expect(zeusd.calls).toEqual([]);
  });
});

describe("a request for several GPUs", () => {
  const first = rule("first", "uids = [1000]", 'allow = ["gpu-control", "gpu-read"]', "gpus = [0]");

  it.each([true, false])("of which one is not allowed reaches none of them, block=%s", async (block) => {
    const zeusd = await start(first);
    for (const ids of ["0,1", "1,0", "0,GPU-00000000-0000-0000-0000-000000000001"]) {
      const answer = await zeusd.ask(setLimit(ids, 200_000, block), { peer: peer(1000) });
      expect([answer.status, json(answer)]).toEqual([
        403,
        {
          error: 'rule "first" allows set_power_limit to uid 1000 on GPU 0 only, and not on GPU 1',
          code: "forbidden",
        },
      ]);
    }
    await clock.advance(60_000);
    expect(zeusd.calls).toEqual([]);
    expect((await zeusd.ask(setLimit("0", 200_000, block), { peer: peer(1000) })).status).toBe(200);
  });

  it("that names none is for all of them, and each is judged", async () => {
    const zeusd = await start(first);
    for (const name of ["get_power", "get_power_limit", "stream_power"]) {
      expect((await zeusd.ask(`GET /gpu/${name}`, { peer: peer(1000) })).status).toBe(403);
      expect((await zeusd.ask(`GET /gpu/${name}?gpu_ids=1`, { peer: peer(1000) })).status).toBe(403);
    }
    expect(zeusd.calls).toEqual([]);
    expect((await zeusd.ask("GET /gpu/get_power_limit?gpu_ids=0", { peer: peer(1000) })).status).toBe(200);
  });

  it("is judged by another rule on each, if the first that matches says so", async () => {
    const second = rule(
      "second",
      "uids = [1000]",
      'allow = ["set_power_limit"]',
      "bounds = [{ power_limit_mw = { max = 100 } }]",
    );
    const zeusd = await start(first + second);
    const high = await zeusd.ask(setLimit("0,1"), { peer: peer(1000) });
    expect(json(high)).toMatchObject({
      error: 'power_limit_mw 200000 is above 100, the most that rule "second" allows on GPU 1',
    });
    expect((await zeusd.ask(setLimit("0,1", 100), { peer: peer(1000) })).status).toBe(200);
    expect(zeusd.calls).toHaveLength(2);
  });

  it("of which one does not exist is a 400 as ever, and tells nobody which rules there are", async () => {
    const zeusd = await start(first);
    const answer = await zeusd.ask(setLimit("1,7"), { peer: peer(1000) });
    expect([answer.status, json(answer)]).toMatchObject([400, { code: "unknown_device" }]);
  });
});

describe("a GPU that has never been there", () => {
  const away = [{ id: 1, away: new ZeusdError("driver_error", "NVML error: sick") }];
  const policy = rule("all", "uids = [1000]", 'allow = ["gpu-control", "gpu-read"]');

  it("is refused with 503 and when to try again, since nobody knows what the policy says of it", async () => {
    const zeusd = await start(policy, { away });
    const error = "GPU 1 has not been there yet, so that the policy cannot be applied to it";
    for (const line of [setLimit("0,1"), "GET /gpu/get_power?gpu_ids=1", "GET /gpu/stream_power?gpu_ids=1"]) {
      const answer = await zeusd.ask(line, { peer: peer(1000) });
      expect([answer.status, answer.headers["retry-after"], json(answer)]).toEqual([
        503,
        "5",
        { error, code: "gpu_away" },
      ]);
    }
    const byBody = await send(zeusd, { ...setByBody, line: "POST /gpu/1/set_power_limit" }, 1000);
    expect(byBody).toMatchObject({ status: 503, type: text, body: error, headers: { "retry-after": "5" } });
    expect(zeusd.calls).toEqual([]);
  });

  it("is not among all GPUs, and judged once it is there", async () => {
    const zeusd = await start(policy, { away });
    expect((await zeusd.ask("GET /gpu/get_power", { peer: peer(1000) })).status).toBe(200);
    zeusd.takeAway();
    await clock.advance(60_000);
    expect((await zeusd.ask(setLimit("0,1"), { peer: peer(1000) })).status).toBe(200);
    expect((await zeusd.ask(setLimit("0,1"), { peer: peer(1001) })).status).toBe(403);
  });
});

it("a GPU that was there and is away is still judged by what it was: who may not use it hears no more", async () => {
  const zeusd = await start(rule("one", "uids = [1000]", 'allow = ["gpu-control"]', "gpus = [0]"));
  const reason = "NVML error: device fell off the bus or has otherwise become inacessible";
  zeusd.answer("gpu 0", "setPowerLimit", new ZeusdError("gpu_lost", reason));
  await zeusd.ask(setLimit("0"), { peer: peer(1000) });
  expect((await zeusd.ask(setLimit("0"), { peer: peer(1001) })).status).toBe(403);
  const away = await zeusd.ask(setLimit("0"), { peer: peer(1000) });
  expect([away.status, json(away)]).toMatchObject([503, { code: "gpu_away" }]);
});

describe("a rate that is used up", () => {
  const policy = rule(
    "slow",
    "uids = [1000, 1001]",
    'allow = ["gpu-control", "gpu-read"]',
    "rate = { writes_per_second = 0.5, burst = 2 }",
  );
  let zeusd: Subject;
  beforeEach(async () => {
    zeusd = await start(policy);
  });
  const used = async (ids = "0,1", uid = 1000): Promise<Answer> => zeusd.ask(setLimit(ids), { peer: peer(uid) });

  it("is a 429 that says when to try again, on both wires", async () => {
    expect((await used()).status).toBe(200);
    const error = 'uid 1000 writes too often: rule "slow" allows 0.5 writes a second, 2 at once; try again in 2 s';
    const onQuery = await used("0");
    expect([onQuery.status, onQuery.headers["retry-after"], json(onQuery)]).toEqual([
      429,
      "2",
      { error, code: "rate_limited" },
    ]);
    expect(await send(zeusd, setByBody, 1000)).toMatchObject({
      status: 429,
      type: text,
      body: error,
      headers: { "retry-after": "2" },
    });
    expect(zeusd.calls).toHaveLength(2);
    await clock.advance(2_000);
    expect((await send(zeusd, setByBody, 1000)).status).toBe(200);
  });

  it("counts a write for each GPU, all or nothing, and what is refused counts nothing", async () => {
    expect((await used("0")).status).toBe(200);
    expect((await used("0,1")).status).toBe(429);
    expect((await used("1")).status).toBe(200);
    expect(zeusd.calls).toHaveLength(2);
  });

  it("is not that of somebody else, and not one for reads", async () => {
    await used();
    expect((await used("0", 1001)).status).toBe(200);
    for (let count = 0; count < 10; count += 1) {
      expect((await zeusd.ask("GET /gpu/get_power", { peer: peer(1000) })).status).toBe(200);
    }
  });

  it("is one for both wires", async () => {
    for (let count = 0; count < 2; count += 1) expect((await send(zeusd, setByBody, 1000)).status).toBe(200);
    expect((await used("0")).status).toBe(429);
  });

  it("cannot be used by more writes than may ever be made at once, which is a refusal for good", async () => {
    const three = await start(policy, { gpus: 3 });
    const answer = await three.ask(setLimit("0,1,2"), { peer: peer(1000) });
    expect([answer.status, answer.headers["retry-after"], json(answer)]).toEqual([
      403,
      undefined,
      {
        error: '3 writes at once are more than may ever be made: rule "slow" allows 0.5 writes a second, 2 at once',
        code: "forbidden",
      },
    ]);
  });
});

describe("an audit that is required and cannot be written", () => {
  /** What answers, with an audit whose disk is full or not. */
  async function audited(required: boolean) {
    const machine = createFakeMachine();
    const [ticking, log] = [createFakeClock(), createQuietLog()];
    const disk = { full: false };
    const sink: AuditSink = {
      append() {
        if (disk.full) throw new Error("No space left on device (os error 28)");
      },
      reopen() {},
      close() {},
    };
    const audit = new Audit({ sink, clock: ticking, log, health: new Health(), required });
    const gate = new Gate({ clock: ticking, audit, leases: noLeases, restoreOnExit: false });
    const access: Access = { enabledGroups: apiGroups, audit, gate };
    const fleet = await startFleetOn(machine, ticking, log);
    const routes = createRoutes({ query: createQueryWire(ticking), path: createPathWire() }, []);
    const { handle } = createHandler({ routes, access, fleet, clock: ticking, log, gpuStreamFormat: "v2" });
    const ask = (line: string, body = ""): Promise<Reply> => {
      const [method = "", target = ""] = line.split(/ (.*)/s);
      return handle({
        id: "test-1",
        method,
        ...parseTarget(target),
        header: (name) => (name === "content-type" ? "application/json" : undefined),
        body: async () => Buffer.from(body),
        arrivedMs: ticking.monotonicMs(),
        gone: () => false,
      });
    };
    return { machine, disk, ask, clock: ticking };
  }

  const error = "The audit log cannot be written, and nothing may be changed without it.";

  it("refuses writes with 503 on both wires, the first already, and no device hears of them, until it can be written again", async () => {
    const { machine, disk, ask } = await audited(true);
    disk.full = true;
    for (const line of [setLimit("0"), setLimit("0,1", 1, false)]) {
      const { status, body, headers } = await ask(line);
      expect([status, headers["retry-after"], JSON.parse(String(body))]).toEqual([
        503,
        "1",
        { error, code: "audit_unavailable" },
      ]);
    }
    expect(await ask(setByBody.line, setByBody.body)).toMatchObject({
      status: 503,
      body: error,
      headers: { "content-type": text, "retry-after": "1" },
    });
    expect(machine.calls).toEqual([]);
    disk.full = false;
    expect((await ask(setLimit("0"))).status).toBe(200);
    expect((await ask(setByBody.line, setByBody.body)).status).toBe(200);
    disk.full = true;
    const before = machine.calls.length;
    expect((await ask(setLimit("0"))).status).toBe(503);
    expect(machine.calls).toHaveLength(before);
  });

  it("lets reads and dry runs through, and, where it is not required, writes as well", async () => {
    for (const required of [true, false]) {
      const { machine, disk, ask, clock: ticking } = await audited(required);
      disk.full = true;
      for (let time = 0; time < 3; time += 1) {
        expect((await ask(setLimit("0"))).status).toBe(required ? 503 : 200);
        await ticking.advance(100);
      }
      expect((await ask("GET /gpu/get_power")).status).toBe(200);
      const before = machine.calls.length;
      expect((await ask(`${setLimit("0")}&dry_run=true`)).status).toBe(200);
      expect(machine.calls).toHaveLength(before);
    }
  });
});

describe("a token's scope that is one operation", () => {
  const scoped = (...scopes: readonly string[]) => bearer({ sub: "anna", scopes });

  async function signed(options: SubjectOptions = {}): Promise<Subject> {
    return startSubject("in process", { ...options, config: { ...keyFile(), ...options.config } });
  }

  /** The requests that a token with these scopes gets through; the others must be told that a scope is missing. */
  async function allowed(zeusd: Subject, ...scopes: readonly string[]): Promise<readonly string[]> {
    const through: string[] = [];
    for (const { line, body, row, name } of everyRequest) {
      const asked = { headers: { ...typed, ...scoped(...scopes) }, ...(body === undefined ? {} : { body }) };
      // A stream is refused with a whole answer, which `follow` gives as well.
      const answer = await (row.kind === "stream" ? zeusd.follow(line, () => true, asked) : zeusd.ask(line, asked));
      if (answer.status === 200) through.push(name);
      else expect([name, answer.status, answer.body]).toEqual([name, 403, expect.stringContaining(row.group)]);
    }
    return through;
  }

  it("lets that one through on every wire, and no other", async () => {
    const zeusd = await signed();
    for (const scope of ["set_power_limit", "gpu/set_power_limit"]) {
      expect(await allowed(zeusd, scope)).toEqual(["POST /gpu/set_power_limit", "POST /gpu/0/set_power_limit"]);
    }
    expect(await allowed(zeusd, "gpu/get_power", "cpu/stream_power")).toEqual([
      "GET /gpu/get_power",
      "GET /cpu/stream_power",
    ]);
    expect(await allowed(zeusd, "get_power")).toEqual(["GET /gpu/get_power", "GET /cpu/get_power"]);
    for (const scope of ["SET_POWER_LIMIT", "cpu/set_power_limit", "set_power", "toString", ""]) {
      expect(await allowed(zeusd, scope)).toEqual([]);
    }
  });

  it("lets nobody learn of a path that does not exist", async () => {
    const zeusd = await signed();
    const headers = scoped("set_power_limit");
    expect((await zeusd.ask("POST /gpu/set_nothing", { headers })).status).toBe(403);
    expect((await zeusd.ask("GET /gpu/nothing", { headers })).status).toBe(403);
  });

  it("is of no use where the API group is off, or where the policy says no", async () => {
    const asked = { headers: scoped("set_power_limit") };
    const off = await (await signed({ config: { enabledGroups: ["gpu-read"] } })).ask(setLimit("0"), asked);
    expect([off.status, json(off)]).toMatchObject([404, { code: "group_disabled" }]);
    const policy = rule("readers", 'tokens = ["anna"]', 'allow = ["gpu-read"]');
    const refused = await (await signed({ policy })).ask(setLimit("0"), asked);
    expect([refused.status, json(refused)]).toMatchObject([403, { code: "forbidden" }]);
  });

  it("and the policy must both say yes: the policy alone gives nothing to a token without the scope", async () => {
    const zeusd = await signed({ policy: rule("all", "anyone = true", 'allow = ["gpu-control", "gpu-read"]') });
    const asked = { headers: scoped("gpu-read") };
    const answer = await zeusd.ask(setLimit("0"), asked);
    expect([answer.status, json(answer)]).toMatchObject([403, { code: "scope_missing" }]);
    expect((await zeusd.ask("GET /gpu/get_power", asked)).status).toBe(200);
  });
});

describe("over a Unix socket", () => {
  const both = rule("me", `uids = [${me}]`, 'allow = ["gpu-read", "cpu-read"]');
  const onlySecond = rule("me", `uids = [${me}]`, 'allow = ["gpu-read"]', "gpus = [1]");

  /** A stream that has begun to send. */
  async function openStream(path: string, target: string): Promise<BareConnection> {
    const connection = openBare(path, `GET ${target} HTTP/1.1\r\n\r\n`);
    await expect.poll(connection.text).toContain("data: ");
    return connection;
  }

  const hasEnded = ({ text: sent }: BareConnection): boolean => sent().endsWith("\r\n0\r\n\r\n");

  it("the streams that are not granted any more end when the policy is read again, and the others go on", async () => {
    const { policyPath } = policyFile(both);
    const machine = createFakeMachine();
    const { daemon, path } = await startOnSocket(machine, { policyPath });
    const [zero, one, all, cpu] = await Promise.all(
      ["/gpu/stream_power?gpu_ids=0", "/gpu/stream_power?gpu_ids=1", "/gpu/stream_power", "/cpu/stream_power"].map(
        (target) => openStream(path, target),
      ),
    );
    if (!zero || !one || !all || !cpu) throw new Error("a stream is missing");
    await daemon.reload();
    expect([zero, one, all, cpu].map(hasEnded)).toEqual([false, false, false, false]);
    await writeFile(policyPath, onlySecond);
    await daemon.reload();
    await expect.poll(() => [zero, one, all, cpu].map(hasEnded)).toEqual([true, false, true, true]);
    machine.answer("gpu 1", "getPower", { power_mw: 61_000 });
    await expect.poll(one.text).toContain("61000");
    // The connection of a stream that was ended serves as before.
    zero.socket.write("GET /time HTTP/1.1\r\n\r\n");
    await expect.poll(zero.text).toContain('timestamp_ms":1');
    const refused = openBare(path, "GET /gpu/stream_power?gpu_ids=0 HTTP/1.1\r\n\r\n");
    await expect.poll(refused.text).toMatch(/^HTTP\/1.1 403 /);
  });

  it.each([
    ["a request that cannot be parsed", "nonsense\r\n\r\n", /HTTP\/1\.1 400 [^]*connection: close/i],
    ["a request that the policy does not allow", "GET /cpu/get_power HTTP/1.1\r\n\r\n", /HTTP\/1\.1 403 /],
    ["another stream", "GET /gpu/stream_power?gpu_ids=1 HTTP/1.1\r\n\r\n", /HTTP\/1\.1 200 [^]*"gpu_id":1/],
  ])("the connection of a stream that was ended takes %s as a fresh one does", async (_, bytes, answer) => {
    const { policyPath } = policyFile(both);
    const { daemon, path } = await startOnSocket(createFakeMachine(), { policyPath });
    const stream = await openStream(path, "/gpu/stream_power?gpu_ids=0");
    await writeFile(policyPath, onlySecond);
    await daemon.reload();
    await expect.poll(() => hasEnded(stream)).toBe(true);
    const before = stream.text().length;
    stream.socket.write(bytes);
    await expect.poll(() => stream.text().slice(before)).toMatch(answer);
  });

  it("a stream of all GPUs goes on where a GPU has come meanwhile that is not allowed: it does not follow that one", async () => {
    const firstOnly = rule("me", `uids = [${me}]`, 'allow = ["gpu-read"]', "gpus = [0]");
    const { policyPath } = policyFile(both);
    const machine = createFakeMachine({ away: [{ id: 1, away: new ZeusdError("driver_error", "NVML error: sick") }] });
    const { daemon, path } = await startOnSocket(machine, { policyPath });
    const stream = await openStream(path, "/gpu/stream_power");
    machine.takeAway();
    const hasCome = async (): Promise<string> => {
      const asked = openBare(path, "GET /gpu/get_power?gpu_ids=1 HTTP/1.1\r\nconnection: close\r\n\r\n");
      await asked.closed;
      return asked.text();
    };
    await expect.poll(hasCome, { timeout: 10_000 }).toMatch(/^HTTP\/1\.1 200 /);
    await writeFile(policyPath, firstOnly);
    await daemon.reload();
    machine.answer("gpu 0", "getPower", { power_mw: 61_000 });
    await expect.poll(stream.text).toContain("61000");
    expect(hasEnded(stream)).toBe(false);
    expect(stream.text()).not.toContain('"gpu_id":1,');
  });

  it("a policy that cannot be read leaves all streams as they are", async () => {
    const { policyPath } = policyFile(both);
    const machine = createFakeMachine();
    const { daemon, path } = await startOnSocket(machine, { policyPath });
    const stream = await openStream(path, "/gpu/stream_power?gpu_ids=0");
    await writeFile(policyPath, "this is no TOML");
    await daemon.reload();
    machine.answer("gpu 0", "getPower", { power_mw: 61_000 });
    await expect.poll(stream.text).toContain("61000");
    expect(hasEnded(stream)).toBe(false);
  });

  it("who may use what is decided by the process that connected, on both wires", async () => {
    const policy = rule("me", `uids = [${me}]`, 'allow = ["set_power_limit"]', "gpus = [0]");
    const zeusd = await startSubject("over a Unix socket", { policy });
    expect((await zeusd.ask(setLimit("0"))).status).toBe(200);
    expect((await zeusd.ask(setByBody.line, { headers: typed, body: setByBody.body })).status).toBe(200);
    expect((await zeusd.ask(setLimit("1"))).status).toBe(403);
    expect((await zeusd.ask("GET /gpu/get_power")).status).toBe(403);
  });
});

it("over TCP nobody is known by uid, and only rules for anyone or for tokens let them through", async () => {
  const policy =
    rule("me", `uids = [${me}]`, 'allow = ["gpu-control"]') + rule("all", "anyone = true", 'allow = ["gpu-read"]');
  const zeusd = await startSubject("over TCP", { policy });
  const answer = await zeusd.ask(setLimit("0"));
  expect([answer.status, json(answer)]).toEqual([
    403,
    {
      error: 'no rule of the policy allows set_power_limit to a client without identity: rule "all" allows gpu-read',
      code: "forbidden",
    },
  ]);
  expect((await zeusd.ask("GET /gpu/get_power")).status).toBe(200);
});

it.each(transports)("what is open stays open whatever the policy says, %s", async (transport) => {
  const zeusd = await startSubject(transport, {
    policy: rule("none", `uids = [${me + 1}]`, 'allow = ["gpu-read"]'),
  });
  for (const path of ["/time", "/discover", "/healthz"]) expect((await zeusd.ask(`GET ${path}`)).status).toBe(200);
  expect((await zeusd.ask("GET /gpu/get_power")).status).toBe(403);
});
