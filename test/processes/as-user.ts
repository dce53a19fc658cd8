// Clients under identities of their own: one process each, which lives as long as its test and sends what it is told.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { IncomingHttpHeaders } from "node:http";
import { onTestFinished } from "vitest";
import { eventually, type Stream } from "./http-client.ts";
import { isRoot } from "./ordinary-user.ts";

export interface Identity {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary ones. */
  readonly groups: readonly number[];
}

export interface UserRequest {
  readonly method?: string;
  readonly target: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

export interface UserAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Of a stream of events, the first one: the client leaves then. */
  readonly body: string;
  /** Whether it came over a connection that an earlier request had opened. */
  readonly reused: boolean;
}

export interface User {
  readonly pid: number;
  /** Asks over the one connection that it keeps open to this address. */
  ask(address: string, request: UserRequest): Promise<UserAnswer>;
  /** The same for many, one after the other. */
  askAll(address: string, requests: readonly UserRequest[]): Promise<readonly UserAnswer[]>;
  /** Begins to read a stream, over a connection of its own. */
  stream(address: string, request: UserRequest): Promise<Stream>;
}

/** Whoever runs the tests. Only root can be anybody else. */
export const self: Identity = {
  uid: process.geteuid?.() ?? 0,
  gid: process.getegid?.() ?? 0,
  groups: process.getgroups?.() ?? [],
};

/**
 * What the client runs. It is given on the command line, since others than root may not be able to read this repository, and
 * it gives up root before it opens any connection. Lines of JSON come in and go out.
 */
const program = `
  const { uid, gid, groups, name } = JSON.parse(process.argv[1]);
  if (process.geteuid() === 0) {
    process.setgroups(groups);
    process.setgid(gid);
    process.setuid(uid);
  }
  process.title = name;
  const http = require("node:http");
  const agents = new Map();
  const say = (line) => process.stdout.write(JSON.stringify(line) + "\\n");

  const whereTo = (address) => {
    if (address.startsWith("/")) return { socketPath: address };
    const [, host, port] = /^\\[?([^\\]]*)\\]?:(\\d+)$/.exec(address);
    return { host, port: Number(port) };
  };
  const open = (address, { method = "GET", target, headers = {}, body = "" }, agent) =>
    new Promise((resolve, reject) => {
      const length = method === "GET" && body === "" ? {} : { "content-length": Buffer.byteLength(body) };
      const options = { ...whereTo(address), method, path: target, headers: { ...length, ...headers }, agent };
      const sent = http.request(options, (response) => resolve({ response, reused: sent.reusedSocket }));
      sent.once("error", reject);
      sent.end(body);
    });
  const agentFor = (address) => {
    if (!agents.has(address)) agents.set(address, new http.Agent({ keepAlive: true, maxSockets: 1 }));
    return agents.get(address);
  };
  const ask = async (address, request) => {
    const { response, reused } = await open(address, request, agentFor(address));
    const events = /^text\\/event-stream/.test(response.headers["content-type"] ?? "");
    let body = "";
    for await (const part of response.setEncoding("utf8")) {
      body += part;
      if (events && body.includes("\\n\\n")) break;
    }
    return { status: response.statusCode, headers: response.headers, body, reused };
  };
  const work = {
    async askAll({ id, address, requests }) {
      const answers = [];
      for (const request of requests) answers.push(await ask(address, request));
      say({ id, answers });
    },
    async stream({ id, address, request }) {
      const { response } = await open(address, request, false);
      say({ id, status: response.statusCode });
      response.setEncoding("utf8").on("data", (text) => say({ id, text })).once("error", () => {});
      response.once("close", () => say({ id, end: response.complete ? "complete" : "cut" }));
    },
  };
  say({ id: 0 });
  require("node:readline")
    .createInterface({ input: process.stdin })
    .on("line", (line) => {
      const order = JSON.parse(line);
      work[order.what](order).catch((error) => say({ id: order.id, error: String(error) }));
    })
    .once("close", () => process.exit());
`;

/** What the client says: to an order, by its number. */
interface Said {
  readonly id: number;
  readonly error?: string;
  readonly answers?: readonly UserAnswer[];
  readonly status?: number;
  readonly text?: string;
  readonly end?: "complete" | "cut";
}

/** Starts a client; where others than root run the tests, it can only be themselves. It is called `name`, as `ps` shows it. */
export async function actAs({ uid, gid, groups }: Identity = self, name = "client"): Promise<User> {
  if (!isRoot && uid !== self.uid) throw new Error(`uid ${self.uid} cannot become uid ${uid}`);
  const setting = JSON.stringify({ uid, gid, groups, name });
  const child = spawn(process.execPath, ["-e", program, setting], { stdio: ["pipe", "pipe", "inherit"], cwd: "/" });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.stdin.on("error", () => {});
  onTestFinished(async () => {
    child.stdin.end();
    child.kill("SIGKILL");
    await ended;
  });
  const listeners = new Map<number, (said: Said) => void>();
  createInterface({ input: child.stdout }).on("line", (line) => {
    const said = JSON.parse(line) as Said;
    listeners.get(said.id)?.(said);
  });

  let orders = 0;
  const order = (what: string, rest: object, listener: (said: Said) => void): void => {
    orders += 1;
    listeners.set(orders, listener);
    child.stdin.write(`${JSON.stringify({ id: orders, what, ...rest })}\n`);
  };
  const askAll = (address: string, requests: readonly UserRequest[]): Promise<readonly UserAnswer[]> =>
    new Promise((resolve, reject) => {
      order("askAll", { address, requests }, ({ answers, error }) => {
        if (answers) resolve(answers);
        else reject(new Error(`uid ${uid}: ${error}`));
      });
    });

  await Promise.race([
    new Promise<void>((resolve) => listeners.set(0, () => resolve())),
    ended.then(() => Promise.reject(new Error(`the client of uid ${uid} did not start`))),
  ]);
  return {
    pid: child.pid ?? 0,
    askAll,
    async ask(address, request) {
      const [answer] = await askAll(address, [request]);
      if (!answer) throw new Error("the client gave no answer");
      return answer;
    },
    stream: (address, request) =>
      new Promise((resolve, reject) => {
        let text = "";
        let close: (how: "complete" | "cut") => void = () => {};
        const end = new Promise<"complete" | "cut">((settle) => (close = settle));
        order("stream", { address, request }, (said) => {
          if (said.error !== undefined) reject(new Error(`uid ${uid}: ${said.error}`));
          if (said.text !== undefined) text += said.text;
          if (said.end !== undefined) close(said.end);
          if (said.status === undefined) return;
          const received = (characters: number): Promise<void> => eventually(() => text.length >= characters);
          resolve({ status: said.status, text: () => text, received, end });
        });
      }),
  };
}
