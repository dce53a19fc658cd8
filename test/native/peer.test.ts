// Who connected to a Unix socket: real sockets, and clients that are processes of other users, groups and pid namespaces.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, closeSync, fstatSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { type Server, type Socket, connect, createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, expect, it, onTestFinished } from "vitest";
import { type Peer, createPeerReader } from "../../src/native/peer.ts";
import { createFolder } from "../folder.ts";
import { lineageNow, pidfdsOfThisProcess, startedOf } from "./processes.ts";

interface Identity {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

const own: Identity = {
  uid: process.geteuid?.() ?? -1,
  gid: process.getegid?.() ?? -1,
  groups: process.getgroups?.() ?? [],
};
const isRoot = own.uid === 0;

/** What a test may be: root anybody, everybody else only themselves. */
function anyOf(identity: Identity): Identity {
  return isRoot ? identity : own;
}

const trainer = anyOf({ uid: 12_345, gid: 23_456, groups: [34_567, 45_678, 23_456] });
const other = anyOf({ uid: 12_346, gid: 23_456, groups: [] });

/** Arguments that start a command in a pid namespace of its own; none where this user may not make one. */
const unshare = ["unshare", ...(isRoot ? [] : ["--user", "--map-root-user"]), "--pid", "--fork", "--kill-child"];
const mayUnshare = spawnSync("unshare", [...unshare.slice(1), "--mount-proc", "true"]).status === 0;

/** Connects as somebody, says so with a line, and stays until its standard input ends; on the way it takes orders. */
const clientScript = `
  const fs = require("node:fs");
  const { path, uid, gid, groups, comm, conduct } = JSON.parse(fs.readFileSync(process.argv[1], "utf8"));
  const { spawn } = require("node:child_process");
  if (comm) fs.writeFileSync("/proc/self/comm", comm);
  if (groups) {
    const only = conduct === "borrowed" ? "e" : "";
    process.setgroups(groups); process[\`set\${only}gid\`](gid); process[\`set\${only}uid\`](uid);
  }
  const socket = require("node:net").connect(path, () => {
    if (conduct !== "heir") return console.log(process.pid);
    const stdio = ["ignore", "ignore", "ignore", socket._handle.fd];
    console.log(process.pid, spawn("sleep", ["60"], { stdio, detached: true }).pid);
    process.exit();
  });
  process.stdin.resume();
  process.stdin.on("end", () => process.exit());
  require("node:readline").createInterface({ input: process.stdin }).on("line", (order) => {
    if (order === "hang up") socket.destroy();
    else if (order.startsWith('"')) fs.writeFileSync("/proc/self/comm", JSON.parse(order));
    else fs.writeFileSync("/proc/self/comm", order);
    console.log("done");
  });
`;

interface ClientOptions {
  readonly identity?: Identity;
  readonly comm?: string;
  readonly wrapper?: readonly string[];
  /** "heir" hands the connection to a child, and ends; "borrowed" acts under its ids, but stays who it was. */
  readonly conduct?: "heir" | "borrowed";
}

interface Client {
  /** As it sees itself. */
  readonly pid: number;
  /** The listener's end. */
  readonly descriptor: number;
  /** When the process that the test started has ended: the client itself, or its wrapper. */
  readonly ended: Promise<unknown>;
  /** "hang up", or a name to call itself, as it is or as JSON. */
  obey(order: string): Promise<void>;
  /** Ends it, and waits until it is gone. */
  end(): Promise<void>;
}

async function createListener(): Promise<{ server: Server; path: string }> {
  const path = join(createFolder(), "socket");
  const server = createServer({ pauseOnConnect: true });
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => sockets.add(socket.on("error", () => {})));
  server.listen(path);
  await once(server, "listening");
  chmodSync(path, 0o777);
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { server, path };
}

function descriptorOf(holder: object): number {
  const handle: unknown = Reflect.get(holder, "_handle");
  const descriptor: unknown = typeof handle === "object" && handle !== null ? Reflect.get(handle, "fd") : undefined;
  if (typeof descriptor !== "number") throw new Error("this socket has no descriptor");
  return descriptor;
}

async function accept(server: Server): Promise<number> {
  const [socket]: unknown[] = await once(server, "connection");
  if (typeof socket !== "object" || socket === null) throw new Error("no connection");
  return descriptorOf(socket);
}

