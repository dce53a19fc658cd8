// What the fuzz has found, each with the bytes that it comes down to.
import { describe, expect, it } from "vitest";
import { PolicyError, readPolicy } from "../../src/access/policy-file.ts";
import { openBare } from "../http/bare-connection.ts";
import { createFakeMachine } from "../http/fake-machine.ts";
import { startOnSocket } from "../http/socket-daemon.ts";

const nobody = { user: async () => undefined, group: async () => undefined };

describe("a policy file that is nested too deeply", () => {
  it.each([
    ["arrays", `x = ${"[".repeat(20_000)}${"]".repeat(20_000)}\n`],
    ["arrays without an end", `x = ${"[".repeat(20_000)}\n`],
    ["tables", `x = ${"{a=".repeat(5_000)}1${"}".repeat(5_000)}\n`],
  ])("in %s is refused with a line, like any other that is wrong", async (_, text) => {
    const error: unknown = await readPolicy(text, nobody).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(PolicyError);
    expect(error).toHaveProperty("problems", [expect.objectContaining({ line: expect.toBeOneOf([1, 2]) })]);
  });
});

it("a stream ends with its next event when its client has gone after a body that nobody reads", async () => {
  const machine = createFakeMachine();
  let power_mw = 0;
  machine.answer("gpu 0", "getPower", async () => ({ power_mw: (power_mw += 1) }));
  const { path } = await startOnSocket(machine, { maxStreams: 1 });
  const body = "x".repeat(100_000);
  const { socket, text, closed } = openBare(
    path,
    `GET /gpu/stream_power?gpu_ids=0 HTTP/1.1\r\n\r\nPOST /x HTTP/1.1\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
  await expect.poll(text).toContain("data: ");
  socket.destroy();
  await closed;
  await expect
    .poll(async () => {
      const again = openBare(path, "GET /gpu/stream_power?gpu_ids=0 HTTP/1.1\r\n\r\n");
      await expect.poll(again.text).toMatch(/^HTTP\/1\.1 \d{3} /);
      again.socket.destroy();
      return again.text().slice(0, 12);
    })
    .toBe("HTTP/1.1 200");
});
