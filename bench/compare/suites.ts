// Which requests go to which generation, started how.
import type { Setup } from "./daemon.ts";
import type { Exchange } from "./exchange.ts";
import { queryRequests } from "./requests-query.ts";

export interface Suite extends Setup {
  readonly name: string;
  readonly exchanges: readonly Exchange[];
}

export const suites: readonly Suite[] = [
  { name: "0.5.0 query", version: "0.5.0", cpus: true, exchanges: queryRequests },
];
