// Bodies that are large, slow or many: they hold up nobody else, and what they take is free again afterwards.
import { beforeEach, expect, it } from "vitest";
import { openBare, type BareConnection } from "./bare-connection.ts";
import { createFakeMachine, type FakeMachine } from "./fake-machine.ts";
import { startOnSocket } from "./socket-daemon.ts";

let machine: FakeMachine;
let path: string;

beforeEach(async () => {
  machine = createFakeMachine();
  ({ path } = await startOnSocket(machine));
});

const large = 2_000_000;
const body = '{"power_limit_mw":1,"block":true}';

const head = (length: number): string =>
  `POST /gpu/0/set_power_limit HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n`;

/** A write whose body is this long. */
const whole = (length: number): string => head(length) + body.padEnd(length);

const status = ({ text }: BareConnection): string | undefined => /^HTTP\/1\.1 (\d{3})/.exec(text())?.[1];

it("may take 64 MB together while they arrive; more are refused with 503, and there is room again afterwards", async () => {
  const clients = Array.from({ length: 40 }, () => openBare(path, whole(large).slice(0, 1_700_000)));
  await expect.poll(() => clients.filter((client) => status(client) === "503").length).toBeGreaterThan(0);
  const refused = clients.filter((client) => status(client) === "503");
  for (const { text } of refused) {
    expect(text()).toMatch(
      /retry-after: 1\r\n[^]*Too many large bodies are being sent at the same time; try again later\.$/,
    );
  }
  // The rest of what they send means nothing.
  await Promise.all(refused.map(({ closed }) => closed));
  const staying = clients.filter((client) => status(client) === undefined);
  expect(staying.length).toBeGreaterThan(20);
  expect(machine.calls).toEqual([]);
  for (const { socket } of staying) socket.destroy();
  await Promise.all(staying.map(({ closed }) => closed));

  const later = Array.from({ length: 25 }, () => openBare(path, whole(large)));
  for (const client of later) await expect.poll(() => status(client), { timeout: 10_000 }).toBe("200");
});

it("leave room for others while they are sent: a small one is taken", async () => {
  const clients = Array.from({ length: 30 }, () => openBare(path, whole(large).slice(0, 1_700_000)));
  const small = openBare(path, whole(body.length));
  await expect.poll(() => status(small)).toBe("200");
  expect(clients.map((client) => status(client))).toEqual(clients.map(() => undefined));
});

it.each([1, 7, 32])("may come in pieces of %i bytes", async (size) => {
  const client = openBare(path, head(body.length));
  for (let at = 0; at < body.length; at += size) {
    await new Promise((resolve) => client.socket.write(body.slice(at, at + size), resolve));
  }
  await expect.poll(() => status(client)).toBe("200");
  expect(machine.calls).toEqual(['gpu 0 setPowerLimit {"power_limit_mw":1}']);
});

it("may come in chunks of unknown number", async () => {
  const chunks = [...body].map((character) => `1\r\n${character}\r\n`).join("");
  const chunked = head(0).replace("content-length: 0", "transfer-encoding: chunked");
  const client = openBare(path, `${chunked}${chunks}0\r\n\r\n`);
  await expect.poll(() => status(client)).toBe("200");
  expect(machine.calls).toEqual(['gpu 0 setPowerLimit {"power_limit_mw":1}']);
});
