// `zeusd run` in process: what it asks the daemon for and when, and what it does with signals.
import { EventEmitter } from "node:events";
import { describe, expect, it } from "vitest";
import type { Program } from "../../src/cli/run-program.ts";
import type { RunFlags } from "../../src/cli/run-options.ts";
import { run } from "../../src/cli/run.ts";
import { leaseId, startFakeDaemon, type Answers, type FakeDaemon } from "./fake-daemon.ts";

interface Options {
  readonly answers?: Answers;
  readonly over?: "unix" | "tcp";
  readonly flags?: RunFlags;
  readonly inForeground?: boolean;
  /** A program that ends by itself does so at once, with this. */
  readonly endsWith?: number;
}

interface Running {
  readonly daemon: FakeDaemon;
  /** The exit code, or the message of the error. */
  readonly outcome: Promise<number | string>;
  readonly signals: EventEmitter;
  /** The command lines of programs that were started. */
  readonly started: readonly (readonly string[])[];
  readonly killed: readonly string[];
  end(code: number): void;
  stderr(): string;
}

async function start({
  answers,
  over = "unix",
  flags = {},
  inForeground = false,
  endsWith,
}: Options = {}): Promise<Running> {
  const daemon = await startFakeDaemon(answers, over);
  const signals = new EventEmitter();
  const started: (readonly string[])[] = [];
  const killed: string[] = [];
  let stderr = "";
  let end: (code: number) => void = () => {};
  const ended = new Promise<number>((resolve) => (end = resolve));
  if (endsWith !== undefined) end(endsWith);
  const outcome = run(
    { ...flags, ...(over === "unix" ? { socketPath: daemon.address } : { hostPort: daemon.address }) },
    ["python", "x"],
    {
      env: {},
      signals: signals as typeof process,
      inForeground: () => inForeground,
      start: (words): Program => {
        started.push(words);
        return { kill: (signal) => void killed.push(signal), ended };
      },
      stderr: (text) => void (stderr += text),
      renewEveryMs: 5,
    },
  ).catch((error: unknown) => (error as Error).message);
  return { daemon, outcome, signals, started, killed, end, stderr: () => stderr };
}

const everything: RunFlags = {
  gpu: "0,1",
  powerLimit: 250_000,
  gpuClocks: { min_clock_mhz: 1200, max_clock_mhz: 1500 },
  memoryClocks: { min_clock_mhz: 1593, max_clock_mhz: 1593 },
  persistenceMode: "on",
  exclusive: true,
  reason: "a&b, ü",
};

describe("what is asked of the daemon", () => {
  it("is a lease, what was to be set within it, and its end, in this order", async () => {
    const { daemon, outcome, started, stderr } = await start({ flags: everything, endsWith: 7 });
    expect(await outcome).toBe(7);
    expect(started).toEqual([["python", "x"]]);
    expect(stderr()).toBe("");
    const within = { gpu_ids: "0,1", block: "true", lease_id: leaseId };
    expect(daemon.asked.map(({ path, query }) => [path, query])).toEqual([
      ["/lease/acquire", { gpu_ids: "0,1", exclusive: "true", reason: "a&b, ü" }],
      ["/gpu/set_persistence_mode", { ...within, enabled: "true" }],
      ["/gpu/set_power_limit", { ...within, power_limit_mw: "250000" }],
      ["/gpu/set_gpu_locked_clocks", { ...within, min_clock_mhz: "1200", max_clock_mhz: "1500" }],
      ["/gpu/set_mem_locked_clocks", { ...within, min_clock_mhz: "1593", max_clock_mhz: "1593" }],
      ["/lease/release", { lease_id: leaseId }],
    ]);
  });

  it("is a lease of all GPUs, and nothing else, where nothing is said", async () => {
    const { daemon, outcome } = await start({ endsWith: 0 });
    expect(await outcome).toBe(0);
    expect(daemon.asked.map(({ path, query }) => [path, query])).toEqual([
      ["/lease/acquire", {}],
      ["/lease/release", { lease_id: leaseId }],
    ]);
  });

  it("is a write to the GPUs of the lease, whichever way they were named", async () => {
    const flags = { gpu: "GPU-1f0c,0000:41:00.0", powerLimit: 1, persistenceMode: "off" } as const;
    const { daemon, outcome } = await start({ flags, endsWith: 0 });
    await outcome;
    expect(daemon.asked.map(({ query }) => query["gpu_ids"])).toEqual([
      "GPU-1f0c,0000:41:00.0",
      "0,1",
      "0,1",
      undefined,
    ]);
    expect(daemon.asked[1]?.query["enabled"]).toBe("false");
  });
});

