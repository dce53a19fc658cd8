// Who holds a lease: a process, whatever becomes of its connections, and for as long as it lives those that descend from it.
import { describe, expect, it } from "vitest";
import { alice, bob, codeOf } from "./governed.ts";
import { eventually } from "./http-client.ts";
import type { LeaseClient } from "./lease-clients.ts";
import {
  base,
  createLeaseRig,
  limit,
  limitTarget,
  mostMs,
  whenSet,
  type LeaseRig,
  type LeaseRigOptions,
} from "./lease-rig.ts";

async function startRig(options: LeaseRigOptions = {}): Promise<LeaseRig> {
  const rig = await createLeaseRig(options);
  await rig.start();
  return rig;
}

async function acquire(client: LeaseClient, more = ""): Promise<{ readonly lease: number; readonly lease_id: string }> {
  const { status, body } = await client.post(`/lease/acquire?reason=test${more}`);
  expect([status, body]).toEqual([200, expect.anything()]);
  return JSON.parse(body) as { lease: number; lease_id: string };
}

async function statusOf(answer: Promise<{ readonly status: number }>): Promise<number> {
  return (await answer).status;
}

async function expectSoon(rig: LeaseRig, gpu: number, wanted: Readonly<Record<string, string>>): Promise<void> {
  expect(await whenSet(rig, gpu, wanted)).toBeLessThan(mostMs);
}

describe.each([
  ["a lease that it asked for", [], async (client: LeaseClient) => void (await acquire(client))],
  ["an implicit lease", ["--restore-on-exit"], async () => {}],
] as const)("%s", (_, args, begin) => {
  it("ends with its process, however many connections that opened and closed", async () => {
    const rig = await startRig({ args });
    const client = await rig.clients.start(alice);
    await client.connect(20);
    await begin(client);
    expect(await statusOf(client.post(limitTarget(0, 200_000)))).toBe(200);
    await client.connect(50);
    expect(await statusOf(client.postAlone(limitTarget(1, 210_000)))).toBe(200);
    await client.disconnect();
    await client.connect(1);
    expect(rig.driver.gpus()).toMatchObject([limit(200_000), limit(210_000)]);
    await client.kill();
    await expectSoon(rig, 0, base);
    await expectSoon(rig, 1, base);
    await eventually(async () => (await rig.leases()).length === 0);
  });

  it("ends with its process when that has many connections open", async () => {
    const rig = await startRig({ args });
    const client = await rig.clients.start(alice);
    await begin(client);
    for (let time = 0; time < 20; time += 1) await client.send(limitTarget(0, 200_000 + 1000 * time));
    await whenSet(rig, 0, limit(219_000));
    await client.kill();
    await expectSoon(rig, 0, base);
  });

  it("goes on when all connections are closed", async () => {
    const rig = await startRig({ args });
    const client = await rig.clients.start(alice);
    await begin(client);
    expect(await statusOf(client.post(limitTarget(0, 200_000)))).toBe(200);
    const before = await rig.leases();
    await client.disconnect();
    // What the daemon has taken in by now includes that.
    for (let time = 0; time < 5; time += 1) await rig.get("/time");
    expect(rig.driver.gpus()[0]).toMatchObject(limit(200_000));
    expect(await statusOf(client.post(limitTarget(0, 210_000)))).toBe(200);
    const after = await rig.leases();
    expect(after.map(({ lease }) => lease)).toEqual(before.map(({ lease }) => lease));
    await client.kill();
    await expectSoon(rig, 0, base);
  });

  it("keeps nothing of what its process had sent, and nobody had read yet, when that was killed", async () => {
    const rig = await startRig({ args });
    const client = await rig.clients.start(alice);
    await begin(client);
    expect(await statusOf(client.post(limitTarget(1, 200_000)))).toBe(200);
    process.kill(rig.daemon().pid, "SIGSTOP");
    await client.send(limitTarget(0, 220_000));
    await client.kill();
    process.kill(rig.daemon().pid, "SIGCONT");
    await expectSoon(rig, 1, base);
    for (let time = 0; time < 5; time += 1) await rig.get("/time");
    await expectSoon(rig, 0, base);
  });
});

