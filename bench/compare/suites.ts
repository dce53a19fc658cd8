// Which requests go to which generation, started how.
import type { Setup } from "./daemon.ts";
import type { Exchange } from "./exchange.ts";
import { cpuRequests, driverRequests, jsonDriverRequests, manyRequests, noneRequests } from "./requests-driver.ts";
import { httpRequests, slowRequests } from "./requests-http.ts";
import { bodyRequests } from "./requests-json-bodies.ts";
import { jsonRequests, persistentRequests, secondRequests } from "./requests-json.ts";
import { queryRequests } from "./requests-query.ts";
import { streamRequests } from "./requests-stream.ts";
import { groupRequests, guardRequests, tokenRequests } from "./requests-token.ts";
import { key } from "./tokens.ts";

export interface Suite extends Setup {
  readonly name: string;
  readonly exchanges: readonly Exchange[];
}

const five = { version: "0.5.0" } as const;

export const suites: readonly Suite[] = [
  { ...five, name: "0.5.0 query", cpus: true, exchanges: queryRequests },
  { ...five, name: "0.5.0 driver", exchanges: driverRequests },
  { ...five, name: "0.5.0 eleven GPUs", env: { NVML_STUB_GPUS: "11" }, exchanges: manyRequests },
  { ...five, name: "0.5.0 no devices", env: { NVML_STUB_GPUS: "0" }, exchanges: noneRequests },
  { ...five, name: "0.5.0 CPUs", cpus: true, exchanges: cpuRequests },
  { ...five, name: "0.5.0 streams", cpus: true, streams: true, exchanges: streamRequests },
  {
    ...five,
    name: "0.5.0 tokens",
    cpus: true,
    streams: true,
    signingKey: key,
    exchanges: [...tokenRequests, ...guardRequests],
  },
  {
    ...five,
    name: "0.5.0 groups: read only",
    cpus: true,
    streams: true,
    args: ["--enable", "cpu-read,gpu-read,cpu-read"],
    exchanges: groupRequests,
  },
  { ...five, name: "0.5.0 groups: control only", args: ["--enable", "gpu-control"], exchanges: groupRequests },
  {
    ...five,
    name: "0.5.0 groups and tokens",
    streams: true,
    args: ["--enable=gpu-read"],
    signingKey: key,
    exchanges: guardRequests,
  },
  { ...five, name: "0.5.0 http over a Unix socket", exchanges: httpRequests },
  { ...five, name: "0.5.0 http over TCP", mode: "tcp", exchanges: httpRequests },
  { ...five, name: "0.5.0 slow", exchanges: slowRequests },
  {
    name: "0.2.0 JSON",
    version: "0.2.0",
    cpus: true,
    exchanges: [...jsonRequests, ...bodyRequests, ...secondRequests],
  },
  { name: "0.2.0 driver", version: "0.2.0", exchanges: jsonDriverRequests },
  { name: "0.2.0 over TCP", version: "0.2.0", mode: "tcp", exchanges: jsonRequests.slice(0, 100) },
  { name: "0.1.0 JSON", version: "0.1.0", exchanges: [...jsonRequests, ...bodyRequests, ...persistentRequests] },
  { name: "0.1.0 driver", version: "0.1.0", exchanges: jsonDriverRequests },
];
