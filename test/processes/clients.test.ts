// Clients that ask for more than there is room for, and clients that are killed in the middle.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, it, onTestFinished } from "vitest";
import { noticed, setter, start, write, writeTarget, written, type Write } from "./driven.ts";
import { eventually, statusOrCut } from "./http-client.ts";
import type { Zeusd } from "./zeusd.ts";

/** Well over what a test takes. */
const patient = ["--device-timeout-ms", "60000"];

const head = (what: Write): string => `POST ${writeTarget(what)} HTTP/1.1\r\nhost: localhost\r\n\r\n`;

interface Sent {
  readonly statuses: readonly number[];
  /** How many were told when to try again. */
  readonly retries: number;
}

/** Sends requests on one connection, many ahead of their replies. */
async function send(daemon: Zeusd, requests: readonly string[]): Promise<Sent> {
  const ahead = 60;
  const { socket, text } = await daemon.connect();
  const statuses: number[] = [];
  let [retries, read] = [0, 0];
  for (let first = 0; first < requests.length; first += ahead) {
    const batch = requests.slice(first, first + ahead);
    socket.write(batch.join(""));
    let replies: readonly string[] = [];
    await eventually(() => {
      replies =
        text()
          .slice(read)
          .match(/HTTP\/1\.1 \d{3} [^]*?\r\n\r\n/g) ?? [];
      return replies.length === batch.length;
    });
    read = text().length;
    for (const reply of replies) {
      statuses.push(Number(reply.slice("HTTP/1.1 ".length, "HTTP/1.1 ".length + 3)));
      if (/^retry-after: [1-9]\d*\r$/im.test(reply)) retries += 1;
    }
  }
  socket.destroy();
  return { statuses, retries };
}

it("of 10,000 writes at once 1,025 are accepted and the rest refused with 503; each accepted one is run, in order (13.2 #7)", async () => {
  const { daemon, driver } = await start({ args: patient });
  driver.fail(`${setter}@0=hang`);
  const limits = Array.from({ length: 10_000 }, (_, index) => 100_000 + index);
  const { statuses, retries } = await send(
    daemon,
    limits.map((mw) => head({ mw, block: false })),
  );
  const accepted = limits.filter((_, index) => statuses[index] === 200);
  expect(statuses.filter((status) => status !== 200)).toEqual(Array.from({ length: 8_975 }, () => 503));
  expect(retries).toBe(8_975);

  const several = await write(daemon, { ids: "0,1", mw: 300_000, block: false });
  expect([several.status, JSON.parse(several.body)]).toMatchObject([503, { code: "queue_full" }]);
  const waiting = await write(daemon, { ids: "0,1", mw: 310_000 });
  expect([waiting.status, JSON.parse(waiting.body)]).toMatchObject([503, { code: "queue_full", results: { 1: {} } }]);

  driver.fail();
  await driver.called(new RegExp(`^${setter} 0 `), 1 + accepted.length);
  expect((await write(daemon, { mw: 320_000 })).status).toBe(200);
  expect(accepted).toHaveLength(1_025);
  expect(written(driver)).toEqual(["310000@1", ...[...accepted, 320_000].map((mw) => `${mw}@0`)]);
});

it("while the driver is at work, as many of 10,000 writes are run as were accepted, in order (13.2 #7)", async () => {
  const { daemon, driver } = await start({ args: patient });
  driver.fail(`${setter}@0=delay:1`);
  const limits = Array.from({ length: 10_000 }, (_, index) => 100_000 + index);
  const { statuses } = await send(
    daemon,
    limits.map((mw) => head({ mw, block: false })),
  );
  driver.fail();
  const accepted = limits.filter((_, index) => statuses[index] === 200);
  expect(accepted.length).toBeGreaterThan(1_024);
  // The queue may still be full.
  await eventually(async () => (await write(daemon, { mw: 400_000 })).status === 200);
  expect(written(driver)).toEqual([...accepted, 400_000].map((mw) => `${mw}@0`));
});

/** A program of its own that sends these requests, and says when it has. */
function startClient(address: string, requests: string): { readonly sent: Promise<void>; kill(): Promise<void> } {
  const program = `
    const socket = require("node:net").connect(process.argv[1]);
    socket.write(process.argv[2], () => console.log("sent"));
    socket.resume();`;
  const child = spawn(process.execPath, ["-e", program, address, requests], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  return {
    sent: once(child.stdout, "data").then(() => {}),
    async kill() {
      const exit = once(child, "exit");
      child.kill("SIGKILL");
      await exit;
    },
  };
}

it("of a client that is killed, the write that runs is finished and the one that waits is dropped (13.2 #9)", async () => {
  const { daemon, driver, path } = await start({ args: patient });
  driver.fail(`${setter}@0=hang`);
  const client = startClient(path, head({ mw: 150_000 }) + head({ mw: 160_000 }));
  await client.sent;
  await driver.called(`${setter} 0 hangs`);
  const other = statusOrCut(write(daemon, { mw: 170_000 }));
  await noticed(daemon);
  await client.kill();
  await noticed(daemon);
  driver.fail();
  expect(await other).toBe(200);
  expect(written(driver)).toEqual(["150000@0", "170000@0"]);
  await daemon.logged("set_power_limit on GPU 0 failed: dropped, since its client had gone");
});
