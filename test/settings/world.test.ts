// Whatever happens in whatever order, what is set is what the newest write that lives says, and after all leases what was there before.
import * as fc from "fast-check";
import { describe, it } from "vitest";
import type { Values } from "../../src/contract/field.ts";
import type { Setting } from "../../src/contract/operations.ts";
import { rowOf, type Outcome } from "./fake-gpu.ts";
import { pids, World } from "./world.ts";

const who = fc.nat(pids.length - 1);
const gpu = fc.nat(1);
const clocks = fc.constantFrom(
  { min_clock_mhz: 300, max_clock_mhz: 900 },
  { min_clock_mhz: 600, max_clock_mhz: 900 },
  { min_clock_mhz: 600, max_clock_mhz: 1_500 },
);
const powerLimit = fc.constantFrom(150_000, 200_000, 250_000, 300_000).map((power_limit_mw) => ({ power_limit_mw }));
const none = fc.constant({});
const writing: fc.Arbitrary<readonly [call: string, value: Values]> = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(fc.constant("setPowerLimit"), powerLimit) },
  fc.tuple(fc.constant("setPersistenceMode"), fc.record({ enabled: fc.boolean() })),
  { weight: 2, arbitrary: fc.tuple(fc.constant("setGpuLockedClocks"), clocks) },
  fc.tuple(fc.constant("setMemLockedClocks"), clocks),
  fc.tuple(fc.constantFrom("resetGpuLockedClocks", "resetMemLockedClocks", "resetLockedClocks"), none),
);

type Step = (world: World) => void | Promise<void>;

/** What a step is called in what fast-check prints. */
function step(name: string, does: Step): Step {
  return Object.assign(does, { toString: () => name, [fc.toStringMethod]: () => name });
}

const acquire = fc
  .record({
    who,
    gpus: fc.constantFrom([0], [1], [0, 1]),
    exclusive: fc.oneof({ weight: 3, arbitrary: fc.constant(false) }, fc.constant(true)),
    ttlS: fc.constantFrom(undefined, undefined, 1, 30),
  })
  .map(({ who: at, ...wish }) =>
    step(`acquire ${at} ${JSON.stringify(wish)}`, (world) =>
      world.acquire(world.processes.claimant(world.actor(at)), wish),
    ),
  );

const write = fc
  .record({
    who,
    gpu,
    what: writing,
    implicit: fc.boolean(),
    leaseAt: fc.option(fc.nat(5), { nil: undefined, freq: 4 }),
  })
  .map(({ who: at, gpu: id, what: [call, value], implicit, leaseAt }) =>
    step(`write ${at} to ${id}: ${call} ${JSON.stringify(value)} implicit ${implicit} lease ${leaseAt}`, (world) => {
      const leaseId = leaseAt === undefined ? undefined : world.leases[leaseAt % Math.max(1, world.leases.length)]?.id;
      world.write(world.processes.claimant(world.actor(at)), id, rowOf(call), value, { implicit, leaseId });
    }),
  );

/** Over TCP, where there is no process. */
const unleased = fc
  .record({ gpu, what: writing })
  .map(({ gpu: id, what: [call, value] }) =>
    step(`unleased to ${id}: ${call} ${JSON.stringify(value)}`, (world) =>
      world.write({}, id, rowOf(call), value, { implicit: false }),
    ),
  );

const release = fc.nat(5).map((at) => step(`release ${at}`, (world) => world.release(at)));
const renew = fc.nat(5).map((at) => step(`renew ${at}`, (world) => world.renew(at, 30)));
const ends = fc
  .tuple(who, fc.boolean())
  .map(([at, isSame]) => step(`process ${at} ends, same pid ${isSame}`, (world) => world.end(at, isSame)));
