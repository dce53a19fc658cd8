// The daemon under test behind each transport: in process, on a Unix socket, on TCP.
import { createHmac } from "node:crypto";
import { writeFileSync } from "node:fs";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { Peer } from "../../src/access/actor.ts";
import type { Names } from "../../src/access/policy-file.ts";
import { systemClock, type Clock } from "../../src/contract/clock.ts";
import type { Config } from "../../src/contract/config.ts";
import { assemble, startDaemon, type DaemonParts } from "../../src/daemon.ts";
import { parseTarget } from "../../src/http/target.ts";
import { createFolder } from "../folder.ts";
import { createQuietLog } from "../quiet-log.ts";
import { startOnSocket } from "./socket-daemon.ts";
import { testConfig } from "./test-config.ts";
import { createFakeMachine, type FakeMachine, type FakeMachineOptions } from "./fake-machine.ts";

export interface Answer {
  readonly status: number;
  readonly type: string | undefined;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
}

interface Asked {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** In process: the body, once it has come. */
  readonly late?: Promise<string>;
  /** In process: the process that asks, as on a Unix socket. */
  readonly peer?: Peer;
}

/** A process that has connected to a Unix socket. Nobody can watch for its end. */
export function peer(uid: number, ...groups: readonly number[]): Peer {
  const gid = groups[0] ?? uid;
  return {
    uid,
    gid,
    groups: new Set(groups),
    pid: 4711,
    program: () => "test",
    lineage: () => [],
    hold: () => undefined,
  };
}

export interface Subject extends FakeMachine {
  readonly logged: readonly string[];
  /** Sends `GET /path` or the like, and waits for the whole answer. */
  ask(line: string, asked?: Asked): Promise<Answer>;
  /** Reads a stream's text until `enough` says so, then goes away. */
  follow(line: string, enough: (text: string) => boolean, asked?: Asked): Promise<Answer>;
}

export const transports = ["in process", "over a Unix socket", "over TCP"] as const;
export type Transport = (typeof transports)[number];

export interface SubjectOptions extends FakeMachineOptions {
  readonly config?: Partial<Config>;
  /** The text of a policy file. */
  readonly policy?: string;
  /** In process and over TCP: who knows users and groups, and what the time is. */
  readonly names?: Names;
  readonly clock?: Clock;
}

export async function startSubject(transport: Transport, options: SubjectOptions = {}): Promise<Subject> {
  const machine = createFakeMachine(options);
  const given = { ...options.config, ...(options.policy === undefined ? {} : policyFile(options.policy)) };
  if (transport === "over a Unix socket") {
    const { path, logged } = await startOnSocket(machine, given);
    return { ...machine, ...linkTo({ socketPath: path }), logged };
  }
  const log = createQuietLog();
  const { names, clock = systemClock } = options;
  const { backends } = machine;
  const euid = process.geteuid?.() ?? 0;
  const parts: DaemonParts = { version: "1.2.3", clock, log, euid, backends, ...(names ? { names } : {}) };
  const config = testConfig(given);
  const link = await (transport === "in process" ? inProcess(config, parts) : overTcp(config, parts));
  return { ...machine, ...link, logged: log.lines };
}

/** Writes a policy file that ends with its test. */
export function policyFile(text: string): { readonly policyPath: string } {
  return { policyPath: createFile("policy.toml", text) };
}

const key = "k".repeat(32);

/** Writes a file with the signing key of `bearer`, that ends with its test. */
export function keyFile(): { readonly signingKeyPath: string } {
  return { signingKeyPath: createFile("key", key) };
}

/** What somebody sends who has a token that says this. */
export function bearer(claims: object, signedWith = key): { readonly authorization: string } {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ typ: "JWT", alg: "HS256" })}.${part(claims)}`;
  return { authorization: `Bearer ${signed}.${createHmac("sha256", signedWith).update(signed).digest("base64url")}` };
}

/** A file that only its owner may use. */
export function createFile(name: string, text: string): string {
  const path = join(createFolder(), name);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

type Link = Pick<Subject, "ask" | "follow">;

async function inProcess(config: Config, parts: DaemonParts): Promise<Link> {
  const { handler } = await assemble(config, parts);
  const send = (line: string, { headers = {}, body = "", late, peer: from }: Asked = {}) => {
    const [method = "", target = ""] = line.split(/ (.*)/s);
    const header = (name: string): string | undefined => headers[name];
    return handler.handle({
      id: "test-1",
      method,
      ...parseTarget(target),
      ...(from ? { peer: from } : {}),
      header,
      body: async () => Buffer.from(late ? await late : body),
      arrivedMs: parts.clock.monotonicMs(),
      gone: () => false,
    });
  };
  const answer = (status: number, headers: Readonly<Record<string, string>>, body: string): Answer => ({
    status,
    type: headers["content-type"],
    headers,
    body,
  });
  return {
    async ask(line, asked) {
      const reply = await send(line, asked);
      if (typeof reply.body !== "string") throw new Error("this is a stream: follow it");
      return answer(reply.status, reply.headers, reply.body);
    },
    async follow(line, enough, asked) {
      const { status, headers, body } = await send(line, asked);
      if (typeof body === "string") return answer(status, headers, body);
      return new Promise((resolve) => {
        let text = "";
        const stream = body.open({
          send(more) {
            text += more;
            if (enough(text)) {
              setImmediate(() => stream.close());
              resolve(answer(status, headers, text));
            }
            return true;
          },
        });
      });
    },
  };
}

async function overTcp(config: Config, parts: DaemonParts): Promise<Link> {
  const daemon = await startDaemon(config, parts);
  onTestFinished(async () => {
    daemon.cut();
    await daemon.drain(1_000);
  });
  const [host, port] = daemon.address.split(":");
  return linkTo({ host, port: Number(port) });
}

function linkTo(where: object): Link {
  return {
    ask: (line, asked) => exchange(where, line, asked, () => false),
    follow: (line, enough, asked) => exchange(where, line, asked, enough),
  };
}

function exchange(
  where: object,
  line: string,
  { headers, body = "" }: Asked = {},
  enough: (text: string) => boolean,
): Promise<Answer> {
  const [method, path] = line.split(/ (.*)/s);
  return new Promise((resolve, reject) => {
    const sent = httpRequest(
      { ...where, method, path, headers: { ...lengthOf(method, body, headers), ...headers } },
      (incoming) => {
        let text = "";
        incoming.setEncoding("utf8");
        incoming.on("data", (more: string) => {
          text += more;
          if (!enough(text)) return;
          resolve(toAnswer(incoming, text));
          sent.destroy();
        });
        incoming.on("end", () => resolve(toAnswer(incoming, text)));
      },
    );
    sent.on("error", reject);
    sent.end(body);
  });
}

function lengthOf(method: string | undefined, body: string, headers: Asked["headers"] = {}): Record<string, string> {
  if (headers["transfer-encoding"] || (method === "GET" && body === "")) return {};
  return { "content-length": String(Buffer.byteLength(body)) };
}

function toAnswer({ statusCode = 0, headers }: IncomingMessage, body: string): Answer {
  return { status: statusCode, type: headers["content-type"], headers, body };
}
