// The system journal's socket, against a receiver of datagrams in its place.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readdirSync, readlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, it, onTestFinished } from "vitest";
import { type JournalSocket, openJournal } from "../../src/native/journal.ts";
import { createFolder } from "../folder.ts";

/** Says with a line that it listens, then prints each datagram as hexadecimal digits; none as long as it is not to read. */
const receiverScript = `
import socket, sys, time
path, reads = sys.argv[1:]
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(path)
print("listens", flush=True)
while reads == "reads":
    print(receiver.recv(1 << 20).hex(), flush=True)
time.sleep(60)
`;

interface Receiver {
  /** The next datagram. */
  next(): Promise<Buffer>;
  /** Ends it and removes its socket, as systemd does. */
  stop(): Promise<void>;
}

async function startReceiver(path: string, reads = true): Promise<Receiver> {
  const stdio = ["ignore", "pipe", "inherit"] as const;
  const child = spawn("python3", ["-c", receiverScript, path, reads ? "reads" : "sleeps"], { stdio: [...stdio] });
  const ended = once(child, "exit");
  onTestFinished(() => void child.kill("SIGKILL"));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  await lines.next();
  return {
    async next() {
      const { value } = await lines.next();
      return Buffer.from(String(value), "hex");
    },
    async stop() {
      child.kill("SIGKILL");
      await ended;
      unlinkSync(path);
    },
  };
}

function createPath(): string {
  return join(createFolder(), "socket");
}

function open(path: string): JournalSocket {
  const journal = openJournal(path);
  onTestFinished(() => journal.close());
  return journal;
}

/** A value with a line break, as the protocol has it. */
function long(name: string, value: string): Buffer {
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(Buffer.byteLength(value)));
  return Buffer.concat([Buffer.from(`${name}\n`), size, Buffer.from(`${value}\n`)]);
}

function sockets(): readonly string[] {
  return readdirSync("/proc/self/fd").filter((name) => {
    try {
      return readlinkSync(`/proc/self/fd/${name}`).startsWith("socket:");
    } catch {
      return false;
    }
  });
}

it("sends an entry's fields in order", async () => {
  const path = createPath();
  const receiver = await startReceiver(path);
  open(path).send({ SYSLOG_IDENTIFIER: "zeusd-audit", MESSAGE: "a=b c", PRIORITY: "6", ZEUSD_GPU_0: "" });
  expect(String(await receiver.next())).toBe(
    "SYSLOG_IDENTIFIER=zeusd-audit\nMESSAGE=a=b c\nPRIORITY=6\nZEUSD_GPU_0=\n",
  );
});

it.each(["two\nlines", "\n", "a\n\n", "Grüße\nан 任务\n", "MESSAGE=forged\nPRIORITY=0"])(
  "gives the size of a value with line breaks, in bytes: %j",
  async (value) => {
    const path = createPath();
    const receiver = await startReceiver(path);
    open(path).send({ BEFORE: "ü", MESSAGE: value, AFTER: "任务" });
    const expected = [Buffer.from("BEFORE=ü\n"), long("MESSAGE", value), Buffer.from("AFTER=任务\n")];
    expect(await receiver.next()).toEqual(Buffer.concat(expected));
  },
);

it("keeps the borders between entries", async () => {
  const path = createPath();
  const receiver = await startReceiver(path);
  const journal = open(path);
  for (const MESSAGE of ["one", "two", "three"]) {
    journal.send({ MESSAGE });
    expect(String(await receiver.next())).toBe(`MESSAGE=${MESSAGE}\n`);
  }
});

it.each(["message", "_PID", "1ST", "", "A B", "A=B", "A\nB", "Ü", "A".repeat(65)])(
  "refuses the field %j, and sends nothing",
  async (name) => {
    const path = createPath();
    const receiver = await startReceiver(path);
    const journal = open(path);
    expect(() => journal.send({ MESSAGE: "forged", [name]: "x" })).toThrow("The journal takes no field");
    journal.send({ MESSAGE: "next" });
    expect(String(await receiver.next())).toBe("MESSAGE=next\n");
  },
);

