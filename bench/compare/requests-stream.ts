// Streams: their heads, first events and refusals.
import type { Exchange } from "./exchange.ts";
import { get, raw, words } from "./requests.ts";

const gpu = words("? ?gpu_ids=0 ?gpu_ids=1,0,1 ?gpu_ids=0%2C1");
const refused = words(`
  ?gpu_ids= ?gpu_ids=0, ?gpu_ids=abc ?gpu_ids=0,9 ?gpu_ids=5,4,0 ?gpu_ids=-1 ?x=1 ?gpu_ids=0&gpu_ids=1 ?cpu_ids=0 ?block=true`);

export const streamRequests: readonly Exchange[] = [
  ...gpu.map((query) => ({
    ...get(`/gpu/stream_power${query}`),
    events: query.includes("1") || query === "?" ? 2 : 1,
  })),
  ...refused.map((query) => get(`/gpu/stream_power${query}`)),
  ...refused.map((query) => get(`/cpu/stream_power${query.replaceAll("gpu", "gpu_").replaceAll("gpu__", "cpu_")}`)),
  { ...get("/cpu/stream_power"), events: 2 },
  { ...get("/cpu/stream_power?cpu_ids=1"), events: 1 },
  { ...get("/gpu/stream_power", { name: "encodings", headers: ["Accept-Encoding: gzip, br"] }), events: 2 },
  { ...get("/gpu/stream_power", { name: "accept JSON", headers: ["Accept: application/json"] }), events: 2 },
  { ...get("/gpu/stream_power", { name: "last event id", headers: ["Last-Event-ID: 5"] }), events: 2 },
  { ...get("/gpu/stream_power", { name: "asked to close", headers: ["Connection: close"] }), events: 2 },
  { ...raw("a stream of 1.0", "GET /gpu/stream_power HTTP/1.0\r\n\r\n"), events: 2 },
  { ...get("/gpu/stream_power"), name: "a reading that fails", faults: ["field186.0@0=code:3"], events: 1 },
];
