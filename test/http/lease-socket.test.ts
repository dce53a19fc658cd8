// Leases over real sockets: processes that hold them and end, clients over TCP, streams of events, and a daemon that stops.
import { chmodSync, writeFileSync } from "node:fs";
import { beforeEach, describe, expect, it } from "vitest";
import type { Config } from "../../src/contract/config.ts";
import { createFolder } from "../folder.ts";
import { actAs, type User } from "../processes/as-user.ts";
import { alice, bob } from "../processes/governed.ts";
import { eventually, openStream, request } from "../processes/http-client.ts";
import { createFakeMachine, type FakeMachine } from "./fake-machine.ts";
import { gistOf, json, leaseOf, limit, limits, rememberSettings } from "./holder.ts";
import { startOnSocket, type SocketDaemon } from "./socket-daemon.ts";
import { policyFile, startSubject, transports } from "./subject.ts";

const isRoot = process.geteuid?.() === 0;

let machine: FakeMachine;

beforeEach(() => {
  machine = createFakeMachine();
  rememberSettings(machine);
});

/** A daemon that others than its user may connect to. */
async function start(config: Partial<Config> = {}): Promise<SocketDaemon> {
  const daemon = await startOnSocket(machine, config);
  chmodSync(daemon.path, 0o666);
  return daemon;
}

/** What a process asks, by a line such as `POST /lease/acquire`. */
async function ask({ path }: Pick<SocketDaemon, "path">, by: User, line: string) {
  const [method = "", target = ""] = line.split(" ");
  const { status, headers, body } = await by.ask(path, { method, target });
  return { status, type: headers["content-type"], headers, body };
}

async function kill({ pid }: User): Promise<void> {
  process.kill(pid, "SIGKILL");
}

const leasesAt = async ({ path }: Pick<SocketDaemon, "path">): Promise<readonly { readonly lease: number }[]> =>
  (json(await request(path, "/lease/list")) as { readonly leases: readonly { readonly lease: number }[] }).leases;

describe.each(transports)("%s", (transport) => {
  it("a lease is acquired, written within by its id, shown, renewed and released", async () => {
    const zeusd = await startSubject(transport);
    rememberSettings(zeusd);
    const acquired = await zeusd.ask("POST /lease/acquire?gpu_ids=0&ttl_s=600&reason=test");
    const { lease_id, ...facts } = leaseOf(acquired);
    expect(acquired.type).toBe("application/json");
    expect(facts).toMatchObject({ lease: 1, gpu_ids: [0], exclusive: false, reason: "test" });
    const isLocal = transport === "over a Unix socket";
    expect(facts.holder).toEqual({
      uid: isLocal ? process.getuid?.() : null,
      pid: isLocal ? process.pid : null,
      program: isLocal ? expect.any(String) : null,
      sub: null,
    });
    expect(await zeusd.ask(limit(250_000, { more: `&lease_id=${lease_id}` }))).toMatchObject({ status: 200, body: "" });
    expect(json(await zeusd.ask("GET /lease/list"))).toMatchObject({
      leases: [{ ...facts, settings: { 0: { power_limit: { asked: { power_limit_mw: 250_000 }, wins: true } } } }],
    });
    expect(json(await zeusd.ask("GET /gpu/get_state?gpu_ids=0&include=supported"))).toMatchObject({
      gpus: { 0: { power_limit: { set: { power_limit_mw: 250_000 }, held_by: facts }, stale: null } },
    });
    const renewed = leaseOf(await zeusd.ask(`POST /lease/renew?lease_id=${lease_id}&ttl_s=700`));
    expect((renewed.expires_ms ?? 0) - (facts.expires_ms ?? 0)).toBeGreaterThanOrEqual(100_000);
    expect(json(await zeusd.ask(`POST /lease/release?lease_id=${lease_id}`))).toEqual({
      lease: 1,
      gpus: { 0: "restored" },
    });
    expect(limits(zeusd)).toEqual(["250000@0", "300000@0"]);
    expect(gistOf(await zeusd.ask(limit(1, { more: `&lease_id=${lease_id}` }))).slice(0, 2)).toEqual([
      409,
      "no_such_lease",
    ]);
  });

  it("an atomic write that fails is undone, and says so", async () => {
    const zeusd = await startSubject(transport, { lacks: ["setPowerLimit"] });
    rememberSettings(zeusd);
    const answer = await zeusd.ask(limit(250_000, { gpus: "0,1", more: "&atomic=true" }));
    expect([answer.status, json(answer)]).toEqual([
      400,
      {
        errors: { 0: "set_power_limit is not supported by GPU 0" },
        undone: { 1: "undone" },
        code: "not_supported",
      },
    ]);
    expect(limits(zeusd)).toEqual(["250000@1", "300000@1"]);
  });

  it("events are a stream", async () => {
    const zeusd = await startSubject(transport);
    const { status, type, body } = await zeusd.follow("GET /events", (text) => text !== "");
    expect([status, type, body]).toEqual([200, "text/event-stream", ":\n\n"]);
  });
});

