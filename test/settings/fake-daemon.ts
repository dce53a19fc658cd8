// A daemon's settings over GPUs, processes and a journal that a test has in its hands, with lanes of their own.
import type { Clock } from "../../src/contract/clock.ts";
import { ZeusdError } from "../../src/contract/errors.ts";
import { Events, type DaemonEvent } from "../../src/contract/events.ts";
import type { Values } from "../../src/contract/field.ts";
import { Health } from "../../src/contract/health.ts";
import type { Lease } from "../../src/contract/lease.ts";
import type { Row, Setting } from "../../src/contract/operations.ts";
import { LastKnown } from "../../src/devices/last-known.ts";
import type { Attempt } from "../../src/settings/attempt.ts";
import type { GpuSettings } from "../../src/settings/gpu-settings.ts";
import { leaseOver } from "../../src/settings/lease-refusals.ts";
import { Settings } from "../../src/settings/settings.ts";
import { createQuietLog } from "../quiet-log.ts";
import type { FakeGpu } from "./fake-gpu.ts";
import type { FakeProcesses } from "./fake-processes.ts";
import type { MemoryJournal } from "./memory-journal.ts";

/** A write that is in the driver. */
export interface DriverWrite {
  readonly gpu: number;
  readonly setting: Setting;
  readonly value: Values;
  /** The lease within which a client asked for it. */
  readonly lease: Lease | undefined;
  /** Whether it puts something back. */
  readonly restores: boolean;
}

/** Hears what happens, for a test that holds it against a model. */
interface Observer {
  began?(write: DriverWrite): void;
  returned?(write: DriverWrite, error: unknown): void;
  ended?(lease: Lease): void;
}

export interface FakeDaemonParts {
  readonly gpus: readonly FakeGpu[];
  readonly processes: FakeProcesses;
  readonly clock: Clock;
  /** Absent where nothing is remembered over restarts. */
  readonly journal?: MemoryJournal | undefined;
  readonly reassert?: boolean;
  readonly observer?: Observer;
}

interface Work {
  readonly lease?: Lease | undefined;
  /** What a client asked for; absent for what the daemon does of itself. */
  readonly row?: Row;
  readonly parameters?: Values;
  call(): Promise<Values>;
}

interface Waiting extends Work {
  readonly resolve: (values: Values) => void;
  readonly reject: (error: unknown) => void;
}

/** One thing at a time, in order. */
class FakeLane {
  readonly #life: { readonly isOver: boolean };
  readonly #waiting: Waiting[] = [];
  running: Work | undefined;

  constructor(life: { readonly isOver: boolean }) {
    this.#life = life;
  }

  run(work: Work): Promise<Values> {
    return this.#add(work, (one) => this.#waiting.push(one));
  }

  runFirst(work: Work): Promise<Values> {
    return this.#add(work, (one) => this.#waiting.unshift(one));
  }

  drop({ number }: Lease, error: Error): void {
    const all = this.#waiting.splice(0);
    for (const one of all) {
      if (one.lease?.number === number) one.reject(error);
      else this.#waiting.push(one);
    }
  }

  get isIdle(): boolean {
    return !this.running;
  }

  #add(work: Work, put: (waiting: Waiting) => void): Promise<Values> {
    return new Promise((resolve, reject) => {
      put({ ...work, resolve, reject });
      if (!this.running) this.#next();
    });
  }

  #next(): void {
    // What ran when a daemon was killed can still be seen.
    if (this.#life.isOver) return;
    const one = this.#waiting.shift();
    this.running = one;
    if (!one) return;
    one.call().then(
      (values) => {
        one.resolve(values);
        this.#next();
      },
      (error: unknown) => {
        one.reject(error);
        this.#next();
      },
    );
  }
}

interface FakeMember {
  readonly key: string;
  readonly settings: GpuSettings;
  readonly lane: FakeLane;
  /** The errors with which restorations have failed. */
  readonly failures: unknown[];
  /** As a command in the lane. */
  write(row: Row, parameters: Values, lease?: Lease, attempt?: Attempt): Promise<Values>;
  /** The same for what reads. */
  read(row: Row): Promise<Values>;
  /** The GPU is opened anew. */
  reopen(): void;
}