it("finds a receiver that was started anew", async () => {
  const path = createPath();
  let receiver = await startReceiver(path);
  const journal = open(path);
  for (const MESSAGE of ["one", "two", "three"]) {
    journal.send({ MESSAGE });
    expect(String(await receiver.next())).toBe(`MESSAGE=${MESSAGE}\n`);
    await receiver.stop();
    receiver = await startReceiver(path);
  }
});

it("says that the receiver is gone, and finds it when it is back", async () => {
  const path = createPath();
  const receiver = await startReceiver(path);
  const journal = open(path);
  await receiver.stop();
  for (let attempt = 0; attempt < 3; attempt += 1) {
    expect(() => journal.send({ MESSAGE: "lost" })).toThrow(
      expect.objectContaining({ code: "ENOENT", message: `ENOENT: no such file or directory, connect '${path}'` }),
    );
  }
  const back = await startReceiver(path);
  journal.send({ MESSAGE: "found" });
  expect(String(await back.next())).toBe("MESSAGE=found\n");
});

it("says at once that a receiver does not keep up", async () => {
  const path = createPath();
  await startReceiver(path, false);
  const journal = open(path);
  const began = performance.now();
  expect(() => {
    for (let count = 0; count < 100_000; count += 1) journal.send({ MESSAGE: "x".repeat(1000) });
  }).toThrow(expect.objectContaining({ code: "EAGAIN", errno: -11 }));
  for (let count = 0; count < 100; count += 1) expect(() => journal.send({ MESSAGE: "x" })).toThrow("EAGAIN");
  expect(performance.now() - began).toBeLessThan(2000);
});

it("says that an entry is too long, and goes on", async () => {
  const path = createPath();
  const receiver = await startReceiver(path);
  const journal = open(path);
  expect(() => journal.send({ MESSAGE: "x".repeat(10_000_000) })).toThrow(
    expect.objectContaining({ code: "EMSGSIZE" }),
  );
  journal.send({ MESSAGE: "y".repeat(100_000) });
  expect(await receiver.next()).toHaveLength(100_009);
});

it("fails at the start where nothing receives, and leaves no descriptor open", async () => {
  const path = createPath();
  const before = sockets();
  expect(() => openJournal(path)).toThrow(expect.objectContaining({ code: "ENOENT" }));
  writeFileSync(path, "");
  expect(() => openJournal(path)).toThrow(expect.objectContaining({ code: "ECONNREFUSED" }));
  expect(() => openJournal("")).toThrow("has to have 1 to 107 bytes");
  expect(() => openJournal(`${path}\0x`)).toThrow("no NUL");
  expect(sockets()).toEqual(before);
});

it("takes a path of 107 bytes, and no longer one, which would be cut to another's", async () => {
  const folder = createFolder();
  const path = join(folder, "s".repeat(107 - folder.length - 1));
  const receiver = await startReceiver(path);
  open(path).send({ MESSAGE: "there" });
  expect(String(await receiver.next())).toBe("MESSAGE=there\n");
  expect(() => openJournal(`${path}s`)).toThrow("has to have 1 to 107 bytes");
  expect(() => openJournal(`/${"ü".repeat(54)}`)).toThrow("has to have 1 to 107 bytes");
});

it("closes its descriptor once, and lets no child have it", async () => {
  const path = createPath();
  await startReceiver(path);
  const before = sockets();
  const journal = openJournal(path);
  const name = sockets().find((socket) => !before.includes(socket)) ?? "none";
  const [, flags = ""] = readFileSync(`/proc/self/fdinfo/${name}`, "utf8").match(/^flags:\s+(\d+)$/m) ?? [];
  expect(Number.parseInt(flags, 8) & 0o2_000_000).not.toBe(0);
  journal.close();
  expect(sockets()).toEqual(before);
  const other = open(path);
  journal.close();
  other.send({ MESSAGE: "still open" });
  expect(() => journal.send({ MESSAGE: "closed" })).toThrow("The journal's socket is closed");
});
