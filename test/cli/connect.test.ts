// Where a daemon is that somebody asks, and what is said if it is not there.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { connect } from "../../src/client/connect.ts";
import { createFolder } from "../folder.ts";
import { startFakeDaemon } from "./fake-daemon.ts";

const sockets = ["/nowhere/first.sock", "/nowhere/second.sock"];

describe("the daemon that is asked", () => {
  it.each([
    [{}, {}, "/nowhere/first.sock"],
    [{}, { ZEUSD_SOCK_PATH: "/a" }, "/a"],
    [{}, { ZEUSD_HOST_PORT: "node7:1" }, "node7:1"],
    [{}, { ZEUSD_SOCK_PATH: "/a", ZEUSD_HOST_PORT: "node7:1" }, "/a"],
    [{}, { ZEUSD_SOCK_PATH: "", ZEUSD_HOST_PORT: "" }, "/nowhere/first.sock"],
    [{ socketPath: "/b" }, { ZEUSD_SOCK_PATH: "/a", ZEUSD_HOST_PORT: "node7:1" }, "/b"],
    [{ hostPort: "[::1]:80" }, { ZEUSD_SOCK_PATH: "/a" }, "[::1]:80"],
    [{ hostPort: "10.0.0.1:65535" }, {}, "10.0.0.1:65535"],
  ])("by flags %j and environment %j is %s", (where, env, name) => {
    expect(connect(where, env, sockets).name).toBe(name);
  });

  it("by default is where a socket is", () => {
    const path = join(createFolder(), "zeusd.sock");
    writeFileSync(path, "");
    expect(connect({}, {}, ["/nowhere/first.sock", path]).name).toBe(path);
  });

  it.each([
    "",
    "node7",
    "node7:",
    ":4938",
    "node7:0",
    "node7:65536",
    "node7:http",
    "::1:80",
    "[::1]",
    "http://node7:1",
  ])("is not %j, which is no host:port", (hostPort) => {
    expect(() => connect({ hostPort }, {}, sockets)).toThrow(/^--host-port must be host:port/);
    if (hostPort !== "")
      expect(() => connect({}, { ZEUSD_HOST_PORT: hostPort }, sockets)).toThrow(/^ZEUSD_HOST_PORT must/);
  });
});

describe.each(["unix", "tcp"] as const)("over %s", (over) => {
  const where = (address: string) => (over === "unix" ? { socketPath: address } : { hostPort: address });

  it("asks, with the token of ZEUSD_TOKEN", async () => {
    const fake = await startFakeDaemon(() => ({ status: 418, body: "héllo" }), over);
    expect(await connect(where(fake.address), { ZEUSD_TOKEN: "abc" }, []).ask("POST", "/x?a=1")).toEqual({
      status: 418,
      body: "héllo",
    });
    await connect(where(fake.address), {}, []).ask("POST", "/y");
    expect(fake.asked).toEqual([
      { path: "/x", query: { a: "1" }, authorization: "Bearer abc" },
      { path: "/y", query: {}, authorization: undefined },
    ]);
  });

  it("says that a token is wanted, or is not the right one", async () => {
    const fake = await startFakeDaemon(() => ({ status: 401, body: '{"error":"no"}' }), over);
    await expect(connect(where(fake.address), {}, []).ask("POST", "/x")).rejects.toThrow(
      `The daemon at '${fake.address}' wants a token; give one in ZEUSD_TOKEN`,
    );
    await expect(connect(where(fake.address), { ZEUSD_TOKEN: "abc" }, []).ask("POST", "/x")).rejects.toThrow(
      /does not take the token of ZEUSD_TOKEN/,
    );
  });

  it("says that nobody listens, and what to do", async () => {
    const fake = await startFakeDaemon(undefined, over);
    await fake.stop();
    await expect(connect(where(fake.address), {}, []).ask("POST", "/x")).rejects.toThrow(
      over === "unix"
        ? /^There is no socket '.*': is zeusd running\?/
        : /^Nobody listens at '.*': is zeusd running\?.*--host-port/,
    );
  });

  it("says that there is no answer in time", async () => {
    const fake = await startFakeDaemon(() => new Promise(() => {}), over);
    await expect(connect(where(fake.address), {}, []).ask("POST", "/x", 20)).rejects.toThrow(
      `Cannot ask the daemon at '${fake.address}': no answer within 0.02 s`,
    );
  });
});

it("says that a stale socket has nobody behind it", async () => {
  const path = join(createFolder(), "zeusd.sock");
  writeFileSync(path, "");
  await expect(connect({ socketPath: path }, {}, []).ask("GET", "/x")).rejects.toThrow(/^Nobody listens at/);
});
