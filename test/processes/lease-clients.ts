// Programs that hold leases, and their descendants: processes of their own, which do what they are told and die when they are told.
import { spawn } from "node:child_process";
import { chmodSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { createFolder } from "../folder.ts";
import { self, type Identity } from "./as-user.ts";
import { eventually } from "./http-client.ts";
import { isRoot } from "./ordinary-user.ts";

interface ClientAnswer {
  readonly status: number;
  readonly body: string;
}

export interface LeaseClient {
  /** As it sees itself. */
  readonly pid: number;
  /** Asks over the one connection that it keeps open, one request after the other. */
  post(target: string): Promise<ClientAnswer>;
  get(target: string): Promise<ClientAnswer>;
  /** The same over a connection of its own, which is closed afterwards. */
  postAlone(target: string): Promise<ClientAnswer>;
  /** Sends a request over a new connection, which it leaves open; settles when it is sent, whether or not anybody reads it. */
  send(target: string): Promise<void>;
  /** Opens so many connections, asks something over each, and closes them. */
  connect(times: number): Promise<void>;
  /** Closes the connection that it keeps open. */
  disconnect(): Promise<void>;
  /** Starts a child of its own, which is a client as well and outlives it. */
  fork(): Promise<LeaseClient>;
  /** Settles when it has ended. */
  kill(): Promise<void>;
}

export interface LeaseClients {
  /** The command line of a client that is to be started by somebody else; it comes by this name. */
  words(name: string, who?: Identity): readonly string[];
  /** Settles when the client of that name has come. */
  arrival(name: string): Promise<LeaseClient>;
  start(who?: Identity): Promise<LeaseClient>;
}

/** What a client runs, given on its command line: others than root may not be able to read this repository. */
const program = `
  const { uid, gid, groups, name, desk, address } = JSON.parse(process.argv[1]);
  if (process.geteuid() === 0) {
    process.setgroups(groups);
    process.setgid(gid);
    process.setuid(uid);
  }
  const http = require("node:http");
  const net = require("node:net");
  const { spawn } = require("node:child_process");
  const control = net.connect(desk);
  const say = (line) => control.write(JSON.stringify(line) + "\\n");
  let kept = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const ask = (method, target, agent) =>
    new Promise((resolve, reject) => {
      const sent = http.request({ socketPath: address, method, path: target, agent }, (response) => {
        let body = "";
        response.setEncoding("utf8").on("data", (text) => (body += text));
        response.once("end", () => resolve({ status: response.statusCode, body }));
      });
      sent.once("error", reject).end();
    });
  const work = {
    ask: ({ method, target, alone }) => ask(method, target, alone ? false : kept),
    send: ({ target }) =>
      new Promise((resolve) => {
        const socket = net.connect(address);
        socket.write("POST " + target + " HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n", () => resolve());
        socket.resume();
      }),
    async connect({ times }) {
      for (let time = 0; time < times; time += 1) await ask("GET", "/time", false);
    },
    async disconnect() {
      kept.destroy();
      kept = new http.Agent({ keepAlive: true, maxSockets: 1 });
    },
    async fork({ name }) {
      const [, facts, program] = process.argv;
      const words = ["-e", program, JSON.stringify({ ...JSON.parse(facts), name }), program];
      // By its path an ordinary user may not reach it: root's Node can lie in a folder of root's.
      spawn("/proc/self/exe", words, { stdio: "ignore", detached: true }).unref();
    },
  };
  control.once("connect", () => say({ name, pid: process.pid }));
  control.once("error", () => process.exit()).once("close", () => process.exit());
  require("node:readline").createInterface({ input: control }).on("line", (line) => {
    const order = JSON.parse(line);
    work[order.what](order).then(
      (answer) => say({ id: order.id, answer }),
      (error) => say({ id: order.id, error: String(error) }),
    );
  });
`;

interface Said {
  readonly name?: string;
  readonly pid?: number;
  readonly id?: number;
  readonly answer?: ClientAnswer;
  readonly error?: string;
}

/** Clients of the daemon at this address. They end at the latest with the test. */
export async function openLeaseClients(address: string): Promise<LeaseClients> {
  const desk = join(createFolder(), "desk");
  const here = new Map<string, LeaseClient>();
  let count = 0;
  const nextName = (): string => `client-${(count += 1)}`;

  const server = createServer((socket) => {
    receive(socket, (name, pid, order) => here.set(name, createClient(pid, socket, order, fork)));
    // A client whose connection is cut ends.
    onTestFinished(() => void socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(desk, resolve));
  chmodSync(desk, 0o777);
  onTestFinished(() => void server.close());

  const words = (name: string, who: Identity = self): readonly string[] => {
    if (!isRoot && who.uid !== self.uid) throw new Error(`uid ${self.uid} cannot become uid ${who.uid}`);
    // Its own text comes along, for its children.
    return [process.execPath, "-e", program, JSON.stringify({ ...who, name, desk, address }), program];
  };
  async function arrival(name: string): Promise<LeaseClient> {
    await eventually(() => here.has(name));
    return here.get(name) as LeaseClient;
  }
  async function fork(order: Order): Promise<LeaseClient> {
    const name = nextName();
    await order({ what: "fork", name });
    return arrival(name);
  }
  return {
    words,
    arrival,
    async start(who) {
      const name = nextName();
      const [command = "", ...rest] = words(name, who);
      const child = spawn(command, rest, { stdio: ["ignore", "inherit", "inherit"], cwd: "/" });
      onTestFinished(() => void child.kill("SIGKILL"));
      return arrival(name);
    },
  };
}

type Order = (order: object) => Promise<ClientAnswer>;

function receive(socket: Socket, arrived: (name: string, pid: number, order: Order) => void): void {
  const waiting = new Map<number, { resolve: (answer: ClientAnswer) => void; reject: (error: Error) => void }>();
  let orders = 0;
  const order: Order = (what) =>
    new Promise((resolve, reject) => {
      orders += 1;
      waiting.set(orders, { resolve, reject });
      socket.write(`${JSON.stringify({ id: orders, ...what })}\n`);
    });
  const lines = createInterface({ input: socket });
  lines.on("line", (line) => {
    const { name, pid, id = 0, answer = { status: 0, body: "" }, error } = JSON.parse(line) as Said;
    if (name !== undefined && pid !== undefined) arrived(name, pid, order);
    else if (error === undefined) waiting.get(id)?.resolve(answer);
    else waiting.get(id)?.reject(new Error(error));
    waiting.delete(id);
  });
  // Killed clients cut the connection: whoever still waits for an answer gets this one.
  lines.on("error", () => {});
  socket
    .on("error", () => {})
    .once("close", () => {
      for (const { reject } of waiting.values()) reject(new Error("the client has ended"));
    });
}

function createClient(
  pid: number,
  socket: Socket,
  order: Order,
  fork: (order: Order) => Promise<LeaseClient>,
): LeaseClient {
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  const ask = (method: string, target: string, alone = false): Promise<ClientAnswer> =>
    order({ what: "ask", method, target, alone });
  return {
    pid,
    post: (target) => ask("POST", target),
    get: (target) => ask("GET", target),
    postAlone: (target) => ask("POST", target, true),
    send: async (target) => void (await order({ what: "send", target })),
    connect: async (times) => void (await order({ what: "connect", times })),
    disconnect: async () => void (await order({ what: "disconnect" })),
    fork: () => fork(order),
    async kill() {
      process.kill(pid, "SIGKILL");
      await closed;
    },
  };
}
