// The daemon's own routes: how it is, who one is, and what the policy would say to somebody.
import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { allOperations } from "../../src/contract/operations.ts";
import { startDaemon } from "../../src/daemon.ts";
import { systemClock } from "../../src/contract/clock.ts";
import { createFolder } from "../folder.ts";
import { parametersFor } from "../parameters.ts";
import { createQuietLog } from "../quiet-log.ts";
import { openBare } from "./bare-connection.ts";
import { createFakeMachine } from "./fake-machine.ts";
import { startOnSocket } from "./socket-daemon.ts";
import {
  peer,
  policyFile,
  bearer,
  createFile,
  keyFile,
  startSubject,
  transports,
  type Answer,
  type Subject,
  type SubjectOptions,
} from "./subject.ts";
import { testConfig } from "./test-config.ts";

const json = ({ body }: Answer): unknown => JSON.parse(body);
const me = process.getuid?.() ?? 0;

/** One rule for each kind of person, with all that a rule can have. */
const policy = `
[[rule]]
name = "trainers"
groups = ["trainers"]
users = ["anna"]
allow = ["set_power_limit", "gpu-read"]
gpus = [0, "GPU-00000000-0000-0000-0000-000000000001"]
bounds = [{ models = ["Fake GPU *"], power_limit_mw = { min = 100000, max = 300000 } }]
rate = { writes_per_second = 5, burst = 10 }

[[rule]]
name = "robots"
tokens = ["ci-*"]
allow = ["gpu-read", "gpu/get_power"]

[[rule]]
name = "everyone"
anyone = true
allow = ["gpu/get_power", "cpu-read"]
`;

const names = {
  user: async (name: string) => (name === "anna" ? { uid: 1000 } : undefined),
  group: async (name: string) => (name === "trainers" ? 500 : undefined),
};

const start = (options: SubjectOptions = {}): Promise<Subject> =>
  startSubject("in process", { policy, names, ...options });

describe("/healthz", () => {
  it.each(transports)("is open to everyone, and says ok with 200, %s", async (transport) => {
    const { signingKeyPath } = keyFile();
    const zeusd = await startSubject(transport, { config: { signingKeyPath } });
    const answer = await zeusd.ask("GET /healthz");
    expect(answer).toMatchObject({ status: 200, type: "application/json" });
    expect(json(answer)).toEqual({ status: "ok", problems: {} });
  });

  it("is degraded, and still 200, while the policy that is in force is not the one in its file, and says nothing of what that is", async () => {
    const { policyPath } = policyFile(policy);
    const { daemon, path } = await startOnSocketWith(policyPath);
    const health = async (): Promise<unknown> => JSON.parse(await bodyAt(path, "/healthz"));
    expect(await health()).toEqual({ status: "ok", problems: {} });
    await writeFile(policyPath, "[[rule]]\nname = 7 # secret\n");
    await daemon.reload();
    const sick = (await health()) as { readonly problems: Record<string, string> };
    expect(sick).toEqual({ status: "degraded", problems: { policy: expect.stringMatching(/^The policy file \S/) } });
    expect(JSON.stringify(sick)).not.toMatch(/secret|policy\.toml|name/);
    await writeFile(policyPath, policy);
    await daemon.reload();
    expect(await health()).toEqual({ status: "ok", problems: {} });
  });

  it("is degraded while the revocations that are in force are not those in their file", async () => {
    const { signingKeyPath } = keyFile();
    const revokedTokensPath = createFile("revoked", "");
    const { daemon, path } = await startOnSocket(createFakeMachine(), { signingKeyPath, revokedTokensPath });
    await chmod(revokedTokensPath, 0o606);
    await daemon.reload();
    expect(JSON.parse(await bodyAt(path, "/healthz"))).toMatchObject({
      status: "degraded",
      problems: { revocations: expect.stringContaining("revocations") },
    });
  });

  it("is no route for anything but GET", async () => {
    const zeusd = await startSubject("in process");
    for (const method of ["POST", "HEAD", "PUT"]) expect((await zeusd.ask(`${method} /healthz`)).status).toBe(404);
  });
});