const passes = fc.constantFrom(10, 700, 1_500, 40_000).map((ms) => step(`${ms} ms`, (world) => world.settle(ms)));
const crash = fc.boolean().map((isDone) => step(`crash, done ${isDone}`, (world) => world.crash(isDone)));
const driverCrash = fc
  .boolean()
  .map((isDone) => step(`crash in the next driver call, done ${isDone}`, (world) => world.crashInDriver(isDone)));
const journalCrash = fc
  .tuple(fc.integer({ min: 1, max: 5 }), fc.constantFrom("before" as const, "after" as const))
  .map(([writes, when]) =>
    step(`crash ${when} journal write ${writes}`, (world) => world.crashAtJournal(writes, when)),
  );
const outcomes = fc
  .tuple(
    gpu,
    fc.array(fc.constantFrom<Outcome>("done", "refused", "lost", "uncertain", "hangs"), { minLength: 1, maxLength: 3 }),
  )
  .map(([id, all]) => step(`driver ${id} ${all.join()}`, (world) => void world.gpus[id]?.outcomes.push(...all)));
const hang = gpu.map((id) => step(`driver ${id} hangs`, (world) => void world.gpus[id]?.outcomes.push("hangs")));
const returns = fc
  .tuple(gpu, fc.constantFrom("done" as const, "refused" as const, "lost" as const, "uncertain" as const))
  .map(([id, outcome]) => step(`driver ${id} returns ${outcome}`, (world) => world.gpus[id]?.release(outcome)));
const journalFails = fc.boolean().map((fails) => step(`journal fails ${fails}`, (world) => world.failJournal(fails)));
const outside: fc.Arbitrary<Step> = fc
  .tuple(
    gpu,
    fc.oneof(
      fc.tuple(fc.constant<Setting>("power_limit"), powerLimit),
      fc.tuple(fc.constant<Setting>("persistence_mode"), fc.record({ enabled: fc.boolean() })),
    ),
  )
  .map(([id, [setting, value]]) =>
    step(`somebody sets ${setting} of ${id}: ${JSON.stringify(value)}`, (world) => world.change(id, setting, value)),
  );

const common = [
  { weight: 3, arbitrary: acquire },
  { weight: 8, arbitrary: write },
  { weight: 2, arbitrary: unleased },
  { weight: 2, arbitrary: release },
  { weight: 1, arbitrary: renew },
  { weight: 2, arbitrary: ends },
  { weight: 2, arbitrary: passes },
];
const crashes = [
  { weight: 1, arbitrary: crash },
  { weight: 1, arbitrary: journalCrash },
  { weight: 1, arbitrary: driverCrash },
];
const driver = [
  { weight: 1, arbitrary: outcomes },
  { weight: 1, arbitrary: hang },
  { weight: 2, arbitrary: returns },
];
const journal = [{ weight: 1, arbitrary: journalFails }];
const others = [{ weight: 1, arbitrary: outside }];

async function live(steps: readonly Step[]): Promise<void> {
  const world = new World();
  await world.settle();
  for (const each of steps) {
    await each(world);
    await world.settle();
  }
  await world.finish();
}

describe("what is set is what the newest write that lives says, and at last what was there before", () => {
  it.each([
    { name: "while everything works", numRuns: 1_000, kinds: common },
    { name: "while the driver refuses, fails and hangs", numRuns: 1_000, kinds: [...common, ...driver] },
    { name: "while the daemon is killed at any point", numRuns: 1_500, kinds: [...common, ...crashes] },
    { name: "while the journal cannot be written", numRuns: 700, kinds: [...common, ...journal] },
    { name: "while others change settings", numRuns: 700, kinds: [...common, ...others] },
    {
      name: "while all of that happens",
      numRuns: 1_500,
      kinds: [...common, ...driver, ...crashes, ...journal, ...others],
    },
  ])("$name", async ({ numRuns, kinds }) => {
    const steps = fc.array(fc.oneof(...kinds), { maxLength: 35, size: "max" });
    await fc.assert(fc.asyncProperty(steps, live), { numRuns });
  });
});
