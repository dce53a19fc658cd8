// Writes that one client sends ahead of its replies: they are run in the order in which it sent them.
import { describe, expect, it } from "vitest";
import { openBare } from "./bare-connection.ts";
import { createFakeMachine } from "./fake-machine.ts";
import { startOnSocket } from "./socket-daemon.ts";
import { bearer, keyFile } from "./subject.ts";

const { authorization } = bearer({ sub: "a", scopes: ["gpu-control"] });

async function startWithKey(): Promise<{ readonly path: string; readonly calls: readonly string[] }> {
  const machine = createFakeMachine();
  const { path } = await startOnSocket(machine, keyFile());
  return { path, calls: machine.calls };
}

const wires = {
  query: (mw: number, block: boolean) =>
    `POST /gpu/set_power_limit?gpu_ids=0&power_limit_mw=${mw}&block=${block} HTTP/1.1\r\nauthorization: ${authorization}\r\n\r\n`,
  JSON: (mw: number, block: boolean) => {
    const body = JSON.stringify({ power_limit_mw: mw, block });
    const type = `content-type: application/json\r\ncontent-length: ${body.length}`;
    return `POST /gpu/0/set_power_limit HTTP/1.1\r\nauthorization: ${authorization}\r\n${type}\r\n\r\n${body}`;
  },
} as const;

describe.each(Object.entries(wires))("on the %s wire", (_, request) => {
  const limits = Array.from({ length: 30 }, (_unused, index) => 1_000 + index);
  const called = limits.map((mw) => `gpu 0 setPowerLimit {"power_limit_mw":${mw}}`);

  it.each([
    ["all at once, with a token that nobody has seen", 1_000_000],
    ["in pieces that end anywhere", 97],
  ])("writes sent ahead, %s, are run in order, whether they wait or not", async (_how, size) => {
    const { path, calls } = await startWithKey();
    const bytes = limits.map((mw) => request(mw, mw % 3 === 0)).join("");
    const client = openBare(path, "");
    for (let at = 0; at < bytes.length; at += size) {
      await new Promise((resolve) => client.socket.write(bytes.slice(at, at + size), resolve));
    }
    await expect.poll(() => client.text().match(/HTTP\/1\.1 200/g)?.length).toBe(limits.length);
    await expect.poll(() => calls.length).toBe(limits.length);
    expect(calls).toEqual(called);
  });
});
