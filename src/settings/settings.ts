// The settings of all GPUs with the leases that change them: what a daemon remembers, and what it tells its journal.
import { randomBytes } from "node:crypto";
import type { Clock } from "../contract/clock.ts";
import type { Events } from "../contract/events.ts";
import type { Health } from "../contract/health.ts";
import type { GpuKey, HeldProcess, Lease, ProcessId } from "../contract/lease.ts";
import type { Log } from "../contract/log.ts";
import type { Setting } from "../contract/operations.ts";
import { GpuSettings, type GpuAccess, type SettingsParts } from "./gpu-settings.ts";
import type { JournalFile } from "./journal-file.ts";
import { Journal } from "./journal.ts";
import { Leases } from "./leases.ts";
import { readRecord } from "./read-record.ts";
import { endLayers, recordsOf, replay, type JournalRecord, type Knob, type Remembered } from "./records.ts";

export interface SettingsOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly health: Health;
  readonly events: Events;
  /** Where things are remembered over restarts, with what a daemon before has left there. */
  readonly journal?: { readonly file: JournalFile; readonly records: readonly unknown[] } | undefined;
  /** A handle on a process that a daemon before knew; undefined if that has ended. */
  readonly openProcess: (process: ProcessId) => HeldProcess | undefined;
  /** Whether what was changed behind the daemon's back is put right. */
  readonly reassert: boolean;
  readonly newId?: () => string;
}

/** A GPU, with what has to be done when a lease that has changed something there has ended. */
interface Settled {
  readonly settings: GpuSettings;
  readonly gpu: GpuAccess;
  readonly ended: (lease: Lease) => void;
}

export class Settings {
  readonly leases: Leases;
  readonly #journal: Journal;
  readonly #shared: SettingsParts;
  readonly #gpus: Settled[] = [];
  /** What is remembered of GPUs that have not been seen since the start. */
  readonly #unseen: Remembered["gpus"];
  #lastOrder: number;

  constructor({ clock, log, health, events, journal, openProcess, reassert, newId = randomId }: SettingsOptions) {
    this.#journal = new Journal({ file: journal?.file, clock, log, health });
    const remembered = replay(journal ? recordsIn(journal.records, log) : []);
    this.#unseen = withoutOrphans(remembered);
    this.#lastOrder = remembered.lastOrder;
    this.leases = new Leases({
      clock,
      log,
      journal: this.#journal,
      events,
      newId,
      idOf: (key) => this.#find(key)?.gpu.id,
      changedBy: (lease) => this.#gpus.flatMap(({ gpu, settings }) => (settings.has(lease) ? gpu.key() : [])),
      ended: (lease) => this.#ended(lease),
    });
    this.#shared = {
      journal: this.#journal,
      log,
      events,
      reassert,
      nextOrder: () => (this.#lastOrder += 1),
      lives: (lease) => this.leases.lives(lease),
      enter: (lease, gpu) => this.leases.enter(lease, gpu),
    };
    this.leases.adopt(remembered.leases.values(), remembered.lastLease, openProcess);
    this.#journal.startWith(() => this.#records());
  }

  /** The settings of a GPU. `ended` hears of every lease that has ended: what waits to be written within it is over. */
  add(gpu: GpuAccess, ended: (lease: Lease) => void): GpuSettings {
    const settings = new GpuSettings(this.#shared, gpu);
    this.#gpus.push({ settings, gpu, ended });
    return settings;
  }

  /** A GPU is there: what is remembered of it becomes its own. */
  recall(settings: GpuSettings, key: GpuKey): void {
    const knobs = this.#unseen.get(key);
    if (knobs && this.#unseen.delete(key)) settings.remember(knobs);
  }

  /** The GPUs on which leases have changed something, and which have not been seen since the start. */
  get missing(): readonly GpuKey[] {
    return [...this.#unseen].flatMap(([key, knobs]) => ([...knobs.values()].some(({ touched }) => touched) ? key : []));
  }

  /** Sees to it that the journal is where the next daemon looks for it. */
  lookAfterJournal(): void {
    this.#journal.look();
  }

  /** Writes the journal anew and closes it. */
  close(): void {
    this.#journal.tidy();
    this.#journal.close();
  }

  #find(key: GpuKey): Settled | undefined {
    return this.#gpus.find(({ gpu }) => gpu.key() === key);
  }

  #ended(lease: Lease): void {
    for (const knobs of this.#unseen.values()) endLayers(knobs, lease.number);
    for (const { settings, ended } of this.#gpus) {
      settings.end(lease.number);
      ended(lease);
    }
  }

  #records(): Iterable<JournalRecord> {
    const seen = this.#gpus.map(({ gpu, settings }) => [gpu.key(), settings.remembered()] as const);
    const gpus: readonly (readonly [GpuKey, Iterable<readonly [Setting, Knob]>])[] = [...seen, ...this.#unseen];
    return recordsOf({ leases: this.leases.entered(), lastLease: this.leases.last, gpus });
  }
}

/** A layer whose lease nobody knows would never end. */
function withoutOrphans({ gpus, leases }: Remembered): Remembered["gpus"] {
  for (const knobs of gpus.values()) {
    const numbers = [...knobs.values()].flatMap(({ layered }) => [...layered.layers.keys()]);
    for (const number of numbers) if (!leases.has(number)) endLayers(knobs, number);
  }
  return gpus;
}

function randomId(): string {
  return randomBytes(16).toString("hex");
}

function* recordsIn(found: readonly unknown[], log: Log): Iterable<JournalRecord> {
  for (const one of found) {
    const record = readRecord(one);
    // Its checksum was right, so this is no damage: somebody else has written it.
    if (record) yield record;
    else
      log.error(
        `The journal of leases holds a record that nobody here understands, which is left out: ${JSON.stringify(one)}`,
      );
  }
}
