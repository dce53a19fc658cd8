// What leases cost, and how soon what they changed is put back.
import type { ChildProcess } from "node:child_process";
import { request } from "node:http";
import { startProgram } from "./compare/children.ts";
import { ours, withDaemons } from "./own.ts";
import { measurePaired } from "./paired.ts";
import { median } from "./statistics.ts";
import type { Bench, Result, Work } from "./work.ts";

const within = ours("within a lease: more time per request, p50", "µs", 10);
const alone = ours("within a lease, on one processor with the driver's thread: more time per request, p50", "µs", 10);

/** Each write has another value than the one before, as with whoever has something to change. */
const changing = [200_000, 210_000].map(
  (limit) => `POST /gpu/set_power_limit?gpu_ids=0&power_limit_mw=${limit}&block=true`,
);

async function measureWithin(bench: Bench): Promise<readonly Result[]> {
  const args = (): readonly string[] => ["--restore-on-exit"];
  return [
    await measurePaired(bench, within, args, { requests: changing, free: true }),
    await measurePaired(bench, alone, args, { requests: changing }),
  ];
}

const restored = ours("a process is killed: until what it changed is put back, median", "ms", 200);
const slowest = ours("a process is killed: until what it changed is put back, worst", "ms", 200);

/** A program that sets a limit and then stays. */
const holder = `
const { request } = require("node:http");
const path = "/gpu/set_power_limit?gpu_ids=0&power_limit_mw=200000&block=true";
request({ socketPath: process.argv[1], method: "POST", path }, (response) => {
  process.stdout.write(String(response.statusCode));
}).end();
setTimeout(() => {}, 60_000);
`;

async function measureRestored(bench: Bench): Promise<readonly Result[]> {
  const times: number[] = [];
  await withDaemons(bench, [{ args: ["--restore-on-exit"] }], async ([daemon]) => {
    if (!daemon) throw new Error("a daemon is needed");
    const before = await limitOf(daemon.socket);
    for (let round = 0; round < Math.ceil(100 * bench.effort.share); round += 1) {
      const child = await startHolder(daemon.socket);
      if ((await limitOf(daemon.socket)) === before) throw new Error("nothing was set");
      const killedMs = performance.now();
      child.kill("SIGKILL");
      while ((await limitOf(daemon.socket)) !== before) {
        if (performance.now() - killedMs > 10_000) throw new Error("nothing was put back");
      }
      times.push(performance.now() - killedMs);
    }
  });
  const note = `${times.length} processes`;
  return [
    { ...restored, ours: median(times), rounds: times, note },
    { ...slowest, ours: Math.max(...times), rounds: times, note },
  ];
}

async function startHolder(socket: string): Promise<ChildProcess> {
  const child = startProgram([process.execPath, "-e", holder, socket], { stdio: ["ignore", "pipe", "inherit"] });
  const said = await new Promise((resolve, reject) => {
    child.stdout?.once("data", (text: Buffer) => resolve(text.toString()));
    child.once("exit", () => reject(new Error("it ended before it had set anything")));
  });
  if (said !== "200") throw new Error(`it was told ${String(said)}`);
  return child;
}

function limitOf(socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path: "/gpu/get_power_limit?gpu_ids=0" }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part: string) => (text += part));
      response.once("end", () => resolve(text));
    })
      .once("error", reject)
      .end();
  });
}

export const leaseWork: readonly Work[] = [
  { rows: [within, alone], measure: measureWithin },
  { rows: [restored, slowest], measure: measureRestored },
];