async function startClient(options: ClientOptions = {}): Promise<Client> {
  const { identity, comm, wrapper = [], conduct } = options;
  const { server, path } = await createListener();
  const person = isRoot ? identity : undefined;
  // Not as an argument: 65,536 groups do not fit one.
  const about = `${path}.json`;
  writeFileSync(about, JSON.stringify({ path, ...person, comm, conduct }));
  const [command = "", ...rest] = [...wrapper, process.execPath, "-e", clientScript, about];
  const child = spawn(command, rest, { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(child, "exit");
  onTestFinished(() => void child.kill("SIGKILL"));
  const lines = createInterface({ input: child.stdout });
  const [descriptor, [line]] = await Promise.all([accept(server), once(lines, "line")]);
  const [pid = 0, heir] = String(line).split(" ").map(Number);
  if (heir !== undefined) onTestFinished(() => void process.kill(heir, "SIGKILL"));
  return {
    pid,
    descriptor,
    ended,
    async obey(order) {
      child.stdin.write(`${order}\n`);
      await once(lines, "line");
    },
    async end() {
      child.stdin.end();
      await ended;
    },
  };
}

/** Starts a process of another user that has a given pid, where that can be had. */
function takeNumber(pid: number): void {
  if (!isRoot) return;
  for (let attempt = 0; attempt < 50; attempt += 1) {
    try {
      writeFileSync("/proc/sys/kernel/ns_last_pid", String(pid - 1));
    } catch {
      return;
    }
    const child = spawn("sleep", ["60"], { uid: other.uid, gid: other.gid, stdio: "ignore" });
    onTestFinished(() => void child.kill("SIGKILL"));
    if (child.pid === pid) return;
  }
}

describe.each([
  ["SO_PEERPIDFD", {}],
  ["pidfd_open", { peerPidfd: false }],
])("a peer's handle by %s", (_, options) => {
  const readPeer = createPeerReader(options);

  function read(descriptor: number): Peer {
    const peer = readPeer(descriptor);
    onTestFinished(() => peer.close());
    return peer;
  }

  it.each<[string, Identity]>([
    ["the user of this test", own],
    ["root", anyOf({ uid: 0, gid: 0, groups: [] })],
    ["an ordinary user", trainer],
    ["a user without supplementary groups", other],
    ["one with the highest ids", anyOf({ uid: 0xffff_fffe, gid: 0xffff_fffd, groups: [0xffff_fffc] })],
    ...[31, 32, 33, 64, 65, 1000, 65_536].map((count): [string, Identity] => [
      `one of ${count} groups`,
      anyOf({ ...trainer, groups: Array.from({ length: count }, (_none, index) => 100_000 + index) }),
    ]),
  ])("names the ids of %s", async (_name, identity) => {
    const client = await startClient({ identity });
    const peer = read(client.descriptor);
    expect(peer).toMatchObject({ uid: identity.uid, gid: identity.gid, pid: client.pid });
    expect(peer.groups).toEqual(new Set([identity.gid, ...identity.groups]));
    expect(peer.alive()).toBe(true);
  });

  it("names the ids that a client acts under", async () => {
    const client = await startClient({ identity: trainer, conduct: "borrowed" });
    const peer = read(client.descriptor);
    expect(peer).toMatchObject({ uid: trainer.uid, gid: trainer.gid, pid: client.pid });
    expect(peer.alive()).toBe(true);
  });

  it("reads few groups right after many", async () => {
    const many = await startClient({
      identity: anyOf({ ...trainer, groups: Array.from({ length: 500 }, (_n, i) => i) }),
    });
    const few = await startClient({ identity: other });
    read(many.descriptor);
    expect(read(few.descriptor).groups).toEqual(new Set([other.gid, ...other.groups]));
  });

  it("tells that a client has ended", async () => {
    const client = await startClient({ identity: trainer });
    const peer = read(client.descriptor);
    expect(peer.alive()).toBe(true);
    await client.end();
    expect(peer.alive()).toBe(false);
    expect(peer.program()).toBeUndefined();
  });

  it("takes nobody else for a client that had ended before", async () => {
    const client = await startClient({ identity: trainer });
    await client.end();
    const peer = read(client.descriptor);
    expect(peer).toMatchObject({ uid: trainer.uid, gid: trainer.gid, pid: client.pid });
    // Linux gives a handle on a process that was waited for since 6.16.
    expect(peer.alive()).not.toBe(true);
    expect(peer.program()).toBeUndefined();
  });

  it("takes nobody else for a client whose number another user's process has by now", async () => {
    const client = await startClient({ identity: trainer, conduct: "heir" });
    await client.end();
    takeNumber(client.pid);
    const peer = read(client.descriptor);
    expect(peer).toMatchObject({ uid: trainer.uid, pid: client.pid });
    expect(peer.alive()).not.toBe(true);
    expect(peer.program()).toBeUndefined();
  });

  it.each([
    ["trainer", "trainer"],
    ["a name of more than fifteen", "a name of more "],
    ["two\nlines\n", "two\u{fffd}lines\u{fffd}"],
    ["\u001b[2Jx\u202ey", "\u{fffd}[2Jx\u{fffd}y"],
    ["üüüüüüüü", "üüüüüüü\u{fffd}"],
  ])("tells that a client calls itself %j", async (comm, shown) => {
    const client = await startClient({ identity: trainer, comm });
    expect(read(client.descriptor).program()).toBe(shown);
  });

  it("keeps what a client called itself when it was first asked", async () => {
    const client = await startClient({ identity: own, comm: "before" });
    const peer = read(client.descriptor);
    expect(peer.program()).toBe("before");
    await client.obey("after");
    expect(peer.program()).toBe("before");
    expect(read(client.descriptor).program()).toBe("after");
    await client.end();
    expect(peer.program()).toBe("before");
  });

  it("tells what a client descends from, down to the first process", async () => {
    const client = await startClient({ identity: trainer, wrapper: ["sh", "-c", '"$0" "$@"; exit 0'] });
    const peer = read(client.descriptor);
    const lineage = peer.lineage();
    expect(lineage.map(({ pid }) => pid)).toEqual(lineageNow(client.pid));
    expect(lineage[0]).toEqual({ pid: client.pid, started: startedOf(client.pid) });
    expect(lineage[2]).toEqual({ pid: process.pid, started: startedOf(process.pid) });
    expect(lineage.map(({ started }) => started)).toEqual(
      lineage.map(({ started }) => started).toSorted((one, next) => next - one),
    );
  });

  it("tells of a client whose parent has ended what has adopted it", async () => {
    const wrapper = ["sh", "-c", 'exec 3<&0; "$0" "$@" <&3 3<&- & exit 0'];
    const client = await startClient({ identity: trainer, wrapper });
    onTestFinished(() => void process.kill(client.pid, "SIGKILL"));
    await client.ended;
    const peer = read(client.descriptor);
    const pids = peer.lineage().map(({ pid }) => pid);
    expect(pids).toEqual(lineageNow(client.pid));
    expect(pids).not.toContain(process.pid);
  });

  it.each(["a) b (c\n1 2 3", ") S 1 1 1", "((\n))", " "])(
    "is not misled about its lineage by a client that calls itself %j",
    async (comm) => {
      const client = await startClient({ identity: own });
      const before = startedOf(client.pid);
      await client.obey(JSON.stringify(comm));
      expect(readFileSync(`/proc/${client.pid}/comm`, "utf8")).toBe(`${comm}\n`);
      const lineage = read(client.descriptor).lineage();
      expect(lineage.slice(0, 2)).toEqual([
        { pid: client.pid, started: before },
        { pid: process.pid, started: startedOf(process.pid) },
      ]);
    },
  );

  it("remembers a client's lineage, and has none of one that had ended when it was first asked", async () => {
    const client = await startClient({ identity: trainer });
    const [asked, unasked, closed] = [read(client.descriptor), read(client.descriptor), read(client.descriptor)];
    const lineage = asked.lineage();
    expect(lineage.length).toBeGreaterThan(1);
    closed.close();
    expect([closed.lineage(), closed.hold()]).toEqual([[], undefined]);
    await client.end();
    expect(asked.lineage()).toBe(lineage);
    expect([unasked.lineage(), unasked.hold()]).toEqual([[], undefined]);
  });

  it("is held on to after its connection has ended", async () => {
    const client = await startClient({ identity: trainer });
    const before = pidfdsOfThisProcess();
    const peer = readPeer(client.descriptor);
    const holds = [peer.hold(), peer.hold()];
    peer.close();
    expect(peer.hold()).toBeUndefined();
    const id = { pid: client.pid, started: startedOf(client.pid) };
    expect(holds).toMatchObject([id, id]);
    const ends = holds.map((held) => new Promise<void>((resolve) => held?.onEnd(resolve)));
    await client.end();
    await Promise.all(ends);
    for (const held of holds) held?.close();
    expect(pidfdsOfThisProcess()).toEqual(before);
  });

  it("is held apart from its connection, either of which is closed first", async () => {
    const client = await startClient({ identity: trainer });
    const before = pidfdsOfThisProcess();
    const peer = readPeer(client.descriptor);
    const held = peer.hold();
    held?.onEnd(() => {});
    held?.close();
    held?.close();
    expect(peer.alive()).toBe(true);
    peer.close();
    expect(pidfdsOfThisProcess()).toEqual(before);
  });

  it("translates the pid of a client in a pid namespace below", async () => {
    const wrapper = mayUnshare ? unshare : [];
    const client = await startClient({ comm: "contained", wrapper });
    const peer = read(client.descriptor);
    expect(client.pid === 1).toBe(mayUnshare);
    expect(peer.pid).toBeGreaterThan(1);
    expect(peer.alive()).toBe(true);
    expect(peer.program()).toBe("contained");
  });

  it("names no pid of a client outside of the listener's pid namespace", async () => {
    const path = join(createFolder(), "socket");
    const script = `
      import { createServer } from "node:net";
      import { createPeerReader } from ${JSON.stringify(join(import.meta.dirname, "../../dist/native/peer.js"))};
      const readPeer = createPeerReader(${JSON.stringify(options)});
      const server = createServer({ pauseOnConnect: true }, (socket) => {
        const peer = readPeer(socket._handle.fd);
        console.log(JSON.stringify([peer, "pid" in peer, peer.alive() ?? "unknown", peer.program() ?? "unknown"]));
      });
      server.listen(${JSON.stringify(path)}, () => console.log("listens"));
    `;
    const wrapper = mayUnshare ? [...unshare, "--mount-proc"] : [];
    const [command = "", ...rest] = [...wrapper, process.execPath, "--input-type=module", "-e", script];
    const child = spawn(command, rest, { stdio: ["ignore", "pipe", "inherit"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    await lines.next();
    const socket = connect(path);
    onTestFinished(() => void socket.destroy());
    const { value } = await lines.next();
    const [peer, hasPid, alive, program]: unknown[] = JSON.parse(String(value));
    expect(peer).toMatchObject({ uid: isRoot || mayUnshare ? 0 : own.uid });
    if (mayUnshare) expect([hasPid, alive, program]).toEqual([false, "unknown", "unknown"]);
    else expect(peer).toMatchObject({ pid: process.pid });
  });

  it("leaves no descriptor open, nor lets a child have one", async () => {
    const client = await startClient({ identity: trainer });
    const before = pidfdsOfThisProcess();
    const peers = Array.from({ length: 200 }, () => readPeer(client.descriptor));
    const opened = pidfdsOfThisProcess().filter((name) => !before.includes(name));
    expect(opened).toHaveLength(200);
    for (const name of opened) {
      const [, flags = ""] = readFileSync(`/proc/self/fdinfo/${name}`, "utf8").match(/^flags:\s+(\d+)$/m) ?? [];
      expect(Number.parseInt(flags, 8) & 0o2_000_000).not.toBe(0);
    }
    for (const peer of peers) peer.close();
    expect(pidfdsOfThisProcess()).toEqual(before);
  });

  it("closes a peer once, and knows nothing of it afterwards", async () => {
    const client = await startClient({ identity: trainer });
    const peer = readPeer(client.descriptor);
    peer.close();
    // Takes the lowest number, which was the handle's.
    const file = openSync("/dev/null", "r");
    peer.close();
    expect(fstatSync(file).isCharacterDevice()).toBe(true);
    closeSync(file);
    expect(peer.alive()).toBeUndefined();
    expect(peer.program()).toBeUndefined();
  });

  it("refuses what is no accepted connection of a Unix socket, and leaves nothing open", async () => {
    const before = pidfdsOfThisProcess();
    const { server, path } = await createListener();
    const near = connect(path);
    await once(near, "connect");
    const tcp = createServer().listen(0, "127.0.0.1");
    await once(tcp, "listening");
    const address = tcp.address();
    const accepted = accept(tcp);
    const far = connect(typeof address === "object" && address ? address.port : 0, "127.0.0.1");
    // Node's pipes to a child are socket pairs.
    const pair = spawn("cat", { stdio: ["pipe", "ignore", "ignore"] });
    const file = openSync("/dev/null", "r");
    const refused = [
      descriptorOf(near),
      descriptorOf(server),
      descriptorOf(pair.stdin),
      await accepted,
      file,
      -1,
      9999,
    ];
    for (const descriptor of refused) expect(() => readPeer(descriptor), String(descriptor)).toThrow(Error);
    expect(() => readPeer(file)).toThrow(/^ENOTSOCK: /);
    expect(() => readPeer(-1)).toThrow(/^EBADF: /);
    expect(() => readPeer(descriptorOf(pair.stdin))).toThrow(/no accepted connection/);
    expect(pidfdsOfThisProcess()).toEqual(before);
    closeSync(file);
    pair.kill();
    for (const socket of [near, far]) socket.destroy();
    tcp.close();
  });
});

it("has no handle by number on a client that hung up, since its number may be another's by now", async () => {
  const client = await startClient({ identity: trainer });
  await client.obey("hang up");
  const before = pidfdsOfThisProcess();
  const byNumber = createPeerReader({ peerPidfd: false });
  const unnamed = byNumber(client.descriptor);
  onTestFinished(() => unnamed.close());
  expect(unnamed).toMatchObject({ uid: trainer.uid, pid: client.pid });
  expect([unnamed.alive(), unnamed.program()]).toEqual([undefined, undefined]);
  expect(pidfdsOfThisProcess()).toEqual(before);
  const peer = createPeerReader()(client.descriptor);
  onTestFinished(() => peer.close());
  expect(peer.pid).toBe(client.pid);
  expect(peer.alive()).toBe(true);
});