describe("of an exclusive lease", () => {
  it("descendants of its process, and nobody else, write within it; it ends with that process and not with them", async () => {
    const rig = await startRig();
    const holder = await rig.clients.start(alice);
    const { lease } = await acquire(holder, "&exclusive=true");
    const child = await holder.fork();
    const grandchild = await child.fork();
    const stranger = await rig.clients.start(bob);
    expect(await statusOf(child.post(limitTarget(0, 200_000)))).toBe(200);
    expect(await statusOf(grandchild.post(limitTarget(1, 210_000)))).toBe(200);
    const refused = await stranger.post(limitTarget(0, 250_000));
    expect([refused.status, codeOf(refused)]).toEqual([423, "held"]);
    expect(refused.body).toContain(`lease ${lease}`);
    expect(refused.body).toContain(String(holder.pid));
    expect(await rig.leases()).toMatchObject([{ lease, settings: { 0: {}, 1: {} } }]);

    await grandchild.kill();
    for (let time = 0; time < 5; time += 1) await rig.get("/time");
    expect(rig.driver.gpus()).toMatchObject([limit(200_000), limit(210_000)]);
    expect(await statusOf(child.post(limitTarget(0, 220_000)))).toBe(200);

    await holder.kill();
    await expectSoon(rig, 0, base);
    await expectSoon(rig, 1, base);
    expect(await rig.leases()).toEqual([]);
    // What the child writes now belongs to nobody, and stays.
    expect(await statusOf(child.post(limitTarget(0, 230_000)))).toBe(200);
    await child.kill();
    expect(await statusOf(stranger.post(limitTarget(1, 250_000)))).toBe(200);
    expect(rig.driver.gpus()).toMatchObject([limit(230_000), limit(250_000)]);
  });

  it("a child whose parent between them has ended still reads, but does not write within it any more", async () => {
    const rig = await startRig();
    const holder = await rig.clients.start(alice);
    await acquire(holder, "&exclusive=true");
    const child = await holder.fork();
    const grandchild = await child.fork();
    await child.kill();
    const refused = await grandchild.post(limitTarget(0, 200_000));
    expect([refused.status, codeOf(refused)]).toEqual([423, "held"]);
    expect(await statusOf(grandchild.get("/gpu/get_power_limit"))).toBe(200);
    expect(await statusOf(holder.post(limitTarget(0, 210_000)))).toBe(200);
  });
});

it("what a child writes with implicit leases on is its own, and ends with it", async () => {
  const rig = await startRig({ args: ["--restore-on-exit"] });
  const parent = await rig.clients.start(alice);
  const child = await parent.fork();
  expect(await statusOf(parent.post(limitTarget(0, 200_000)))).toBe(200);
  expect(await statusOf(child.post(limitTarget(0, 210_000)))).toBe(200);
  await child.kill();
  await expectSoon(rig, 0, limit(200_000));
  await parent.kill();
  await expectSoon(rig, 0, base);
});

it("a lease of several that hold the same setting shows the newest that lives, in whichever order they end", async () => {
  const rig = await startRig();
  const clients = await Promise.all([alice, bob, alice].map((who) => rig.clients.start(who)));
  const [first, second, third] = clients as [LeaseClient, LeaseClient, LeaseClient];
  for (const [index, client] of clients.entries()) {
    await acquire(client);
    expect(await statusOf(client.post(limitTarget(0, 200_000 + 1000 * index)))).toBe(200);
  }
  await second.kill();
  for (let time = 0; time < 5; time += 1) await rig.get("/time");
  expect(rig.driver.gpus()[0]).toMatchObject(limit(202_000));
  await third.kill();
  await expectSoon(rig, 0, limit(200_000));
  await first.kill();
  await expectSoon(rig, 0, base);
});
