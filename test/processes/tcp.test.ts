// TCP: which addresses are taken, and which only with tokens or on an explicit word.
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { createFolder } from "../folder.ts";
import { refusal, startZeusd } from "./zeusd.ts";

function words(address: string, ...more: readonly string[]): readonly string[] {
  return ["serve", "--sim", "2xh100", "--mode", "tcp", "--tcp-bind-address", address, ...more];
}

function createKey(): string {
  const path = join(createFolder(), "key");
  writeFileSync(path, "k".repeat(32), { mode: 0o600 });
  return path;
}

it("port 0 takes a free port, which it names, and it warns that nobody needs a token", async () => {
  const daemon = startZeusd(words("127.0.0.1:0"));
  expect(await daemon.listening()).toMatch(/^127\.0\.0\.1:[1-9]\d+$/);
  expect((await daemon.request("/time")).status).toBe(200);
  expect(daemon.stderr()).toMatch(/ WARN .*Running in TCP mode without authentication\./);
  daemon.signal("SIGTERM");
  expect(await daemon.exit).toEqual({ code: 0, signal: null });
});

it("takes localhost by its name, without a token", async () => {
  const daemon = startZeusd(words("localhost:0"));
  expect(await daemon.listening()).toMatch(/^(127\.0\.0\.1|\[::1\]):[1-9]\d+$/);
  expect((await daemon.request("/time")).status).toBe(200);
});

it("takes an IPv6 address in brackets, or says that this machine has none", async () => {
  if (await hasIpv6()) {
    const daemon = startZeusd(words("[::1]:0"));
    expect(await daemon.listening()).toMatch(/^\[::1\]:[1-9]\d+$/);
    expect((await daemon.request("/time")).status).toBe(200);
  } else {
    expect(await refusal(words("[::1]:0"))).toContain("[::1]:0");
  }
});

it("a port that is taken is refused", async () => {
  const first = startZeusd(words("127.0.0.1:0"));
  const address = await first.listening();
  const sentence = await refusal(words(address));
  expect(sentence).toContain("Address already in use (os error 98)");
  expect(sentence).toContain(address);
  expect((await first.request("/time")).status).toBe(200);
});

it("an address of another machine is refused", async () => {
  const sentence = await refusal(words("192.0.2.1:0", "--allow-unauthenticated-tcp"));
  expect(sentence).toContain("192.0.2.1:0");
  expect(sentence).toContain("(os error 99)");
});

it.each([
  ["nonsense", "invalid socket address"],
  ["127.0.0.1", "invalid socket address"],
  [":4938", "invalid socket address"],
  ["", "invalid socket address"],
  ["127.0.0.1:", "invalid port value"],
  ["127.0.0.1:65536", "invalid port value"],
  ["127.0.0.1:-1", "invalid port value"],
  ["127.0.0.1:http", "invalid port value"],
])("the address %j is refused: %s", async (address, text) => {
  expect(await refusal(words(address))).toContain(text);
});

it("a name that nobody knows is refused, and no number of an operating system's error is made up", async () => {
  const sentence = await refusal(words("zeusd.invalid:0"));
  expect(sentence).toContain("zeusd.invalid");
  expect(sentence).not.toMatch(/os error [1-9]\d{3}/);
});

it.each(["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])(
  "%s is refused without tokens, and the sentence names the flag that allows it",
  async (address) => {
    const sentence = await refusal(words(address));
    expect(sentence).toContain("--allow-unauthenticated-tcp");
    expect(sentence).toContain("--signing-key-path");
  },
);

it("an address that other machines can reach is taken without tokens on an explicit word, with a warning (13.2 #11)", async () => {
  const daemon = startZeusd(words("0.0.0.0:0", "--allow-unauthenticated-tcp"));
  expect(await daemon.listening()).toMatch(/^0\.0\.0\.0:[1-9]\d+$/);
  expect((await daemon.request("/gpu/get_power")).status).toBe(200);
  expect(daemon.stderr()).toMatch(/ WARN .*without authentication/);
});

it("an address that other machines can reach is taken with tokens, without a warning", async () => {
  const daemon = startZeusd(words("0.0.0.0:0", "--signing-key-path", createKey()));
  await daemon.listening();
  expect((await daemon.request("/gpu/get_power")).status).toBe(401);
  expect(daemon.stderr()).not.toContain("without authentication");
});

async function hasIpv6(): Promise<boolean> {
  const server = createServer();
  onTestFinished(() => void server.close());
  return new Promise((resolve) => {
    server.once("error", () => resolve(false));
    server.listen({ host: "::1", port: 0 }, () => resolve(true));
  });
}