describe("a lease over TCP", () => {
  it("has 60 s to live, is renewed while the program runs, and no longer", async () => {
    const { daemon, outcome, end, stderr } = await start({ over: "tcp" });
    await daemon.askedFor("/lease/renew", 3);
    end(0);
    expect(await outcome).toBe(0);
    expect(daemon.asked[0]).toMatchObject({ path: "/lease/acquire", query: { ttl_s: "60" } });
    expect(daemon.asked[1]).toMatchObject({ path: "/lease/renew", query: { lease_id: leaseId } });
    expect(daemon.paths().at(-1)).toBe("/lease/release");
    expect(stderr()).toBe("");
  });

  it("is one over a Unix socket too, where the daemon cannot see our process", async () => {
    const answers: Answers = ({ path, query }) =>
      path === "/lease/acquire" && query["ttl_s"] === undefined
        ? { status: 400, body: { error: "your process cannot be seen from here: give ttl_s", code: "ttl_required" } }
        : undefined;
    const { daemon, outcome, end } = await start({ answers, flags: { exclusive: true, gpu: "1" } });
    await daemon.askedFor("/lease/renew");
    end(0);
    expect(await outcome).toBe(0);
    expect(daemon.asked.slice(0, 2).map(({ query }) => query)).toEqual([
      { gpu_ids: "1", exclusive: "true" },
      { gpu_ids: "1", exclusive: "true", ttl_s: "60" },
    ]);
  });

  it("that cannot be renewed for a while is tried again, with one warning", async () => {
    let tries = 0;
    const answers: Answers = ({ path }) =>
      path === "/lease/renew" && ++tries <= 3 ? { status: 503, body: "busy" } : undefined;
    const { daemon, outcome, end, stderr } = await start({ answers, over: "tcp" });
    await daemon.askedFor("/lease/renew", 5);
    end(0);
    expect(await outcome).toBe(0);
    expect(stderr()).toBe("Warning: the lease was not renewed: busy\n");
  });

  it("that is lost is said to be, and neither renewed nor released, while the program goes on", async () => {
    const answers: Answers = ({ path }) =>
      path === "/lease/renew" ? { status: 404, body: { error: "no such lease" } } : undefined;
    const { daemon, outcome, end, stderr } = await start({ answers, over: "tcp" });
    await daemon.askedFor("/lease/renew");
    end(9);
    expect(await outcome).toBe(9);
    expect(stderr()).toBe("Warning: the lease is lost: no such lease\n");
    expect(daemon.paths()).toEqual(["/lease/acquire", "/lease/renew"]);
  });
});