/** As `startOnSocket`, but with people of its own. */
async function startOnSocketWith(policyPath: string): ReturnType<typeof startOnSocket> {
  const path = join(createFolder(), "zeusd.sock");
  const log = createQuietLog();
  const { backends } = createFakeMachine();
  const parts = { version: "1.2.3", clock: systemClock, log, euid: process.geteuid?.() ?? 0, backends, names };
  const listener = { mode: "uds", path, permissions: 0o600 } as const;
  const daemon = await startDaemon(testConfig({ policyPath, listener }), parts);
  onTestFinished(async () => {
    daemon.cut();
    await daemon.drain(1_000);
  });
  return { daemon, path, logged: log.lines };
}

/** The body of an answer over a Unix socket. */
async function bodyAt(path: string, target: string): Promise<string> {
  const { text, closed } = openBare(path, `GET ${target} HTTP/1.1\r\nConnection: close\r\n\r\n`);
  await closed;
  return text().split("\r\n\r\n")[1] ?? "";
}

describe("/auth/whoami without a policy", () => {
  it.each(transports)("is the original's: 404 without a signing key, %s", async (transport) => {
    const zeusd = await startSubject(transport);
    const answer = await zeusd.ask("GET /auth/whoami");
    expect(answer.status).toBe(404);
    expect(json(answer)).toEqual({ error: "Authentication is not enabled on this server.", code: "auth_disabled" });
  });

  it.each(transports)("is the original's: sub, scopes and exp of the token and nothing else, %s", async (transport) => {
    const { signingKeyPath } = keyFile();
    const zeusd = await startSubject(transport, { config: { signingKeyPath } });
    const claims = { sub: "anna", scopes: ["gpu-read", "x"], exp: 4_000_000_000, iat: 1, jti: "id" };
    const answer = await zeusd.ask("GET /auth/whoami", { headers: bearer(claims) });
    expect(answer).toMatchObject({
      status: 200,
      type: "application/json",
      body: '{"sub":"anna","scopes":["gpu-read","x"],"exp":4000000000}',
    });
    const endless = await zeusd.ask("GET /auth/whoami", { headers: bearer({ sub: "anna", scopes: [] }) });
    expect(endless.body).toBe('{"sub":"anna","scopes":[]}');
  });

  it("tells a token's bearer nothing of the process that connected", async () => {
    const { signingKeyPath } = keyFile();
    const zeusd = await startSubject("in process", { config: { signingKeyPath } });
    const asked = { headers: bearer({ sub: "anna", scopes: [] }), peer: peer(0) };
    expect((await zeusd.ask("GET /auth/whoami", asked)).body).toBe('{"sub":"anna","scopes":[]}');
  });
});

describe("/auth/whoami with a policy", () => {
  const trainers = {
    rule: "trainers",
    allow: ["set_power_limit", "gpu-read"],
    gpus: [0, "GPU-00000000-0000-0000-0000-000000000001"],
    bounds: [{ models: ["Fake GPU *"], power_limit_mw: { min: 100_000, max: 300_000 } }],
    rate: { writes_per_second: 5, burst: 10 },
  };
  const robots = { rule: "robots", allow: ["gpu-read", "gpu/get_power"], gpus: "all" };
  const everyone = { rule: "everyone", allow: ["gpu/get_power", "cpu-read"], gpus: "all" };

  it("tells who connected, and the rules that are meant for them, in their order", async () => {
    const zeusd = await start();
    const answer = await zeusd.ask("GET /auth/whoami", { peer: peer(1000, 100, 101) });
    expect(answer).toMatchObject({ status: 200, type: "application/json" });
    expect(json(answer)).toEqual({
      uid: 1000,
      gid: 100,
      groups: [100, 101],
      pid: 4711,
      you: "uid 1000",
      rules: [trainers, everyone],
    });
    expect(json(await zeusd.ask("GET /auth/whoami", { peer: peer(7, 500) }))).toMatchObject({
      rules: [trainers, everyone],
    });
    expect(json(await zeusd.ask("GET /auth/whoami", { peer: peer(7) }))).toMatchObject({ rules: [everyone] });
  });

  it("tells of a token beside the process, and both kinds of rules", async () => {
    const { signingKeyPath } = keyFile();
    const zeusd = await start({ config: { signingKeyPath } });
    const headers = bearer({ sub: "ci-7", scopes: ["gpu-read"], iat: 1, jti: "id" });
    expect(json(await zeusd.ask("GET /auth/whoami", { headers, peer: peer(1000) }))).toEqual({
      sub: "ci-7",
      scopes: ["gpu-read"],
      uid: 1000,
      gid: 1000,
      groups: [],
      pid: 4711,
      you: "uid 1000 with token subject 'ci-7'",
      rules: [trainers, robots, everyone],
    });
    expect(json(await zeusd.ask("GET /auth/whoami", { headers }))).toEqual({
      sub: "ci-7",
      scopes: ["gpu-read"],
      you: "token subject 'ci-7'",
      rules: [robots, everyone],
    });
    expect((await zeusd.ask("GET /auth/whoami", { peer: peer(0) })).status).toBe(401);
  });

  it("over a Unix socket tells who this process is", async () => {
    const zeusd = await startSubject("over a Unix socket", {
      policy: `[[rule]]\nname = "me"\nuids = [${me}]\nallow = ["gpu-read"]\n[[rule]]\nname = "others"\nuids = [${me + 1}]\nallow = ["cpu-read"]\n`,
    });
    expect(json(await zeusd.ask("GET /auth/whoami"))).toEqual({
      uid: me,
      gid: process.getgid?.(),
      groups: expect.arrayContaining([process.getgid?.()]),
      pid: process.pid,
      you: `uid ${me}`,
      rules: [{ rule: "me", allow: ["gpu-read"], gpus: "all" }],
    });
  });

  it("over TCP without a signing key is 404: nobody can be told who they are", async () => {
    const zeusd = await startSubject("over TCP", { policy, names });
    const answer = await zeusd.ask("GET /auth/whoami");
    expect([answer.status, json(answer)]).toMatchObject([404, { code: "auth_disabled" }]);
  });
});