export interface FakeDaemon {
  readonly settings: Settings;
  readonly members: readonly FakeMember[];
  readonly events: DaemonEvent[];
  readonly log: ReturnType<typeof createQuietLog>;
  readonly health: Health;
  readonly isDead: boolean;
  member(id?: number): FakeMember;
  /** Nothing that it would do later is done. */
  kill(): void;
}

/** How long to wait before what has failed is tried again, in ms. */
export const retryMs = 1_000;

export function createFakeDaemon(parts: FakeDaemonParts): FakeDaemon {
  const { gpus, processes, journal, reassert = false } = parts;
  const life = { isOver: false };
  const clock: Clock = {
    ...parts.clock,
    after: (ms, callback) => parts.clock.after(ms, () => !life.isOver && callback()),
  };
  const log = createQuietLog();
  const health = new Health();
  const told = new Events(() => clock.epochMs());
  const events: DaemonEvent[] = [];
  told.listen((event) => void events.push(event));
  let ids = 0;
  const settings = new Settings({
    clock,
    log,
    health,
    events: told,
    journal: journal && { file: journal, records: [...journal.records] },
    openProcess: (process) => processes.open(process),
    reassert,
    newId: () => (ids += 1).toString(16).padStart(32, "0"),
  });
  const members = gpus.map((gpu, id) => createMember(id, gpu, { ...parts, clock, settings, life }));
  return {
    settings,
    members,
    events,
    log,
    health,
    get isDead() {
      return life.isOver;
    },
    member(id = 0) {
      const member = members[id];
      if (!member) throw new Error(`There is no GPU ${id}`);
      return member;
    },
    kill() {
      life.isOver = true;
      processes.forgetHolders();
      journal?.abandon();
    },
  };
}

interface MemberParts extends FakeDaemonParts {
  readonly settings: Settings;
  readonly life: { readonly isOver: boolean };
}

function createMember(id: number, gpu: FakeGpu, { clock, settings, life, observer }: MemberParts): FakeMember {
  const lane = new FakeLane(life);
  const lastKnown = new LastKnown();
  const failures: unknown[] = [];
  const key = `GPU-${id}`;
  let settling = false;

  async function call(row: Row, parameters: Values): Promise<Values> {
    // What a daemon does that was killed has no effect.
    if (life.isOver) return new Promise(() => {});
    const [setting] = row.kind === "write" ? (row.settings ?? []) : [];
    const { lease, row: asked } = lane.running ?? {};
    const write = setting && { gpu: id, setting, value: parameters, lease, restores: !asked };
    if (write) observer?.began?.(write);
    try {
      const values = await gpu.call(row, parameters);
      if (life.isOver) return await new Promise(() => {});
      lastKnown.learn(row, parameters, values, clock.monotonicMs());
      if (row.tells?.value === "set") own.found(row.tells.setting, values);
      if (write) observer?.returned?.(write, undefined);
      return values;
    } catch (error) {
      if (life.isOver) return await new Promise(() => {});
      if (!(error instanceof ZeusdError && error.code === "invalid_argument")) lastKnown.doubt(row);
      if (write) observer?.returned?.(write, error);
      throw error;
    }
  }

  function settle(): void {
    if (life.isOver || settling || !own.owes) return;
    settling = true;
    lane.runFirst({ call: () => own.settle() }).then(
      () => {
        settling = false;
        settle();
      },
      (error: unknown) => {
        settling = false;
        failures.push(error);
        clock.after(retryMs, settle);
      },
    );
  }

  const own = settings.add(
    {
      id,
      name: `GPU ${id}`,
      key: () => key,
      call,
      known: (setting) => lastKnown.setting(setting)?.values,
      owes: settle,
    },
    (lease) => {
      if (life.isOver) return;
      observer?.ended?.(lease);
      lane.drop(lease, leaseOver(lease));
      settle();
    },
  );

  function open(): void {
    lastKnown.forget();
    settings.recall(own, key);
    own.reclaim();
    settle();
  }

  open();
  return {
    key,
    settings: own,
    lane,
    failures,
    write: (row, parameters, lease, attempt) =>
      lane.run({ lease, row, parameters, call: () => own.write(row, parameters, lease, attempt) }),
    read: (row) => lane.run({ row, call: () => call(row, {}) }),
    reopen: open,
  };
}
