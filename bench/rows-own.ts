// The work that ours is measured at alone.
import { connect } from "node:net";
import { gpus, timeStart, type Daemon } from "./daemon.ts";
import { ours, withDaemons } from "./own.ts";
import { figure, runLoad } from "./programs.ts";
import { getPower, load, setLimit } from "./rows.ts";
import { median, quotients } from "./statistics.ts";
import type { Bench, Result, Work } from "./work.ts";

// ---- A GPU that hangs ----------------------------------------------------------------------------------------------

const hung = ours("one GPU hangs for ever: p99 on the other GPUs, by that without", "µs", 1.2, "ratio");

/** Three daemons of which one hangs: the two others tell how much two equal runs differ. */
async function measureHung(bench: Bench): Promise<readonly Result[]> {
  const env = { NVML_STUB_FAULTS: `nvmlDeviceSetPowerManagementLimit@${gpus - 1}=hang` };
  const p99s = [[], [], []] as [number[], number[], number[]];
  const rounds = Math.max(bench.effort.rounds, bench.effort.share < 1 ? 0 : 15);
  await withDaemons(bench, [{ env }, { env }, { env }], async (daemons) => {
    const waiting = await askInVain(daemons[2], setLimit(String(gpus - 1), true));
    for (const daemon of daemons) daemon.pause();
    for (let round = 0; round < rounds; round += 1) {
      for (const turn of [0, 1, 2]) {
        const which = (turn + round) % 3;
        const daemon = daemons[which];
        if (!daemon) throw new Error("three daemons are needed");
        daemon.resume();
        const options = { connections: gpus - 1, gpus: gpus - 1, seconds: bench.effort.share };
        const figures = await load(daemon, bench.effort, [setLimit("{gpu}", true)], options);
        daemon.pause();
        p99s[which]?.push(figure(figures, "p99_us"));
      }
    }
    if (waiting.succeeded()) throw new Error("the GPU that should hang has answered");
    waiting.end();
  });
  const [without, equal, beside] = p99s;
  const noise = median(equal) / median(without);
  const allowed = Math.max(1.2, noise, 1 / noise);
  return [
    {
      ...hung,
      target: { ...hung.target, value: allowed },
      ours: median(beside),
      ratio: median(beside) / median(without),
      rounds: quotients(beside, without),
      note: `without: ${median(without).toFixed(0)} µs; two equal runs differ by ${noise.toFixed(2)}; ${rounds} rounds`,
    },
  ];
}

interface Waiting {
  /** The daemon may refuse it after a while; its GPU hangs nevertheless. */
  succeeded(): boolean;
  end(): void;
}

async function askInVain(daemon: Daemon | undefined, request: string): Promise<Waiting> {
  const socket = connect(daemon?.socket ?? "");
  let answer = "";
  socket.setEncoding("latin1").on("data", (text: string) => (answer += text));
  socket.write(`${request} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n`);
  await new Promise((resolve) => setTimeout(resolve, 200));
  socket.on("error", () => {});
  return { succeeded: () => answer.startsWith("HTTP/1.1 200"), end: () => socket.destroy() };
}

// ---- Many connections ----------------------------------------------------------------------------------------------

const open = ours("1 to 1000 open connections, 16 of them active: p50, by that without the others", "µs", 1.3, "ratio");

async function measureOpen(bench: Bench): Promise<readonly Result[]> {
  const p50s = { few: [] as number[], many: [] as number[] };
  await withDaemons(bench, [{}], async ([daemon]) => {
    for (let round = 0; round < bench.effort.rounds; round += 1) {
      for (const which of round % 2 === 0 ? (["few", "many"] as const) : (["many", "few"] as const)) {
        if (!daemon) throw new Error("a daemon is needed");
        const options = { connections: 16, idle: which === "many" ? 984 : 0 };
        const figures = await load(daemon, bench.effort, [setLimit("{gpu}", true)], options);
        p50s[which].push(figure(figures, "p50_us"));
        await new Promise((resolve) => setTimeout(resolve, 100)); // until it has let go of them
      }
    }
  });
  const growth = median(p50s.many) / median(p50s.few);
  const note = `16 open connections: ${median(p50s.few).toFixed(0)} µs`;
  return [{ ...open, ours: median(p50s.many), ratio: growth, rounds: quotients(p50s.many, p50s.few), note }];
}

// ---- Start and memory ----------------------------------------------------------------------------------------------

const start = ours("start to `Listening on` with 8 GPUs", "ms", 200);

async function measureStart(bench: Bench): Promise<readonly Result[]> {
  const times = { ours: [] as number[], "0.5.0": [] as number[] };
  const starts = bench.effort.share < 1 ? 5 : 20;
  for (let turn = 0; turn < starts; turn += 1) {
    const order = turn % 2 === 0 ? (["ours", "0.5.0"] as const) : (["0.5.0", "ours"] as const);
    for (const which of order) times[which].push(await timeStart(bench.programs, bench.freshFolder(), which));
  }
  const note = `median of ${starts}`;
  return [{ ...start, ours: median(times.ours), original: median(times["0.5.0"]), rounds: times.ours, note }];
}

const resident = ours("resident memory after 200,000 requests", "MB", 85);
const growth = ours("resident memory after 1,200,000 requests: growth since", "MB", 5);

async function measureMemory(bench: Bench): Promise<readonly Result[]> {
  const thousand = bench.effort.share < 1 ? 100 : 1000;
  const requests = [setLimit("{gpu}", true), getPower("{gpu}"), setLimit("{gpu}", false)];
  const sizes = await withDaemons(bench, [{}], async ([daemon]) => {
    if (!daemon) throw new Error("a daemon is needed");
    const after = async (count: number): Promise<number> => {
      const options = { connections: 16, gpus, "warm-up": 0, requests: count };
      await runLoad(daemon.socket, { requests, options });
      return daemon.residentMegabytes();
    };
    return [daemon.residentMegabytes(), await after(200 * thousand), await after(1000 * thousand)] as const;
  });
  const [fresh, first, second] = sizes;
  const quick = thousand < 1000 ? "; a tenth of the requests only" : "";
  const note = `16 connections, set_power_limit with and without block, get_power; at the start ${fresh.toFixed(1)} MB${quick}`;
  return [
    { ...resident, ours: first, rounds: [], note },
    { ...growth, ours: second - first, rounds: [] },
  ];
}

export const ownWork: readonly Work[] = [
  { rows: [hung], measure: measureHung },
  { rows: [open], measure: measureOpen },
  { rows: [start], measure: measureStart },
  { rows: [resident, growth], measure: measureMemory },
];
