// A daemon that knows leases, for those who ask it: it answers what it is told to, and keeps what it was asked, in order.
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, vi } from "vitest";
import { createFolder } from "../folder.ts";

interface Asked {
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly authorization?: string | undefined;
}

interface Reply {
  readonly status?: number;
  readonly body: unknown;
}

/** What is answered instead of the usual; undefined leaves it at that. */
export type Answers = (asked: Asked) => Reply | undefined | Promise<Reply | undefined>;

export interface FakeDaemon {
  /** The path of its socket, or host:port. */
  readonly address: string;
  readonly asked: readonly Asked[];
  /** The paths that were asked for, in order. */
  paths(): readonly string[];
  /** Settles when somebody has asked for this path so many times. */
  askedFor(path: string, times?: number): Promise<void>;
  /** Whoever asks from now on is not answered, and nobody can connect. */
  stop(): Promise<void>;
}

export const leaseId = "0123456789abcdef0123456789abcdef";

export const acquired = {
  lease_id: leaseId,
  lease: 3,
  gpu_ids: [0, 1],
  exclusive: false,
  implicit: false,
  reason: null,
  since_ms: 1_700_000_000_000,
  expires_ms: null,
  holder: { uid: 1000, pid: 4711, program: "python", sub: null },
};

function usual({ path, query }: Asked): Reply {
  if (path === "/lease/acquire") {
    return { body: { ...acquired, expires_ms: query["ttl_s"] === undefined ? null : acquired.since_ms + 60_000 } };
  }
  if (path === "/lease/release") return { body: { lease: 3, gpus: { 0: "restored", 1: "unchanged" } } };
  if (path === "/lease/list") return { body: { leases: [] } };
  if (path === "/lease/renew") return { body: acquired };
  return path.startsWith("/gpu/set_") ? { body: "" } : { status: 404, body: "" };
}

export async function startFakeDaemon(
  answers: Answers = () => undefined,
  over: "unix" | "tcp" = "unix",
): Promise<FakeDaemon> {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "", "http://localhost");
    const question = {
      path: pathname,
      query: Object.fromEntries(searchParams),
      authorization: request.headers.authorization,
    };
    expect(request.method).toBe(pathname === "/lease/list" ? "GET" : "POST");
    asked.push(question);
    void answer(question);

    async function answer(one: Asked): Promise<void> {
      const { status = 200, body } = (await answers(one)) ?? usual(one);
      response.writeHead(status).end(typeof body === "string" ? body : JSON.stringify(body));
    }
  });
  const path = join(createFolder(), "zeusd.sock");
  await new Promise<void>((resolve) => {
    if (over === "unix") server.listen(path, resolve);
    else server.listen(0, "127.0.0.1", resolve);
  });
  onTestFinished(() => stop(server));
  const paths = (): readonly string[] => asked.map((one) => one.path);
  return {
    address: over === "unix" ? path : `127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    paths,
    async askedFor(wanted, times = 1) {
      await vi.waitUntil(() => paths().filter((one) => one === wanted).length >= times, {
        timeout: 10_000,
        interval: 2,
      });
    },
    stop: () => stop(server),
  };
}

async function stop(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise<void>((resolve) => server.close(() => resolve()));
}
