// Which requests go to which generation, started how.
import type { Setup } from "./daemon.ts";
import type { Exchange } from "./exchange.ts";
import { httpRequests, slowRequests } from "./requests-http.ts";
import { queryRequests } from "./requests-query.ts";

export interface Suite extends Setup {
  readonly name: string;
  readonly exchanges: readonly Exchange[];
}

export const suites: readonly Suite[] = [
  { name: "0.5.0 query", version: "0.5.0", cpus: true, exchanges: queryRequests },
  { name: "0.5.0 http over a Unix socket", version: "0.5.0", exchanges: httpRequests },
  { name: "0.5.0 http over TCP", version: "0.5.0", mode: "tcp", exchanges: httpRequests },
  { name: "0.5.0 slow", version: "0.5.0", exchanges: slowRequests },
];
