// A process that asks over a Unix socket, and whose end the test decides.
import type { Peer } from "../../src/access/actor.ts";
import type { Values } from "../../src/contract/field.ts";
import type { HeldProcess } from "../../src/contract/lease.ts";
import type { FakeMachine } from "./fake-machine.ts";
import type { Answer } from "./subject.ts";

export interface Holder {
  readonly peer: Peer;
  /** How many handles on it are open. */
  readonly handles: number;
  /** Ends it; settles when whoever watches it has heard of that. */
  die(): Promise<void>;
}

export interface HolderOptions {
  readonly uid?: number;
  readonly parent?: Holder;
  /** When it began; by default that is its number's alone. */
  readonly started?: number;
  /** It is of another pid namespace: nobody can name it, and nobody can watch it. */
  readonly hidden?: boolean;
}

export function createHolder(
  pid: number,
  { uid = 1000, parent, hidden = false, started = 10_000 + pid }: HolderOptions = {},
): Holder {
  const itself = { pid, started };
  const lineage = hidden ? [] : [itself, ...(parent?.peer.lineage() ?? [])];
  const handles = new Map<HeldProcess, () => void>();
  let lives = !hidden;
  const hold = (): HeldProcess | undefined => {
    if (!lives) return undefined;
    const held: HeldProcess = {
      ...itself,
      onEnd: (callback) => void handles.set(held, callback),
      close: () => void handles.delete(held),
    };
    handles.set(held, () => {});
    return held;
  };
  return {
    peer: {
      uid,
      gid: uid,
      groups: new Set([uid]),
      ...(hidden ? {} : { pid }),
      program: () => (hidden ? undefined : `program-${pid}`),
      lineage: () => lineage,
      hold,
    },
    get handles() {
      return handles.size;
    },
    async die() {
      lives = false;
      const ends = [...handles.values()];
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
      for (const end of ends) end();
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
    },
  };
}

/** What a lease is shown as, with whatever the reply has besides. */
export interface ShownLease {
  readonly lease_id: string;
  readonly lease: number;
  readonly gpu_ids: readonly number[];
  readonly exclusive: boolean;
  readonly implicit: boolean;
  readonly reason: string | null;
  readonly since_ms: number;
  readonly expires_ms: number | null;
  readonly holder: Readonly<Record<"uid" | "pid" | "program" | "sub", number | string | null>>;
}

export function leaseOf({ status, body }: Answer): ShownLease {
  if (status !== 200) throw new Error(`no lease, but ${status}: ${body}`);
  return JSON.parse(body) as ShownLease;
}

export function json({ body }: Pick<Answer, "body">): unknown {
  return JSON.parse(body);
}

/** A refusal: its status, its code and its sentence. */
export function gistOf(answer: Answer): readonly [status: number, code: string | undefined, error: string | undefined] {
  const { code, error } = json(answer) as { readonly code?: string; readonly error?: string };
  return [answer.status, code, error];
}

/** The line that sets a power limit, on GPU 0 and waiting unless it says otherwise. */
export function limit(power_limit_mw: number, { gpus = "0", block = true, more = "" } = {}): string {
  return `POST /gpu/set_power_limit?gpu_ids=${gpus}&power_limit_mw=${power_limit_mw}&block=${block}${more}`;
}

/** What the driver was asked to set, in order, for example `gpu 0 setPowerLimit 250000` and `gpu 1 resetGpuLockedClocks`. */
export function written({ calls }: Pick<FakeMachine, "calls">): readonly string[] {
  return calls
    .filter((call) => /^gpu \d+ (set|reset)/.test(call))
    .map((call) => {
      const [, what = "", parameters = "{}"] = /^(.*?) (\{.*)$/.exec(call) ?? [];
      return [what, ...Object.values(JSON.parse(parameters) as Values)].join(" ");
    });
}

/** The same of power limits alone, for example `250000@0`. */
export function limits(machine: Pick<FakeMachine, "calls">): readonly string[] {
  return written(machine).flatMap((call) => {
    const [, gpu, mw] = /^gpu (\d+) setPowerLimit (\d+)$/.exec(call) ?? [];
    return gpu === undefined ? [] : [`${mw}@${gpu}`];
  });
}

/** Has GPUs tell what they were set to last. */
export function rememberSettings({ answer, calls }: FakeMachine, gpus: readonly number[] = [0, 1]): void {
  const lastOf = (call: string, otherwise: Values) => async (): Promise<Values> => {
    const last = calls.findLast((one) => one.startsWith(`${call} {`));
    return last === undefined ? otherwise : (JSON.parse(last.slice(call.length)) as Values);
  };
  for (const gpu of gpus) {
    const limitOf = lastOf(`gpu ${gpu} setPowerLimit`, { power_limit_mw: 300_000 });
    answer(`gpu ${gpu}`, "getPowerLimit", limitOf);
    answer(`gpu ${gpu}`, "getEnforcedPowerLimit", limitOf);
    answer(`gpu ${gpu}`, "getPersistenceMode", lastOf(`gpu ${gpu} setPersistenceMode`, { enabled: false }));
  }
}