it("over TCP a lease needs a time to live, and only its id or root ends it before", async () => {
  const zeusd = await startSubject("over TCP");
  const refused = gistOf(await zeusd.ask("POST /lease/acquire?exclusive=true"));
  expect([refused[0], refused[2]]).toEqual([
    400,
    "ttl_s is required, since over TCP nobody can tell when a client has ended; give 1 to 86400 s and renew the lease in time",
  ]);
  leaseOf(await zeusd.ask("POST /lease/acquire?exclusive=true&ttl_s=600"));
  expect(gistOf(await zeusd.ask(limit(1)))[2]).toMatch(/^GPU 0 is held by lease 1 of a client without identity since /);
  expect(gistOf(await zeusd.ask("POST /lease/release?lease=1&force=true"))).toEqual([
    403,
    "forbidden",
    "Lease 1 can be released by whoever has its id and by root on this machine only",
  ]);
});

describe("a process on the Unix socket", () => {
  it("holds its lease over all of its connections, and after them", async () => {
    const zeusd = await start();
    const client = await actAs(alice, "train");
    const lease = leaseOf(await ask(zeusd, client, "POST /lease/acquire?exclusive=true"));
    expect(lease.holder).toMatchObject({ uid: alice.uid, pid: client.pid });
    expect((await ask(zeusd, client, limit(250_000))).status).toBe(200);
    const other = await actAs(bob);
    const refused = gistOf(await ask(zeusd, other, limit(1)));
    expect(refused.slice(0, 2)).toEqual([423, "held"]);
    expect(refused[2]).toContain(`uid ${alice.uid}`);
    expect(refused[2]).toContain(`pid ${client.pid}`);
    // Its connection is the one that it keeps, and a stream's is another, which ends.
    const stream = await client.stream(zeusd.path, { target: "/events" });
    expect(stream.status).toBe(200);
    expect(await leasesAt(zeusd)).toMatchObject([{ lease: 1 }]);
    await kill(client);
    await eventually(() => limits(machine).length === 2);
    expect(limits(machine)).toEqual(["250000@0", "300000@0"]);
    expect((await ask(zeusd, other, limit(200_000))).status).toBe(200);
    expect(await leasesAt(zeusd)).toEqual([]);
  });

  it("lets those that descend from it write within its lease, and nobody else", async () => {
    const zeusd = await start();
    // The test's process has begun the clients.
    leaseOf({ ...(await request(zeusd.path, "/lease/acquire?exclusive=true", { method: "POST" })), type: undefined });
    const child = await actAs(alice);
    expect((await ask(zeusd, child, limit(250_000))).status).toBe(200);
    expect(await leasesAt(zeusd)).toMatchObject([{ lease: 1, settings: { 0: { power_limit: { wins: true } } } }]);
    await kill(child);
    expect(await leasesAt(zeusd)).toHaveLength(1);
  });

  it("without a lease is given one by its first write, where the daemon does that", async () => {
    const zeusd = await start({ restoreOnExit: true });
    const [client, other] = [await actAs(alice), await actAs(bob)];
    await ask(zeusd, client, limit(250_000));
    await ask(zeusd, client, limit(250_000, { gpus: "1" }));
    await ask(zeusd, other, limit(240_000));
    expect(await leasesAt(zeusd)).toMatchObject([
      { lease: 1, implicit: true, gpu_ids: [0, 1], holder: { uid: alice.uid, pid: client.pid } },
      { lease: 2, implicit: true, gpu_ids: [0], holder: { uid: bob.uid, pid: other.pid } },
    ]);
    await kill(client);
    await eventually(() => limits(machine).length === 4);
    expect(limits(machine).slice(3)).toEqual(["300000@1"]);
    await kill(other);
    await eventually(() => limits(machine).length === 5);
    expect(limits(machine).at(-1)).toBe("300000@0");
  });

  it("may release leases of its user, and no others'; root may with force", async () => {
    const zeusd = await start();
    const [client, same, other] = [await actAs(alice), await actAs(alice), await actAs(bob)];
    for (let count = 0; count < 2; count += 1) leaseOf(await ask(zeusd, client, "POST /lease/acquire"));
    expect((await ask(zeusd, same, "POST /lease/release?lease=1")).status).toBe(200);
    // Where the tests do not run as root, both are the same user.
    expect((await ask(zeusd, other, "POST /lease/release?lease=2&force=true")).status).toBe(isRoot ? 403 : 200);
    if (!isRoot) return;
    expect((await request(zeusd.path, "/lease/release?lease=2", { method: "POST" })).status).toBe(400);
    expect((await request(zeusd.path, "/lease/release?lease=2&force=true", { method: "POST" })).status).toBe(200);
    expect(await leasesAt(zeusd)).toEqual([]);
  });
});

