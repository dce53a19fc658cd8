// Watching processes for their end: real ones, which are killed, waited for or not, or whose number is another's.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setImmediate as turn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, it, onTestFinished } from "vitest";
import { type HeldProcess, createProcessOpener } from "../../src/native/held-process.ts";
import { pidfdsOfThisProcess, startSleeper, startedOf } from "./processes.ts";

const openProcess = createProcessOpener();

function hold(pid: number): HeldProcess {
  const held = openProcess({ pid, started: startedOf(pid) });
  if (!held) throw new Error(`process ${pid} cannot be held`);
  onTestFinished(() => held.close());
  return held;
}

function endOf(held: HeldProcess): Promise<void> {
  return new Promise((resolve) => held.onEnd(resolve));
}

async function turns(count: number): Promise<void> {
  for (let done = 0; done < count; done += 1) await turn();
}

async function lineOf(stream: NodeJS.ReadableStream): Promise<string> {
  const [line]: unknown[] = await once(createInterface({ input: stream }), "line");
  return String(line);
}

/** A parent that waits for no child, and the child's number. */
async function startNeglected(): Promise<number> {
  const parent = spawn("sh", ["-c", "sleep 60 & echo $!; exec sleep 60"], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void parent.kill("SIGKILL"));
  return Number(await lineOf(parent.stdout));
}

async function collectGarbage(): Promise<void> {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  if (typeof collect !== "function") throw new Error("this Node cannot collect garbage on demand");
  await turn();
  collect();
}

it("finds a process by its number and when it began", () => {
  const { pid } = startSleeper();
  expect(hold(pid)).toMatchObject({ pid, started: startedOf(pid) });
});

it("refuses another process of the same number, one that has ended, and what is no process, and leaves nothing open", async () => {
  const sleeper = startSleeper();
  const id = { pid: sleeper.pid, started: startedOf(sleeper.pid) };
  const before = pidfdsOfThisProcess();
  for (const started of [id.started - 1, id.started + 1, 0, -1, NaN])
    expect(openProcess({ ...id, started })).toBeUndefined();
  for (const pid of [0, -1, 1.5, NaN, Infinity, 2 ** 31 - 1, 2 ** 32 + id.pid])
    expect(openProcess({ ...id, pid })).toBeUndefined();
  await sleeper.kill();
  expect(openProcess(id)).toBeUndefined();
  expect(pidfdsOfThisProcess()).toEqual(before);
});

it("tells the end of a process that nobody waits for, and refuses it from then on", async () => {
  const pid = await startNeglected();
  const held = hold(pid);
  const ended = endOf(held);
  process.kill(pid, "SIGKILL");
  await ended;
  expect(startedOf(pid)).toBe(held.started);
  expect(openProcess(held)).toBeUndefined();
});

it("tells an end once to everyone who asked, before or after", async () => {
  const sleeper = startSleeper();
  const held = hold(sleeper.pid);
  const told: string[] = [];
  held.onEnd(() => told.push("one"));
  held.onEnd(() => told.push("two"));
  await turns(5);
  expect(told).toEqual([]);
  const ended = endOf(held);
  await sleeper.kill();
  await ended;
  await turns(5);
  expect(told).toEqual(["one", "two"]);
  held.onEnd(() => told.push("three"));
  expect(told).toEqual(["one", "two"]);
  await endOf(held);
  await turns(5);
  expect(told).toEqual(["one", "two", "three"]);
});

it("tells an end that came before anyone asked, but not at once", async () => {
  const sleeper = startSleeper();
  const held = hold(sleeper.pid);
  await sleeper.kill();
  let told = false;
  const ended = new Promise<void>((resolve) => {
    held.onEnd(() => {
      told = true;
      resolve();
    });
  });
  expect(told).toBe(false);
  await ended;
});

it("lets promises go on that are settled when a process has ended", async () => {
  const sleeper = startSleeper();
  const held = hold(sleeper.pid);
  const order: string[] = [];
  const ended = new Promise<void>((resolve) => {
    held.onEnd(() => {
      void Promise.resolve().then(() => order.push("promise"));
      setImmediate(() => {
        order.push("next turn");
        resolve();
      });
    });
  });
  await sleeper.kill();
  await ended;
  expect(order).toEqual(["promise", "next turn"]);
});