describe("the program is not started", () => {
  it("where there is no lease", async () => {
    const answers: Answers = () => ({
      status: 423,
      body: { error: "GPU 0 is held by uid 7 since noon: a run", code: "held" },
    });
    const { daemon, outcome, started } = await start({ answers, flags: everything });
    expect(await outcome).toBe("GPU 0 is held by uid 7 since noon: a run");
    expect([started, daemon.paths()]).toEqual([[], ["/lease/acquire"]]);
  });

  it.each([
    [{ status: 403, body: { error: "the policy says no", code: "forbidden" } }, "the policy says no"],
    [{ status: 400, body: { errors: { 0: "too low", 1: "too high" }, code: "x" } }, "GPU 0: too low; GPU 1: too high"],
    [{ status: 400, body: "Query deserialize error" }, "Query deserialize error"],
  ])("where a write is refused with %j: the lease ends, and the reason is given", async (reply, reason) => {
    const answers: Answers = ({ path }) => (path === "/gpu/set_power_limit" ? reply : undefined);
    const { daemon, outcome, started } = await start({ answers, flags: everything });
    expect(await outcome).toBe(`The program was not started, since set_power_limit failed: ${reason}`);
    expect(started).toEqual([]);
    expect(daemon.paths()).toEqual([
      "/lease/acquire",
      "/gpu/set_persistence_mode",
      "/gpu/set_power_limit",
      "/lease/release",
    ]);
  });

  it("where a signal comes while something is set: the lease ends, and the code is that of the signal", async () => {
    const answers: Answers = ({ path }) => (path === "/gpu/set_power_limit" ? new Promise(() => {}) : undefined);
    const { daemon, outcome, started, signals, stderr } = await start({
      answers,
      flags: everything,
      inForeground: true,
    });
    await daemon.askedFor("/gpu/set_power_limit");
    signals.emit("SIGUSR1", "SIGUSR1");
    signals.emit("SIGINT", "SIGINT");
    signals.emit("SIGTERM", "SIGTERM");
    expect(await outcome).toBe(130);
    expect([started, stderr(), daemon.paths().at(-1)]).toEqual([[], "", "/lease/release"]);
  });

  it("where a signal comes while the lease is asked for: it ends at once", async () => {
    let answer: () => void = () => {};
    const answers: Answers = ({ path }) =>
      path === "/lease/acquire" ? new Promise((resolve) => (answer = () => resolve(undefined))) : undefined;
    const { daemon, outcome, started, signals } = await start({ answers });
    await daemon.askedFor("/lease/acquire");
    signals.emit("SIGTERM", "SIGTERM");
    answer();
    expect(await outcome).toBe(143);
    expect([started, daemon.paths()]).toEqual([[], ["/lease/acquire", "/lease/release"]]);
  });
});

describe("signals, while the program runs,", () => {
  async function killedBy(names: readonly string[], inForeground: boolean): Promise<readonly string[]> {
    const { daemon, outcome, signals, started, killed, end } = await start({ inForeground, flags: { powerLimit: 1 } });
    await expect.poll(() => started.length).toBe(1);
    for (const name of names) signals.emit(name, name);
    end(0);
    expect(await outcome).toBe(0);
    expect(daemon.paths().at(-1)).toBe("/lease/release");
    expect(signals.eventNames()).toEqual([]);
    return killed;
  }

  const all = ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT"];

  it("are passed to it", async () => {
    expect(await killedBy(all, false)).toEqual(all);
  });

  it("are passed to it, but not those that the terminal sends it itself", async () => {
    expect(await killedBy(all, true)).toEqual(["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT"]);
  });
});

describe("when the program has ended", () => {
  it("a GPU that cannot be put back yet is a warning, and the code stays the program's", async () => {
    const answers: Answers = ({ path }) =>
      path === "/lease/release" ? { body: { lease: 3, gpus: { 0: "restored", 1: "it is stuck\u001b" } } } : undefined;
    const { outcome, stderr } = await start({ answers, endsWith: 5 });
    expect(await outcome).toBe(5);
    expect(stderr()).toBe("Warning: GPU 1: it is stuck\u{fffd}\n");
  });

  it.each([
    [{ status: 503, body: { error: "stopping" } }, "stopping"],
    [{ status: 500, body: "" }, "answers with status 500"],
  ])("a lease that cannot be released (%j) is one warning, and the code stays the program's", async (reply, reason) => {
    const answers: Answers = ({ path }) => (path === "/lease/release" ? reply : undefined);
    const { outcome, stderr } = await start({ answers, endsWith: 5 });
    expect(await outcome).toBe(5);
    expect(stderr()).toMatch(/^Warning: the lease could not be released, and ends by itself: [^\n]*\n$/);
    expect(stderr()).toContain(reason);
  });

  it("a daemon that is gone is one warning, and the code stays the program's", async () => {
    const { daemon, outcome, started, end, stderr } = await start();
    await expect.poll(() => started.length).toBe(1);
    await daemon.stop();
    end(0);
    expect(await outcome).toBe(0);
    expect(stderr()).toMatch(
      /^Warning: the lease could not be released, and ends by itself: There is no socket [^\n]*\n$/,
    );
  });
});
