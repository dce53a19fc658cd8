// One round of the kill matrix: clients write, somebody is killed at a chosen point, and what is there afterwards is looked at.
import { setTimeout as pause } from "node:timers/promises";
import { settings, type Setting } from "../../src/contract/operations.ts";
import type { Random } from "../fuzz/random.ts";
import { alice, bob } from "./governed.ts";
import { eventually } from "./http-client.ts";
import type { LeaseClient } from "./lease-clients.ts";
import type { KillModel, Write } from "./kill-model.ts";
import { gpuCount, readable, settersOf, symbols, targetOf, valueText } from "./kill-rig.ts";
import type { LeaseRig } from "./lease-rig.ts";
import { isRoot } from "./ordinary-user.ts";

export const victims = ["client", "daemon", "both"] as const;
export const points = [
  "before the journal",
  "between journal and driver",
  "after the driver",
  "with writes still queued",
  "while restoring",
  "idle",
] as const;
export const modes = ["shared", "exclusive", "implicit"] as const;

export interface Cell {
  readonly victim: (typeof victims)[number];
  readonly point: (typeof points)[number];
  readonly mode: (typeof modes)[number];
}

export interface Outcome {
  /** Whether the kill came at the point truly. */
  readonly hit: boolean;
  /** From the death of a client, or the return of a driver call that it waited for, to the last GPU that is as it should be. */
  readonly restoredMs: readonly number[];
}

/** How long it may take until everything is where it should be, in ms. */
const mostMs = 2_000;

export class Round {
  readonly #rig: LeaseRig;
  readonly #model: KillModel;
  readonly #cell: Cell;
  readonly #random: Random;
  readonly #restoredMs: number[] = [];
  readonly #clients = new Map<string, LeaseClient>();
  /** What will have happened once the driver is let go, if the daemon lives. */
  readonly #underWay: { readonly write: Write; readonly atDriver: boolean }[] = [];
  /** The rules that the driver breaks by; empty when it is well. */
  #rules: string[] = [];
  /** Whose lease is over while they live. */
  readonly #released = new Set<string>();
  /** The order of the newest write in the journal before the one for which the round was brought to its point. */
  #newestBefore = 0;
  /** What the round did, for whoever has to understand a failure. */
  readonly story: string[] = [];

  constructor(rig: LeaseRig, model: KillModel, cell: Cell, random: Random) {
    this.#rig = rig;
    this.#model = model;
    this.#cell = cell;
    this.#random = random;
  }

  /** Rejects with an Error that says what is wrong. */
  async play(): Promise<Outcome> {
    const { mode, victim } = this.#cell;
    await this.#join("victim", mode);
    if (mode !== "exclusive" && this.#random.chance(0.4)) {
      await this.#join("bystander", mode === "implicit" ? "implicit" : this.#random.pick(["shared", "implicit"]));
    }
    const gpu = this.#random.below(gpuCount);
    const setting = this.#choose(gpu);
    await this.#warmUp(gpu, setting);
    const hit = await this.#reach(gpu, setting);
    if (victim === "client") await this.#killClient();
    else await this.#killDaemon();
    await this.#goOn();
    return { hit, restoredMs: this.#restoredMs };
  }

  async #join(name: string, mode: Cell["mode"]): Promise<void> {
    const client = await this.#rig.clients.start(name === "victim" ? alice : bob);
    this.#clients.set(name, client);
    this.#tell(`${name} is pid ${client.pid}, ${mode}`);
    if (mode === "implicit") return;
    const target = `/lease/acquire?gpu_ids=0,1&exclusive=${mode === "exclusive"}&reason=${name}`;
    const { status, body } = await client.post(target);
    if (status !== 200) throw new Error(`${name} gets no lease: ${status} ${body}`);
  }

  /** A setting that can be brought to the cell's point: only what is read has something before the journal. */
  #choose(gpu: number): Setting {
    const may = this.#cell.point === "before the journal" ? readable : settings;
    const sure = may.filter((setting) => this.#underneath(gpu, setting).size === 1);
    return this.#random.pick(sure.length > 0 ? sure : (["power_limit"] as const));
  }

