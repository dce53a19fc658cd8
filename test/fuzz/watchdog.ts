// Ends the process if a case of synchronous work never does, and says which: nothing else would get a turn any more.
import { Worker } from "node:worker_threads";

export interface Watchdog {
  /** To be called before each attempt at a case. */
  beat(number: number): void;
  stop(): Promise<void>;
}

/** In plain JavaScript, since a worker cannot load TypeScript. */
const code = `
  const { workerData: { cells, limitMs, seed } } = require("node:worker_threads");
  const { writeSync } = require("node:fs");
  let last = -1;
  let sinceMs = performance.now();
  setInterval(() => {
    const now = Atomics.load(cells, 0);
    const beats = Atomics.load(cells, 1);
    if (beats !== last) { last = beats; sinceMs = performance.now(); return; }
    if (now < 0 || performance.now() - sinceMs < limitMs) return;
    writeSync(2, "FOUND an endless loop: seed " + seed + ", case access " + now + "\\n");
    process.kill(process.pid, "SIGKILL");
  }, 250);
`;

export function startWatchdog(seed: string, limitMs: number): Watchdog {
  const cells = new Int32Array(new SharedArrayBuffer(8));
  const worker = new Worker(code, { eval: true, workerData: { cells, limitMs, seed } });
  worker.unref();
  return {
    beat(number) {
      Atomics.store(cells, 0, number);
      Atomics.add(cells, 1, 1);
    },
    async stop() {
      Atomics.store(cells, 0, -1);
      await worker.terminate();
    },
  };
}
