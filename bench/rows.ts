// The work that ours is compared with the original in.
import { contest } from "./contest.ts";
import { gpus, type Daemon } from "./daemon.ts";
import { figure, runLoad, runStreams, type Figures } from "./programs.ts";
import { timeRequests } from "./samples.ts";
import { median } from "./statistics.ts";
import type { Effort, Row, Target, Unit, Work } from "./work.ts";

export const setLimit = (gpuIds: string, block: boolean): string =>
  `POST /gpu/set_power_limit?gpu_ids=${gpuIds}&power_limit_mw=200000&block=${block}`;
export const getPower = (gpuIds: string): string => `GET /gpu/get_power?gpu_ids=${gpuIds}`;

/** Every write takes so long. */
export const slow = (ms: number): Readonly<Record<string, string>> => ({
  NVML_STUB_FAULTS: `nvmlDeviceSetPowerManagementLimit=delay:${ms}`,
});

const ratio = (is: Target["is"], value: number): Target => ({ of: "ratio", is, value });
const row = (name: string, unit: Unit, target: Target): Row => ({ name, unit, target });

/** A load that lasts as long as one round of one daemon should. */
export async function load(
  { socket }: Daemon,
  { share }: Effort,
  requests: readonly string[],
  options: Readonly<Record<string, string | number>> = {},
): Promise<Figures> {
  return runLoad(socket, { requests, options: { gpus, "warm-up": 0.5 * share, seconds: 2 * share, ...options } });
}

export const contests: readonly Work[] = [
  contest({
    against: "0.5.0",
    rows: [
      row("set_power_limit, block=true, 1 connection, driver at once: p50", "µs", ratio("at most", 0.5)),
      row("set_power_limit, block=true, 1 connection, driver at once: p99", "µs", ratio("at most", 1)),
    ],
    async round(daemon, effort) {
      const figures = await load(daemon, effort, [setLimit("0", true)]);
      return [figure(figures, "p50_us"), figure(figures, "p99_us")];
    },
  }),
  contest({
    against: "0.5.0",
    rows: [row("set_power_limit, block=false, 1 connection: p50", "µs", ratio("at most", 1))],
    async round(daemon, effort) {
      // Answers come faster than the driver takes commands: without one that waits now and then the queue would overflow.
      const requests = [setLimit("0", false), setLimit("0", true)];
      return [figure(await load(daemon, effort, requests, { rare: 256 }), "p50_us")];
    },
  }),
  contest({
    against: "0.5.0",
    rows: [row("get_power, 1 connection: p50", "µs", ratio("at most", 0.5))],
    round: async (daemon, effort) => [figure(await load(daemon, effort, [getPower("0")]), "p50_us")],
  }),
  contest({
    against: "0.2.0",
    rows: [row("JSON wire (0.2.0), set_power_limit, 1 connection: p50", "µs", ratio("at most", 0.5))],
    async round(daemon, effort) {
      const request = 'POST /gpu/0/set_power_limit {"power_limit_mw":200000,"block":true}';
      return [figure(await load(daemon, effort, [request]), "p50_us")];
    },
  }),
  contest({
    against: "0.5.0",
    rows: [row("16 connections on 8 GPUs, driver at once: throughput", "requests/s", ratio("at least", 1))],
    round: async (daemon, effort) => [
      figure(await load(daemon, effort, [setLimit("{gpu}", true)], { connections: 16 }), "rps"),
    ],
  }),
  contest({
    against: "0.5.0",
    rows: [row("16 connections on 8 GPUs, 1 ms a call: throughput", "requests/s", ratio("at least", 3))],
    env: slow(1),
    round: async (daemon, effort) => [
      figure(await load(daemon, effort, [setLimit("{gpu}", true)], { connections: 16 }), "rps"),
    ],
  }),
  ...[
    { ms: 1, requests: 1000 },
    { ms: 10, requests: 150 },
  ].map(({ ms, requests }) =>
    contest({
      against: "0.5.0",
      rows: [row(`1 connection, ${ms} ms a call: time above the driver's own, p50`, "µs", ratio("at most", 1))],
      env: slow(ms),
      async round(daemon, { share }) {
        const timed = await timeRequests(daemon, setLimit("0", true), Math.ceil(requests * share));
        return [median(timed.requests.map((took, index) => took - (timed.calls[index] ?? Number.NaN)))];
      },
    }),
  ),
  contest({
    against: "0.5.0",
    rows: [
      row("8 GPUs in one request, 5 ms a call: time, p50", "ms", ratio("at most", 0.3)),
      row("8 GPUs in one request, 5 ms a call: time by that of one call", "times", {
        of: "ours",
        is: "at most",
        value: 1.15,
      }),
    ],
    env: slow(5),
    async round(daemon, { share }) {
      const timed = await timeRequests(daemon, setLimit("0,1,2,3,4,5,6,7", true), Math.ceil(80 * share));
      const took = median(timed.requests);
      return [took / 1000, took / median(timed.calls)];
    },
  }),
  contest({
    against: "0.5.0",
    rows: [
      row("200 streams of 8 GPUs at 20 Hz: processor time per second", "CPU s/s", ratio("at most", 1)),
      row("200 streams of 8 GPUs at 20 Hz: p99 of the gap between samples", "ms", ratio("at most", 1)),
    ],
    env: { NVML_STUB_POWER: "changing" },
    async round({ socket, pid }, { share }) {
      // The opening of so many streams must be over.
      const options = { streams: 200, gpus, pid, "warm-up": 2.5, seconds: 3 * share };
      const figures = await runStreams(socket, "/gpu/stream_power", options);
      const sent = figure(figures, "events") / (200 * gpus * 20 * figure(figures, "seconds"));
      if (sent < 0.9) throw new Error(`only ${Math.round(sent * 100)} % of the events came`);
      return [figure(figures, "cpu_s") / figure(figures, "seconds"), figure(figures, "gap_p99_us") / 1000];
    },
  }),
];
