// A daemon with one GPU, for tests of its settings.
import type { Values } from "../../src/contract/field.ts";
import type { Lease } from "../../src/contract/lease.ts";
import type { Attempt } from "../../src/settings/attempt.ts";
import { createFakeClock } from "../fake-clock.ts";
import { createFakeDaemon, type FakeDaemonParts } from "./fake-daemon.ts";
import { createFakeGpu, rowOf } from "./fake-gpu.ts";
import { createFakeProcesses } from "./fake-processes.ts";
import { createMemoryJournal } from "./memory-journal.ts";

export const watts = (power: number): Values => ({ power_limit_mw: 1_000 * power });
export const clocks = (min: number): Values => ({ min_clock_mhz: min, max_clock_mhz: 2_000 });
export const setPower = rowOf("setPowerLimit");
export const setClocks = rowOf("setGpuLockedClocks");
export const setMemoryClocks = rowOf("setMemLockedClocks");

/** One GPU, which has 300 W, persistence mode off and no locked clocks. */
export function createSubject(options: Partial<FakeDaemonParts> = {}) {
  const clock = createFakeClock();
  const processes = createFakeProcesses();
  const gpu = createFakeGpu();
  const journal = createMemoryJournal();
  const parts = { clock, processes, journal, gpus: [gpu], ...options };
  const daemon = createFakeDaemon(parts);
  const member = daemon.member();
  const { leases } = daemon.settings;
  let pid = 100;
  return {
    clock,
    gpu,
    journal,
    daemon,
    member,
    leases,
    acquire: (): Lease =>
      leases.acquire(processes.claimant(processes.begin((pid += 1))), {
        gpus: [{ key: "GPU-0", name: "GPU 0" }],
        exclusive: false,
      }),
    async release(lease: Lease) {
      leases.end(lease, "released");
      await clock.advance(0);
    },
    power: (power: number, lease?: Lease, attempt?: Attempt) => member.write(setPower, watts(power), lease, attempt),
    lock: (min: number, lease?: Lease, attempt?: Attempt) => member.write(setClocks, clocks(min), lease, attempt),
    /** What was written to the driver, or was to be. */
    written: () => gpu.writes.splice(0).map(({ value }) => value),
    named: (name: string) => daemon.events.filter(({ event }) => event === name),
    /** The daemon is killed, and another takes its place. */
    restart() {
      daemon.kill();
      const again = createMemoryJournal(journal.records);
      return { daemon: createFakeDaemon({ ...parts, journal: again }) };
    },
  };
}
