// Clients that leave before they have their reply: what has not begun is not run for them, unless they still listen.
import { connect } from "node:net";
import { beforeEach, expect, it, onTestFinished } from "vitest";
import { openBare, type BareConnection } from "./bare-connection.ts";
import { createFakeMachine, type FakeMachine } from "./fake-machine.ts";
import { startOnSocket } from "./socket-daemon.ts";

let machine: FakeMachine;
let path: string;
let logged: readonly string[];

beforeEach(async () => {
  machine = createFakeMachine();
  ({ path, logged } = await startOnSocket(machine));
});

const write = (power_limit_mw: number, block = true): string =>
  `POST /gpu/set_power_limit?gpu_ids=0&power_limit_mw=${power_limit_mw}&block=${block} HTTP/1.1\r\n\r\n`;

const called = (power_limit_mw: number): string => `gpu 0 setPowerLimit {"power_limit_mw":${power_limit_mw}}`;

/** Settles when the daemon has taken in whatever was sent, or closed, before. */
async function noticed(): Promise<void> {
  for (let count = 0; count < 2; count += 1) {
    const { text, socket } = openBare(path, "GET /time HTTP/1.1\r\n\r\n");
    await expect.poll(text, { interval: 5 }).toMatch(/^HTTP\/1.1 200 /);
    socket.destroy();
  }
}

/** A write that the driver is at until the result is called. */
async function occupy(): Promise<{ readonly client: BareConnection; readonly release: () => void }> {
  const release = machine.hold("gpu 0", "setPowerLimit");
  const client = openBare(path, write(1));
  await expect.poll(() => machine.calls.length, { interval: 5 }).toBe(1);
  return { client, release };
}

it("a command that waits is dropped when its client has gone, and the log says so (13.2 #9)", async () => {
  const { client, release } = await occupy();
  const gone = openBare(path, write(2));
  const staying = openBare(path, write(3));
  await noticed();
  gone.socket.destroy();
  await noticed();
  release();
  await expect.poll(staying.text).toMatch(/^HTTP\/1.1 200 /);
  expect(client.text()).toMatch(/^HTTP\/1.1 200 /);
  expect(machine.calls).toEqual([called(1), called(3)]);
  expect(logged).toContain("warn set_power_limit on GPU 0 failed: dropped, since its client had gone");
});

it("a command that runs is finished though its client has gone, and the next is run (13.2 #9)", async () => {
  const { client, release } = await occupy();
  const staying = openBare(path, write(2));
  await noticed();
  client.socket.destroy();
  await noticed();
  release();
  await expect.poll(staying.text).toMatch(/^HTTP\/1.1 200 /);
  expect(machine.calls).toEqual([called(1), called(2)]);
});

it("a command that does not block is run though its client has gone", async () => {
  const { release } = await occupy();
  const gone = openBare(path, write(2, false));
  await expect.poll(gone.text).toMatch(/^HTTP\/1.1 200 /);
  gone.socket.destroy();
  await noticed();
  release();
  await expect.poll(() => machine.calls).toEqual([called(1), called(2)]);
});

it("all that one client has sent ahead is dropped with it", async () => {
  const { client, release } = await occupy();
  client.socket.write(write(2) + write(3));
  const staying = openBare(path, write(4));
  await noticed();
  client.socket.destroy();
  await noticed();
  release();
  await expect.poll(staying.text).toMatch(/^HTTP\/1.1 200 /);
  expect(machine.calls).toEqual([called(1), called(4)]);
});

it("a client that ends its own side counts as gone: on the wire it looks the same (13.2 #9)", async () => {
  const { release } = await occupy();
  const half = connect({ path, allowHalfOpen: true });
  onTestFinished(() => void half.destroy());
  const closed = new Promise<void>((resolve) => half.once("end", () => resolve()));
  half.resume().end(write(2));
  await closed;
  const staying = openBare(path, write(3));
  await noticed();
  release();
  await expect.poll(staying.text).toMatch(/^HTTP\/1.1 200 /);
  expect(machine.calls).toEqual([called(1), called(3)]);
});

it("a client that ends its side first, and goes away then, has its command dropped (13.2 #9)", async () => {
  const { release } = await occupy();
  const half = connect({ path, allowHalfOpen: true });
  half.end(write(2));
  await noticed();
  half.destroy();
  await noticed();
  const staying = openBare(path, write(3));
  await noticed();
  release();
  await expect.poll(staying.text).toMatch(/^HTTP\/1.1 200 /);
  expect(machine.calls).toEqual([called(1), called(3)]);
});