  /** What would be there without the victim. */
  #underneath(gpu: number, setting: Setting): ReadonlySet<string> {
    return this.#model.allowed(gpu, setting, this.#living("victim"));
  }

  async #warmUp(gpu: number, setting: Setting): Promise<void> {
    const writers = [...this.#clients.keys(), ...(isRoot ? ["nobody"] : [])];
    for (let count = this.#random.below(4); count > 0; count -= 1) {
      const [where, what] = [this.#random.below(gpuCount), this.#random.pick(settings)];
      const who = this.#random.pick(writers);
      // What leases have changed already is not read again before the journal.
      const isReserved = this.#cell.point === "before the journal" && where === gpu && what === setting;
      if (!isReserved) await this.#set(who, where, what, this.#newValue(where, what));
    }
  }

  /** A value that is not there, or while restoring would not be there without the victim; where it can be, both. */
  #newValue(gpu: number, setting: Setting): string {
    const underneath = this.#underneath(gpu, setting);
    const now = this.#rig.driver.gpus()[gpu]?.[setting];
    const isRestored = this.#cell.point === "while restoring";
    const fits = (value: string): boolean => (isRestored ? !underneath.has(value) : value !== now);
    const values = this.#random.times(50, () => this.#anyValue(setting)).filter(fits);
    return values.find((value) => value !== now && !underneath.has(value)) ?? values[0] ?? this.#anyValue(setting);
  }

  #anyValue(setting: Setting): string {
    const random = this.#random;
    if (setting === "power_limit") return String(1000 * random.between(100, 400));
    if (setting === "persistence_mode") return random.pick(["on", "off"]);
    if (random.chance(0.1)) return "unlocked";
    const min = 15 * random.between(14, 60);
    return `${min}-${min + 15 * random.below(60)}`;
  }

  /** Writes and waits until it is set. */
  async #set(who: string, gpu: number, setting: Setting, value: string): Promise<void> {
    const { status, body } = await this.#post(who, targetOf(gpu, setting, value, true));
    this.#tell(`${who} sets ${setting} of GPU ${gpu} to ${value}: ${status}`);
    if (status !== 200) throw new Error(`${who} cannot write: ${status} ${body}`);
    this.#model.write({ gpu, setting, value, holder: who === "nobody" ? undefined : who });
    const found = this.#rig.driver.gpus()[gpu]?.[setting];
    if (found !== value) throw new Error(`${setting} of GPU ${gpu} is ${found} after a 200 for ${value}`);
  }

  #post(who: string, target: string, alone = false): Promise<{ readonly status: number; readonly body: string }> {
    const client = this.#clients.get(who);
    if (!client) return this.#rig.post(target);
    return alone ? client.postAlone(target) : client.post(target);
  }

  /** Sends a write that is not answered, or not set, before the driver is let go. */
  #send(who: string, gpu: number, setting: Setting, value: string, block: boolean, atDriver: boolean) {
    this.#tell(`${who} asks for ${setting} of GPU ${gpu} at ${value}${atDriver ? "" : ", behind others"}`);
    const write = this.#model.write({ gpu, setting, value, holder: who === "nobody" ? undefined : who });
    this.#underWay.push({ write, atDriver });
    const answer = this.#post(who, targetOf(gpu, setting, value, block), true);
    // Whoever is killed gets none.
    answer.catch(() => {});
    return answer;
  }

  async #reach(gpu: number, setting: Setting): Promise<boolean> {
    const { point } = this.#cell;
    this.#tell(`to be killed ${point}, at ${setting} of GPU ${gpu}`);
    const value = this.#newValue(gpu, setting);
    this.#newestBefore = this.#newestOrder();
    if (point === "idle" || point === "while restoring") {
      await this.#set("victim", gpu, setting, value);
      if (point === "while restoring") return this.#reachRestoration(gpu, setting);
      return this.#hasLayer(gpu, setting, value);
    }
    if (point === "before the journal") return this.#reachGetter(gpu, setting, value);
    if (point === "after the driver") return this.#reachEffect(gpu, setting, value);
    await this.#distract(1 - gpu);
    return this.#reachSetter(gpu, setting, value);
  }

  /** Sometimes the driver is at a write without a lease as well, on another GPU. */
  async #distract(gpu: number): Promise<void> {
    if (!isRoot || !this.#random.chance(0.3)) return;
    const { setter } = symbols.power_limit;
    const hung = this.#hung(setter, gpu);
    this.#break(`${setter}@${gpu}=hang`);
    void this.#send("nobody", gpu, "power_limit", this.#newValue(gpu, "power_limit"), true, true);
    await hung();
  }

  async #reachGetter(gpu: number, setting: Setting, value: string): Promise<boolean> {
    const getter = symbols[setting].getter ?? "";
    const hung = this.#hung(getter, gpu);
    this.#break(`${getter}@${gpu}=hang`);
    void this.#send("victim", gpu, setting, value, this.#random.chance(0.5), true);
    await hung();
    return !this.#hasLayer(gpu, setting, value);
  }

  async #reachEffect(gpu: number, setting: Setting, value: string): Promise<boolean> {
    for (const setter of settersOf(setting)) this.#break(`${setter}@${gpu}=hold`);
    let answered = false;
    const write = this.#send("victim", gpu, setting, value, true, true);
    write.then(
      () => (answered = true),
      () => {},
    );
    await eventually(() => this.#rig.driver.gpus()[gpu]?.[setting] === value);
    await eventually(() => this.#hasLayer(gpu, setting, value));
    return !answered;
  }

  async #reachSetter(gpu: number, setting: Setting, value: string): Promise<boolean> {
    const isQueued = this.#cell.point === "with writes still queued";
    const hung = settersOf(setting).map((setter) => this.#hung(setter, gpu));
    for (const setter of settersOf(setting)) this.#break(`${setter}@${gpu}=hang`);
    const first = this.#send("victim", gpu, setting, value, !isQueued && this.#random.chance(0.5), true);
    await Promise.race(hung.map((wait) => wait()));
    await eventually(() => this.#hasLayer(gpu, setting, value));
    if (isQueued) {
      await first;
      for (let count = this.#random.between(1, 4); count > 0; count -= 1) await this.#queue(gpu);
    }
    return this.#rig.driver.gpus()[gpu]?.[setting] !== value;
  }

  /** A write that waits in the lane of a GPU. */
  async #queue(gpu: number): Promise<void> {
    const setting = this.#random.pick(settings);
    const who = this.#random.pick([...this.#clients.keys(), ...(isRoot ? ["nobody"] : [])]);
    const { status } = await this.#send(who, gpu, setting, this.#newValue(gpu, setting), false, false);
    if (status !== 200) throw new Error(`a write of ${who} is not queued: ${status}`);
  }

  async #reachRestoration(gpu: number, setting: Setting): Promise<boolean> {
    const { victim } = this.#cell;
    const how = this.#random.pick(["hang", "hold"]);
    const lease = await this.#leaseOf("victim");
    const calls = settersOf(setting).map((setter) => this.#called(setter, gpu, how));
    for (const setter of settersOf(setting)) this.#break(`${setter}@${gpu}=${how}`);
    if (victim === "both" && this.#random.chance(0.5)) await this.#kill("victim");
    else {
      const answer = this.#post("victim", `/lease/release?lease=${lease}`, true);
      answer.catch(() => {});
    }
    this.#released.add("victim");
    await Promise.race(calls.map((wait) => wait()));
    return this.#rig.journal().some((line) => line.record === "ended" && line.lease === lease);
  }

  async #leaseOf(who: string): Promise<number> {
    const pid = this.#clients.get(who)?.pid;
    const lease = (await this.#rig.leases()).find(({ holder }) => holder.pid === pid);
    if (!lease) throw new Error(`${who} has no lease`);
    return lease.lease;
  }

  #living(except?: string): ReadonlySet<string> {
    return new Set([...this.#clients.keys()].filter((name) => name !== except && !this.#released.has(name)));
  }

  async #kill(name: string): Promise<void> {
    const client = this.#clients.get(name);
    this.#tell(`${name} is killed`);
    this.#clients.delete(name);
    await client?.kill();
  }

  async #killClient(): Promise<void> {
    let sinceMs = performance.now();
    await this.#kill("victim");
    await pause(this.#random.pick([0, 0, 5, 60]));
    if (this.#rules.length > 0) sinceMs = performance.now();
    this.#mend();
    await this.#whenRight("the client was killed", sinceMs);
  }

  /** What has to be so within the time that it may take, is; from then on all that was under way has happened. */
  async #whenRight(after: string, sinceMs: number, isTimed = true): Promise<void> {
    const endMs = performance.now() + mostMs;
    let complaints = this.#complaints();
    while (complaints.length > 0) {
      if (performance.now() > endMs) throw new Error(`${mostMs} ms after ${after}: ${complaints.join("; ")}`);
      await pause(1);
      complaints = this.#complaints();
    }
    if (isTimed) this.#restoredMs.push(performance.now() - sinceMs);
    this.#tell(`all is well after ${after}`);
  }

  #complaints(): readonly string[] {
    return this.#model.complaints(this.#rig.driver.gpus(), this.#living());
  }

  async #killDaemon(): Promise<void> {
    const { victim } = this.#cell;
    // The client dies before the daemon, or while there is none, or not at all.
    const isFirst = victim === "both" && this.#clients.has("victim") && this.#random.chance(0.5);
    if (isFirst) {
      await this.#kill("victim");
      await pause(this.#random.pick([0, 0, 20]));
    }
    await this.#rig.killDaemon();
    this.#tell("the daemon is killed");
    this.#settleFates();
    this.#mend();
    const isLate = victim === "both" && this.#clients.has("victim");
    if (this.#random.chance(0.2)) await this.#crashAgain();
    const how = this.#random.pick(["start", "start", "restore, then start", "only restore"]);
    const isLater = isLate && how !== "start" && this.#random.chance(0.5);
    if (isLate && !isLater) await this.#kill("victim");
    if (how !== "start") await this.#restore();
    if (isLater) {
      await this.#kill("victim");
      if (how === "only restore") await this.#restore();
    }
    await this.#rig.start();
    await this.#whenRight("the start", performance.now(), false);
    await this.#requireTruth();
  }

  /** The next daemon is killed as well, anywhere in its start, or when it has begun to put things back. */
  async #crashAgain(): Promise<void> {
    const gpu = this.#random.below(gpuCount);
    const how = this.#random.pick(["hang", "hold"]);
    if (this.#random.chance(0.5)) {
      for (const setting of settings) for (const setter of settersOf(setting)) this.#break(`${setter}@${gpu}=${how}`);
    }
    this.#rig.launch();
    await pause(this.#random.between(100, 500));
    await this.#rig.killDaemon();
    this.#mend();
    this.#tell("the daemon that was started then is killed as well");
  }

  async #restore(): Promise<void> {
    const { code, stdout, stderr } = await this.#rig.restore();
    this.#tell(`zeusd restore: ${code}`);
    const complaints = this.#complaints();
    if (code !== 0 || complaints.length > 0) {
      throw new Error(`zeusd restore ended with ${code}, and then: ${complaints.join("; ")}\n${stdout}${stderr}`);
    }
  }

  /** The daemon is gone, and with it what it had not begun. */
  #settleFates(): void {
    const isBefore = this.#cell.point === "before the journal";
    for (const { write, atDriver } of this.#underWay.splice(0)) {
      write.fate = atDriver && !(isBefore && write.holder === "victim") ? "open" : "never";
    }
  }

  /** What the daemon says that a lease has set is what is set. */
  async #requireTruth(): Promise<void> {
    const { gpus } = (await this.#rig.get("/gpu/get_state")) as { readonly gpus: Readonly<Record<string, GpuState>> };
    this.#rig.driver.gpus().forEach((found, gpu) => {
      for (const setting of settings) {
        const state = gpus[gpu]?.[setting];
        const asked = state?.held_by ? valueText(state.asked ?? {}) : found[setting];
        if (asked === found[setting]) continue;
        throw new Error(`${setting} of GPU ${gpu} is ${found[setting]}, and a lease is said to have set ${asked}`);
      }
    });
  }

  /** Whoever lives goes on, and when nobody does any more all is as it was before. */
  async #goOn(): Promise<void> {
    this.#underWay.length = 0;
    const names = [...this.#living()];
    if (isRoot) names.push("nobody");
    for (const who of this.#random.some(names)) {
      const [gpu, setting] = [this.#random.below(gpuCount), this.#random.pick(settings)];
      await this.#set(who, gpu, setting, this.#newValue(gpu, setting));
    }
    for (const name of this.#clients.keys()) {
      const sinceMs = performance.now();
      await this.#kill(name);
      await this.#whenRight(`${name} was killed at last`, sinceMs);
    }
    await eventually(async () => (await this.#rig.leases()).length === 0);
    this.#model.settle();
  }

  #break(rule: string): void {
    this.#rules.push(rule);
    this.#rig.driver.fail(...this.#rules);
  }

  #mend(): void {
    this.#rules = [];
    this.#rig.driver.fail();
  }

  /** Settles when one more call of this function hangs. */
  #hung(symbol: string, gpu: number): () => Promise<void> {
    return this.#called(symbol, gpu, "hang");
  }

  #called(symbol: string, gpu: number, how: string): () => Promise<void> {
    const line = new RegExp(how === "hang" ? `^${symbol} ${gpu} hangs$` : `^${symbol} ${gpu} (\\S+ )*-> 0$`);
    const before = this.#rig.driver.calls().filter((call) => line.test(call)).length;
    return () => this.#rig.driver.called(line, before + 1);
  }

  #newestOrder(): number {
    return Math.max(0, ...this.#rig.journal().map(({ order = 0 }) => order));
  }

  /** Whether the journal has the write for which the round was brought to its point. */
  #hasLayer(gpu: number, setting: Setting, value: string): boolean {
    return this.#rig.journal().some((line) => {
      const isOf = line.record === "layer" && line.setting === setting && line.gpu?.endsWith(String(gpu));
      return isOf && (line.order ?? 0) > this.#newestBefore && valueText(line.value ?? {}) === value;
    });
  }

  #tell(text: string): void {
    this.story.push(text);
  }
}

type GpuState = Readonly<
  Partial<Record<Setting, { readonly asked: Readonly<Record<string, unknown>> | null; readonly held_by: unknown }>>
>;