it("tells nothing after it was closed, and closes its descriptor once", async () => {
  const sleeper = startSleeper();
  const before = pidfdsOfThisProcess();
  const [closed, other] = [hold(sleeper.pid), hold(sleeper.pid)];
  closed.onEnd(() => expect.unreachable());
  closed.close();
  // Takes the lowest number, which was the handle's.
  const file = openSync("/dev/null", "r");
  closed.close();
  closeSync(file);
  closed.onEnd(() => expect.unreachable());
  const ended = endOf(other);
  await sleeper.kill();
  await ended;
  await turns(5);
  other.close();
  expect(pidfdsOfThisProcess()).toEqual(before);
});

it("may be closed while it tells an end, and tells nobody else then", async () => {
  const sleeper = startSleeper();
  const before = pidfdsOfThisProcess();
  const held = hold(sleeper.pid);
  const ended = new Promise<void>((resolve) => {
    held.onEnd(() => {
      held.close();
      resolve();
    });
  });
  held.onEnd(() => expect.unreachable());
  await sleeper.kill();
  await ended;
  await turns(5);
  expect(pidfdsOfThisProcess()).toEqual(before);
});

it("may be closed between an end and its being told", async () => {
  const sleeper = startSleeper();
  const [one, two] = [hold(sleeper.pid), hold(sleeper.pid)];
  const told: string[] = [];
  one.onEnd(() => {
    told.push("one");
    two.close();
  });
  two.onEnd(() => {
    told.push("two");
    one.close();
  });
  await sleeper.kill();
  await Promise.race([endOf(one), endOf(two)]);
  await turns(5);
  expect(told).toHaveLength(1);
});

it("tells an end though nobody holds on to anything", async () => {
  const sleeper = startSleeper();
  const ended = ((held) => endOf(held ?? expect.unreachable()))(
    openProcess({ pid: sleeper.pid, started: startedOf(sleeper.pid) }),
  );
  for (let count = 0; count < 3; count += 1) await collectGarbage();
  await sleeper.kill();
  await ended;
});

it("watches a hundred processes at once, each for its own end", async () => {
  const sleepers = Array.from({ length: 100 }, () => startSleeper());
  const told = new Map<number, number>();
  const ends = sleepers.map(({ pid }) => {
    const held = hold(pid);
    held.onEnd(() => told.set(pid, (told.get(pid) ?? 0) + 1));
    return endOf(held);
  });
  const [spared = expect.unreachable(), ...others] = sleepers;
  await Promise.all([...others.map((sleeper) => sleeper.kill()), ...ends.slice(1)]);
  await turns(5);
  expect(told).toEqual(new Map(others.map(({ pid }) => [pid, 1])));
  await Promise.all([spared.kill(), ends[0]]);
  expect(told.get(spared.pid)).toBe(1);
});

it("leaves no descriptor open, watched or not", async () => {
  const { pid } = startSleeper();
  const started = startedOf(pid);
  const before = pidfdsOfThisProcess();
  for (let count = 0; count < 10_000; count += 1) {
    const held = openProcess({ pid, started });
    if (count % 2 === 0) held?.onEnd(() => expect.unreachable());
    // What is watched in a turn of the loop differs from what is opened and closed within one.
    if (count % 1000 === 0) await turn();
    held?.close();
  }
  await turns(5);
  expect(pidfdsOfThisProcess()).toEqual(before);
});

it("keeps no process alive", () => {
  const { pid } = startSleeper();
  const module = JSON.stringify(join(import.meta.dirname, "../../dist/native/held-process.js"));
  const script = `
    import { createProcessOpener } from ${module};
    createProcessOpener()(${JSON.stringify({ pid, started: startedOf(pid) })}).onEnd(() => process.exit(7));
  `;
  const { status } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { timeout: 20_000 });
  expect(status).toBe(0);
});