describe("a stream of events", () => {
  it("counts as one of the streams that there may be", async () => {
    const { path } = await start({ maxStreams: 2 });
    const power = await openStream(path, "/gpu/stream_power?gpu_ids=0");
    const events = await openStream(path, "/events");
    expect([power.status, events.status]).toEqual([200, 200]);
    const third = await request(path, "/events");
    expect([third.status, json(third)]).toEqual([
      503,
      { error: "All 2 streams are taken; close one, or raise --max-streams.", code: "too_many_streams" },
    ]);
  });

  it("ends when the policy allows nothing of gpu-read any more, and goes on where it still allows something", async () => {
    const allowing = (allow: string): string =>
      `[[rule]]\nname = "all"\nanyone = true\nallow = ["gpu-control", "${allow}"]\n`;
    const { policyPath } = policyFile(allowing("gpu-read"));
    const { daemon, path } = await start({ policyPath });
    const stream = await openStream(path, "/events");
    await stream.received(3);
    writeFileSync(policyPath, allowing("get_power"));
    await daemon.reload();
    await request(path, "/lease/acquire?ttl_s=60", { method: "POST" });
    await eventually(() => stream.text().includes("event: lease_acquired"));
    writeFileSync(policyPath, allowing("cpu-read"));
    await daemon.reload();
    expect(await stream.end).toBe("complete");
  });

  it("ends when the daemon stops", async () => {
    const { daemon, path } = await start();
    const stream = await openStream(path, "/events");
    await daemon.drain(1_000);
    expect(await stream.end).toBe("complete");
  });
});

describe("a daemon that stops", () => {
  const acquire = async (zeusd: SocketDaemon): Promise<User> => {
    const client = await actAs(alice);
    leaseOf(await ask(zeusd, client, "POST /lease/acquire"));
    await ask(zeusd, client, limit(250_000, { gpus: "0,1" }));
    return client;
  };

  it("puts back what leases have changed, and says so", async () => {
    const zeusd = await start();
    await acquire(zeusd);
    await zeusd.daemon.drain(1_000);
    zeusd.daemon.finish();
    expect(limits(machine).slice(2).toSorted()).toEqual(["300000@0", "300000@1"]);
    expect(zeusd.logged.find((line) => line.includes("has ended"))).toMatch(/^info Lease 1 of uid .*: daemon stopped$/);
  });

  it("puts back what implicit leases have changed", async () => {
    const zeusd = await start({ restoreOnExit: true });
    const client = await actAs(alice);
    await ask(zeusd, client, limit(250_000));
    await zeusd.daemon.drain(1_000);
    expect(limits(machine)).toEqual(["250000@0", "300000@0"]);
  });

  it("finishes the writes that it has accepted first", async () => {
    const zeusd = await start();
    const client = await acquire(zeusd);
    const done = machine.hold("gpu 0", "setPowerLimit");
    const running = ask(zeusd, client, limit(240_000));
    await eventually(() => limits(machine).length === 3);
    const drained = zeusd.daemon.drain(1_000);
    done();
    expect((await running).status).toBe(200);
    await drained;
    expect(limits(machine).slice(2).toSorted()).toEqual(["240000@0", "300000@0", "300000@1"]);
  });

  it("says what it could not put back", async () => {
    const zeusd = await start();
    await acquire(zeusd);
    machine.answer("gpu 0", "setPowerLimit", new Error("no"));
    await zeusd.daemon.drain(1_000);
    expect(zeusd.logged).toContain(
      "warn What leases have changed on GPU 0 is not put back yet, which the next start does: no",
    );
    expect(limits(machine).filter((call) => call.endsWith("@1"))).toEqual(["250000@1", "300000@1"]);
  });

  it("puts back what it can though a GPU hangs", async () => {
    const zeusd = await start({ deviceTimeoutMs: 100 });
    const client = await acquire(zeusd);
    const done = machine.hold("gpu 0", "setPowerLimit");
    expect((await ask(zeusd, client, limit(240_000))).status).toBe(504);
    const drained = zeusd.daemon.drain(400);
    await eventually(() => limits(machine).includes("300000@1"));
    expect(limits(machine)).not.toContain("300000@0");
    done();
    await drained;
    expect(limits(machine).at(-1)).toBe("300000@0");
  });

  it("with --on-stop keep leaves them, and the next one goes on with them", async () => {
    const stateDir = createFolder();
    chmodSync(stateDir, 0o700);
    const config = { stateDir, onStop: "keep" } as const;
    const first = await start(config);
    const client = await acquire(first);
    await first.daemon.drain(1_000);
    first.daemon.finish();
    expect(limits(machine)).toHaveLength(2);
    const second = await start(config);
    expect(second.logged.find((line) => line.endsWith(" goes on"))).toContain(`pid ${client.pid}`);
    // The GPUs may have been reset meanwhile.
    await eventually(() => limits(machine).length === 4);
    expect(limits(machine).slice(2).toSorted()).toEqual(["250000@0", "250000@1"]);
    expect(await leasesAt(second)).toMatchObject([{ lease: 1, gpu_ids: [0, 1], holder: { pid: client.pid } }]);
    // No number is given away twice.
    expect(leaseOf(await ask(second, await actAs(alice), "POST /lease/acquire")).lease).toBe(2);
    await ask(second, client, "POST /lease/release?lease=1");
    expect(limits(machine).slice(4).toSorted()).toEqual(["300000@0", "300000@1"]);
  });
});
