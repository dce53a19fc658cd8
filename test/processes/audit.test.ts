// The audit log of a real daemon: what it says, that no line is lost, and what happens where it cannot be written.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { issueToken } from "../../src/access/token.ts";
import { createFolder } from "../folder.ts";
import { actAs, type UserAnswer } from "./as-user.ts";
import { setter, write, writeTarget, written } from "./driven.ts";
import { createDriver } from "./driver.ts";
import {
  alice,
  rule,
  uids,
  forAlice,
  createFile,
  startWith,
  countOf,
  reload,
  health,
  isWell,
  codeOf,
  changes,
  words,
} from "./governed.ts";
import { eventually } from "./http-client.ts";
import { isRoot } from "./ordinary-user.ts";
import { refusal, startZeusd, type StartOptions } from "./zeusd.ts";

type Line = Readonly<Record<string, unknown>>;

function linesOf(path: string): readonly Line[] {
  return readFileSync(path, "utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Line);
}

async function linesAre(path: string, count: number): Promise<readonly Line[]> {
  await eventually(() => linesOf(path).length >= count);
  const lines = linesOf(path);
  expect(lines).toHaveLength(count);
  return lines;
}

describe("the audit log", () => {
  it("says of each write who made it, what it was and what came of it, and of each refusal why", async () => {
    const audit = join(createFolder(), "audit");
    const { address, driver } = await startWith(rule("limits", uids(alice), ["set_power_limit"], "gpus = [0, 1]"), [
      ...["--audit-log", audit],
    ]);
    const a = await actAs(alice, "alices-tool");
    const who = { uid: alice.uid, pid: a.pid, program: "alices-tool" };
    const done = await a.ask(address, { method: "POST", target: writeTarget({ ids: "0,1", mw: 210_000 }) });
    expect(done).toMatchObject({ status: 200, body: "" });
    const lines = await linesAre(audit, 2);
    expect(lines.map(({ gpu }) => gpu).toSorted()).toEqual([0, 1]);
    for (const line of lines) {
      expect(line).toMatchObject({
        ...who,
        request_id: done.headers["x-request-id"],
        operation: "set_power_limit",
        uuid: expect.stringMatching(/^GPU-/),
        asked: { power_limit_mw: 210_000 },
        block: true,
        after: { power_limit: { power_limit_mw: 210_000 } },
        enforced: { power_limit: { power_limit_mw: 210_000 } },
        rule: "limits",
        outcome: "ok",
      });
      expect(line["time"]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      expect(line["duration_ms"]).toBeGreaterThan(0);
    }
    expect(statSync(audit).mode & 0o777).toBe(0o640);

    // What it was before is what is known by now.
    await a.ask(address, { method: "POST", target: writeTarget({ mw: 220_000 }) });
    expect((await linesAre(audit, 3))[2]).toMatchObject({
      before: { power_limit: { power_limit_mw: 210_000 } },
      after: { power_limit: { power_limit_mw: 220_000 } },
    });

    driver.fail(`${setter}@0=code:999`);
    expect(await a.ask(address, { method: "POST", target: writeTarget({ mw: 230_000 }) })).toMatchObject({
      status: 500,
    });
    const failed = (await linesAre(audit, 4))[3];
    expect(failed).toMatchObject({ ...who, gpu: 0, rule: "limits", outcome: expect.stringMatching(/error/) });
    expect(failed?.["after"]).not.toEqual({ power_limit: { power_limit_mw: 230_000 } });

    const headers = { "content-type": "application/json" };
    const body = '{"block":true}';
    await a.ask(address, { method: "POST", target: "/gpu/0/reset_gpu_locked_clocks", headers, body });
    await a.ask(address, { target: "/gpu/get_power" });
    await a.ask(address, { method: "POST", target: `${writeTarget({ mw: 240_000 })}&dry_run=maybe` });
    const refused = (await linesAre(audit, 7)).slice(4);
    expect(refused).toMatchObject([
      { ...who, operation: "reset_gpu_locked_clocks", gpus: [0], asked: {}, outcome: "forbidden" },
      { ...who, operation: "get_power", gpus: "all", outcome: "forbidden" },
      { ...who, operation: "set_power_limit", outcome: "bad_request" },
    ]);
    expect(changes(driver).filter((call) => call.startsWith("nvmlDeviceReset"))).toEqual([]);
  });

  it("that was renamed goes on in a new file after SIGHUP, and no line is lost, double or torn", async () => {
    const folder = createFolder();
    const audit = join(folder, "audit");
    const { daemon, address } = await startWith(forAlice, ["--audit-log", audit]);
    const a = await actAs(alice);
    const writeOne = (mw: number): Promise<UserAnswer> =>
      a.ask(address, { method: "POST", target: writeTarget({ mw }) });
    const askedOf = (path: string): readonly unknown[] => linesOf(path).map(({ asked }) => asked);
    await writeOne(110_000);
    await linesAre(audit, 1);
    renameSync(audit, `${audit}.1`);
    await writeOne(120_000);
    await linesAre(`${audit}.1`, 2);
    expect(existsSync(audit)).toBe(false);

    daemon.signal("SIGHUP");
    await eventually(() => existsSync(audit));
    await writeOne(130_000);
    await linesAre(audit, 1);
    expect(askedOf(`${audit}.1`)).toEqual([{ power_limit_mw: 110_000 }, { power_limit_mw: 120_000 }]);
    expect(askedOf(audit)).toEqual([{ power_limit_mw: 130_000 }]);
    expect(statSync(audit).mode & 0o777).toBe(0o640);

    // A name at which no file can be made: it goes on in the one that it has.
    renameSync(audit, `${audit}.2`);
    mkdirSync(audit);
    await reload(daemon);
    expect(daemon.stderr()).toMatch(/ERROR The audit log could not be opened again/);
    expect(await health(daemon)).toMatchObject({ status: "degraded", problems: { audit_reopen: expect.any(String) } });
    await writeOne(140_000);
    await linesAre(`${audit}.2`, 2);
    rmSync(audit, { recursive: true });
    await reload(daemon);
    expect(await health(daemon)).toEqual(isWell);
  });

  it("has on SIGTERM the lines of all writes that were made, also of those whose value was still to be read", async () => {
    const audit = join(createFolder(), "audit");
    const { daemon, address, driver } = await startWith(forAlice, ["--audit-log", audit]);
    const a = await actAs(alice);
    const target = writeTarget({ ids: "0,1", mw: 250_000 });
    expect(await a.ask(address, { method: "POST", target })).toMatchObject({ status: 200 });
    daemon.signal("SIGTERM");
    expect(await daemon.exit).toEqual({ code: 0, signal: null });
    expect(written(driver).toSorted()).toEqual(["250000@0", "250000@1"]);
    const lines = linesOf(audit);
    expect(lines.map(({ gpu, outcome }) => `${String(gpu)} ${String(outcome)}`).toSorted()).toEqual(["0 ok", "1 ok"]);
    for (const line of lines) {
      const read = { after: { power_limit: { power_limit_mw: 250_000 } } };
      const unread = { after: null, read_back: "failed", reason: expect.stringContaining("stopped") };
      expect(line).toMatchObject(line["after"] === null ? unread : read);
    }
  });

  it("of simulated GPUs and over TCP has the address and the token's subject instead of a process", async () => {
    const audit = join(createFolder(), "audit");
    const key = "k".repeat(32);
    const keyed = ["--signing-key-path", createFile("key", key), "--audit-log", audit];
    const tcp = ["--mode", "tcp", "--tcp-bind-address", "127.0.0.1:0"];
    const daemon = startZeusd(["serve", "--sim", "1xh100", ...tcp, ...keyed]);
    const token = await issueToken(Buffer.from(key), { sub: "carol", scopes: ["gpu-control"], jti: "7" });
    const address = await daemon.listening();
    const user = await actAs();
    const ask = (authorization: string): Promise<UserAnswer> =>
      user.ask(address, { method: "POST", target: writeTarget({ mw: 300_000 }), headers: { authorization } });
    expect(await ask(`Bearer ${token}`)).toMatchObject({ status: 200 });
    const [line] = await linesAre(audit, 1);
    expect(line).toMatchObject({ address: "127.0.0.1", sub: "carol", jti: "7", gpu: 0, outcome: "ok" });
    expect(line).not.toHaveProperty("uid");
    expect(await ask(`Bearer ${token}x`)).toMatchObject({ status: 401 });
    const [, refused] = await linesAre(audit, 2);
    expect(refused).toMatchObject({ address: "127.0.0.1", outcome: "unauthenticated" });
    expect(JSON.stringify(refused)).not.toContain(token);
    // Where it came from is known also of a client that has gone by the time that the write has ended.
    const leaving = await daemon.connect();
    const head = `POST ${writeTarget({ mw: 310_000 })} HTTP/1.1\r\nauthorization: Bearer ${token}\r\n`;
    leaving.socket.end(`${head}connection: close\r\n\r\n`);
    await leaving.closed;
    const [, , last] = await linesAre(audit, 3);
    expect(last).toMatchObject({ address: "127.0.0.1", sub: "carol", asked: { power_limit_mw: 310_000 } });
  });
});

/** A place for an audit log that takes no line. */
interface Full {
  readonly through: readonly string[];
  readonly path: string;
  /** How the file can be read from here, while the process lives. */
  file(pid: number): string;
  /** Makes room. */
  free(pid: number): void;
}

/** Of util-linux, as unshare is. */
const prlimit = "prlimit";

const limited = (): Full => {
  // A size that no file may pass; the stub driver's log stays well below.
  const [size, audit] = [65_536, join(createFolder(), "audit")];
  writeFileSync(audit, `${JSON.stringify({ filler: "x".repeat(size - 14) })}\n`);
  expect(statSync(audit).size).toBe(size);
  return {
    through: [prlimit, `--fsize=${size}:`],
    path: audit,
    file: () => audit,
    free: (pid) => void execFileSync(prlimit, ["--pid", String(pid), "--fsize=1048576:"]),
  };
};

const mounting = [
  "unshare",
  "-m",
  "sh",
  "-c",
  'mount -t tmpfs -o size=8k tmpfs "$0" && head -c 8192 /dev/zero > "$0/x"; exec "$@"',
];

const onFullDisk = (): Full => {
  const folder = createFolder();
  return {
    through: [...mounting, folder],
    path: join(folder, "audit"),
    file: (pid) => join(`/proc/${pid}/root`, folder, "audit"),
    free: (pid) => rmSync(join(`/proc/${pid}/root`, folder, "x")),
  };
};

/** Not every container lets even root mount anything; a file that may not grow is there for everyone. */
const canMount = isRoot && spawnSync("unshare", [...mounting.slice(1), "/mnt", "test", "-e", "/mnt/x"]).status === 0;

describe.each([
  { how: "a file may not grow any more", full: limited },
  { how: canMount ? "the disk is full" : "it cannot be written, once more", full: canMount ? onFullDisk : limited },
])("where $how", ({ full }) => {
  async function startFull(...more: readonly string[]) {
    const place = full();
    const driver = createDriver();
    const socket = ["--socket-path", join(createFolder(), "zeusd.sock"), "--powercap-root", createFolder()];
    const args = ["--allow-unprivileged", ...socket, "--audit-log", place.path, ...more];
    const daemon = startZeusd(args, { env: driver.env, through: place.through });
    await daemon.listening();
    return { place, driver, daemon, user: await actAs() };
  }

  it("with --audit-required nothing is changed from the first write on, and reads go on; until there is room again", async () => {
    const { place, driver, daemon, user } = await startFull("--audit-required");
    const address = await daemon.listening();
    const before = changes(driver);
    const onQuery = await user.ask(address, { method: "POST", target: writeTarget({ mw: 120_000, block: false }) });
    const onPath = await user.ask(address, {
      method: "POST",
      target: "/gpu/0/set_power_limit",
      headers: { "content-type": "application/json" },
      body: '{"power_limit_mw":130000,"block":true}',
    });
    for (const { status, headers } of [onQuery, onPath]) {
      expect([status, headers["retry-after"]]).toEqual([503, expect.stringMatching(/^[1-9]\d*$/)]);
    }
    expect(codeOf(onQuery)).toBe("audit_unavailable");
    expect(onPath.headers["content-type"]).toBe("text/plain; charset=utf-8");
    expect(changes(driver)).toEqual(before);
    expect((await daemon.request("/gpu/get_power")).status).toBe(200);
    expect((await daemon.request(`${writeTarget()}&dry_run=true`, { method: "POST" })).status).toBe(200);
    expect(await health(daemon)).toEqual({
      status: "degraded",
      problems: { audit: "The audit log cannot be written." },
    });
    expect(countOf(daemon, / ERROR The audit log cannot be written: /)).toBe(1);

    place.free(daemon.pid);
    expect((await write(daemon, { mw: 140_000 })).status).toBe(200);
    await eventually(() => readFileSync(place.file(daemon.pid), "utf8").endsWith("}\n"));
    const wanted = (): boolean => readFileSync(place.file(daemon.pid), "utf8").includes('"outcome":"ok"');
    await eventually(wanted);
    const lines = linesOf(place.file(daemon.pid));
    expect(lines.filter(({ event }) => event === "lines_lost")).toMatchObject([{ count: expect.any(Number) }]);
    const told = lines.filter(({ event, outcome }) => event === "begins" || outcome === "ok");
    expect(told).toMatchObject([
      { event: "begins", gpus: [0], asked: { power_limit_mw: 140_000 } },
      { gpu: 0, outcome: "ok", asked: { power_limit_mw: 140_000 } },
    ]);
    expect(written(driver)).toEqual(["140000@0"]);
    expect(await health(daemon)).toEqual(isWell);
  });

  it("without --audit-required writes go on, and it is said that lines are missing", async () => {
    const { place, driver, daemon } = await startFull();
    for (const mw of [110_000, 120_000, 130_000]) expect((await write(daemon, { mw })).status).toBe(200);
    await eventually(async () => ((await health(daemon)) as typeof isWell).status === "degraded");
    expect(written(driver)).toEqual(["110000@0", "120000@0", "130000@0"]);
    place.free(daemon.pid);
    await eventually(async () => {
      await write(daemon, { mw: 140_000 });
      return ((await health(daemon)) as typeof isWell).status === "ok";
    });
    await daemon.logged("The audit log can be written again");
  });
});

it("an audit in the journal needs one: without it is refused; with it, it starts", async () => {
  const socket = "/run/systemd/journal/socket";
  const hide = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs tmpfs /run/systemd/journal && exec "$@"', "sh"];
  const hidden: StartOptions = existsSync(socket) && canMount ? { through: hide } : {};
  if (existsSync(socket) && !canMount) {
    const daemon = startZeusd(words("--audit-log", "journal"));
    expect((await daemon.request("/gpu/get_power")).status).toBe(200);
  } else {
    const sentence = await refusal(words("--audit-log", "journal"), hidden);
    expect(sentence).toMatch(/^Cannot write the audit log 'journal': ENOENT: .*\/run\/systemd\/journal\/socket/);
  }
});
