// The server by itself on a Unix socket, with a handler that the test gives.
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { systemClock } from "../../src/contract/clock.ts";
import type { Handler } from "../../src/http/handle.ts";
import { createRequestIds } from "../../src/http/request-id.ts";
import { HttpServer } from "../../src/http/server.ts";
import { createFolder } from "../folder.ts";
import { createQuietLog } from "../quiet-log.ts";

export interface Served {
  readonly http: HttpServer;
  /** Of its socket. */
  readonly path: string;
}

/** Ends at the latest with its test. */
export async function serve(handler: Handler): Promise<Served> {
  const path = join(createFolder(), "s.sock");
  const http = new HttpServer({
    handler,
    clock: systemClock,
    log: createQuietLog(),
    nextRequestId: createRequestIds(),
    maxConnections: 10,
    maxStreams: 10,
    originGuard: () => undefined,
    hostMatters: false,
  });
  await new Promise<void>((resolve) => http.server.listen(path, resolve));
  onTestFinished(() => http.cut());
  return { http, path };
}