describe("/policy/explain", () => {
  const root = peer(0, 0);
  const explain = (zeusd: Subject, query: string, from = root): Promise<Answer> =>
    zeusd.ask(`GET /policy/explain?${query}`, { peer: from });

  it("is for root alone, over the Unix socket, whatever the policy says", async () => {
    const zeusd = await start();
    const query = "operation=set_power_limit&gpu_ids=0&power_limit_mw=1";
    expect((await explain(zeusd, query)).status).toBe(200);
    for (const from of [peer(1000, 500), peer(1, 0)]) {
      const answer = await explain(zeusd, query, from);
      expect([answer.status, json(answer)]).toEqual([
        403,
        { error: "Only root may ask this, over the Unix socket.", code: "forbidden" },
      ]);
    }
    expect((await zeusd.ask(`GET /policy/explain?${query}`)).status).toBe(403);
    const tcp = await startSubject("over TCP", { policy, names });
    expect((await tcp.ask(`GET /policy/explain?${query}`)).status).toBe(403);
  });

  it("needs a token of root as well where tokens are needed", async () => {
    const { signingKeyPath } = keyFile();
    const zeusd = await start({ config: { signingKeyPath } });
    const query = "operation=set_power_limit&gpu_ids=0&power_limit_mw=1";
    expect((await explain(zeusd, query)).status).toBe(401);
    const headers = bearer({ sub: "ci-7", scopes: [] });
    expect((await zeusd.ask(`GET /policy/explain?${query}`, { headers, peer: root })).status).toBe(200);
    expect((await zeusd.ask(`GET /policy/explain?${query}`, { headers })).status).toBe(403);
  });

  it("over a real Unix socket knows root, and this process where it is not root", async () => {
    const zeusd = await startSubject("over a Unix socket", {
      policy: `[[rule]]\nname = "me"\nuids = [${me}]\nallow = ["gpu-read"]\n`,
    });
    const answer = await zeusd.ask(`GET /policy/explain?operation=get_power_limit&uid=${me}`);
    if (me === 0) expect(json(answer)).toMatchObject({ gpus: { 0: { allowed: true, rule: "me" } } });
    else expect(answer.status).toBe(403);
  });

  it("is 404 without a policy, to root; to others it is not even that", async () => {
    const zeusd = await startSubject("in process");
    const answer = await explain(zeusd, "operation=set_power_limit&power_limit_mw=1");
    expect([answer.status, json(answer)]).toEqual([
      404,
      { error: "There is no policy; start the daemon with --policy.", code: "not_found" },
    ]);
    expect((await explain(zeusd, "", peer(1000))).status).toBe(403);
  });

  it.each(allOperations)("answers for $device/$name, by the name that only this operation has", async (row) => {
    const zeusd = await start();
    const { device, name } = row;
    const parameters = Object.entries(parametersFor(row, 200_000)).map(([field, value]) => `&${field}=${value}`);
    const query = `&${device}_ids=0,1&uid=1000${parameters.join("")}`;
    const answer = await explain(zeusd, `operation=${device}/${name}${query}`);
    const { operation, ...devices } = json(answer) as Record<string, unknown>;
    expect([answer.status, operation]).toEqual([200, name]);
    const explanation = { allowed: expect.any(Boolean), rules: expect.any(Array) };
    expect(devices).toEqual({
      [`${device}s`]: { 0: expect.objectContaining(explanation), 1: expect.objectContaining(explanation) },
    });
    const others = allOperations.filter((one) => one.name === name);
    expect((await explain(zeusd, `operation=${name}${query}`)).status).toBe(others.length > 1 ? 400 : 200);
    expect(zeusd.calls).toEqual([]);
  });

  it("says which rule decides and why, for every rule, and what a refused client would be told", async () => {
    const zeusd = await start();
    const ask = async (query: string): Promise<unknown> =>
      json(await explain(zeusd, `operation=set_power_limit&${query}`));
    const decided = [
      { rule: "trainers", line: 2, because: "it decides" },
      { rule: "robots", line: expect.any(Number), because: "not looked at any more" },
      { rule: "everyone", line: expect.any(Number), because: "not looked at any more" },
    ];
    expect(await ask("power_limit_mw=300000&uid=1000&gpu_ids=0")).toEqual({
      operation: "set_power_limit",
      gpus: { 0: { allowed: true, rule: "trainers", rules: decided } },
    });
    expect(await ask("power_limit_mw=300001&uid=7&gids=100,500&gpu_ids=1")).toEqual({
      operation: "set_power_limit",
      gpus: {
        1: {
          allowed: false,
          rule: "trainers",
          refusal: 'power_limit_mw 300001 is above 300000, the most that rule "trainers" allows on GPU 1',
          rules: decided,
        },
      },
    });
    expect(await ask("power_limit_mw=300000&sub=ci-1&gpu_ids=0")).toMatchObject({
      gpus: {
        0: {
          allowed: false,
          refusal:
            "no rule of the policy allows set_power_limit to token subject 'ci-1': " +
            'rule "robots" allows gpu-read, gpu/get_power; rule "everyone" allows gpu/get_power, cpu-read',
          rules: [
            { because: "it is for others" },
            { because: "it does not allow set_power_limit" },
            { because: "it does not allow set_power_limit" },
          ],
        },
      },
    });
  });

  it("refuses as a client would be, word for word", async () => {
    const zeusd = await start();
    const query = "power_limit_mw=300001&gpu_ids=0";
    const { gpus } = json(await explain(zeusd, `operation=set_power_limit&uid=1000&${query}`)) as {
      readonly gpus: Record<string, { readonly refusal: string }>;
    };
    const refused = await zeusd.ask(`POST /gpu/set_power_limit?block=true&${query}`, { peer: peer(1000) });
    expect(json(refused)).toEqual({ error: gpus["0"]?.refusal, code: "forbidden" });
  });

  it("takes gpu_ids as the operation does: ids, UUIDs, PCI addresses, and all that are there if left out", async () => {
    const zeusd = await start();
    const gpusOf = async (query: string): Promise<readonly string[]> => {
      const { gpus } = json(await explain(zeusd, `operation=set_power_limit&power_limit_mw=1${query}`)) as {
        gpus: object;
      };
      return Object.keys(gpus);
    };
    expect(await gpusOf("&gpu_ids=1")).toEqual(["1"]);
    expect(await gpusOf("&gpu_ids=GPU-00000000-0000-0000-0000-000000000001,0000:41:00.0")).toEqual(["0", "1"]);
  });

  it("takes block and leaves it out", async () => {
    const zeusd = await start();
    const query = "operation=reset_gpu_locked_clocks&gpu_ids=0";
    for (const more of ["", "&block=true", "&block=false"])
      expect((await explain(zeusd, query + more)).status).toBe(200);
  });

  it.each([
    ["", "operation must be given, and once"],
    ["operation=get_power_limit&operation=get_power_limit", "operation must be given, and once"],
    ["operation=", /^operation: "" does not name one operation; give e\.g\. set_power_limit, or gpu\/get_power/],
    ["operation=nothing", /^operation: "nothing" does not name one operation/],
    ["operation=get_power", /^operation: "get_power" does not name one operation/],
    ["operation=gpu-read", /^operation: "gpu-read" does not name one operation/],
    ["operation=toString", /^operation: "toString" does not name one operation/],
    ["operation=get_power_limit&uid=x", 'uid holds "x", which is no id'],
    ["operation=get_power_limit&uid=", 'uid holds "", which is no id'],
    ["operation=get_power_limit&uid=-1", 'uid holds "-1", which is no id'],
    ["operation=get_power_limit&uid=1.5", 'uid holds "1.5", which is no id'],
    ["operation=get_power_limit&uid=4294967296", 'uid holds "4294967296", which is no id'],
    ["operation=get_power_limit&uid=1&uid=2", "uid must be given, and once"],
    ["operation=get_power_limit&uid=1&gids=", 'gids holds "", which is no id'],
    ["operation=get_power_limit&uid=1&gids=1,", 'gids holds "", which is no id'],
    ["operation=get_power_limit&uid=1&gids=1,x", 'gids holds "x", which is no id'],
    ["operation=get_power_limit&uid=1&gids=1&gids=2", "gids must be given, and once"],
    ["operation=get_power_limit&gids=1", "gids says nothing without uid"],
    ["operation=get_power_limit&sub=a&sub=b", "sub must be given, and once"],
    ["operation=get_power_limit&x=1", "Query deserialize error: unknown field `x`, expected `gpu_ids`"],
    ["operation=get_power_limit&block=true", /^Query deserialize error: unknown field `block`/],
    ["operation=get_power_limit&gpu_ids=x", "Invalid GPU index: x"],
    ["operation=get_power_limit&gpu_ids=", "gpu_ids must contain at least one GPU index"],
    ["operation=get_power_limit&gpu_ids=0&gpu_ids=1", "Query deserialize error: duplicate field `gpu_ids`"],
    ["operation=get_power_limit&gpu_ids=7", "GPU 7 not found"],
    ["operation=set_power_limit&gpu_ids=0", "Query deserialize error: missing field `power_limit_mw`"],
    ["operation=set_power_limit&gpu_ids=0&power_limit_mw=x", /^Query deserialize error: invalid digit/],
    ["operation=set_power_limit&gpu_ids=0&power_limit_mw=1&block=x", /^Query deserialize error: provided string/],
    [
      "operation=set_gpu_locked_clocks&gpu_ids=0&min_clock_mhz=2&max_clock_mhz=1",
      /^set_gpu_locked_clocks: min_clock_mhz 2 is above max_clock_mhz 1/,
    ],
  ])("refuses %j with 400", async (query, error) => {
    const zeusd = await start();
    const answer = await explain(zeusd, query);
    expect(answer.status).toBe(400);
    const said = answer.type === "application/json" ? (json(answer) as { error: string }).error : answer.body;
    if (typeof error === "string") expect(said).toBe(error);
    else expect(said).toMatch(error);
  });

  it("repeats only the beginning of what is long and wrong", async () => {
    const zeusd = await start();
    const long = "x".repeat(20_000);
    for (const query of [`operation=${long}`, `operation=get_power_limit&uid=${long}`]) {
      const answer = await explain(zeusd, query);
      expect(answer.status).toBe(400);
      expect(answer.body.length).toBeLessThan(400);
    }
  });

  it("needs no gpu_ids for a write, though the write itself does", async () => {
    const zeusd = await start();
    const answer = await explain(zeusd, "operation=set_power_limit&power_limit_mw=200000&uid=1000");
    expect([answer.status, json(answer)]).toMatchObject([
      200,
      { gpus: { 0: { allowed: true }, 1: { allowed: true } } },
    ]);
  });

  it("explains the policy that is in force, also after it was read again", async () => {
    const { policyPath } = policyFile(policy);
    const { daemon, path } = await startOnSocketWith(policyPath);
    const ask = async (): Promise<unknown> =>
      JSON.parse(await bodyAt(path, "/policy/explain?operation=cpu/get_power&uid=7"));
    if (me !== 0) return expect(await ask()).toMatchObject({ code: "forbidden" });
    expect(await ask()).toMatchObject({ cpus: { 0: { allowed: true, rule: "everyone" } } });
    await writeFile(policyPath, '[[rule]]\nname = "few"\nuids = [1]\nallow = ["cpu-read"]\n');
    await daemon.reload();
    return expect(await ask()).toMatchObject({ cpus: { 0: { allowed: false, rules: [{ rule: "few" }] } } });
  });
});
