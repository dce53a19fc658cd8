// CPU energy over a powercap tree in a temporary folder.
import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findRoot } from "../../src/backends/rapl/root.ts";
import { raplCpus } from "../../src/backends/rapl/rapl.ts";

const range_uj = 262_143_328_850;
/** In which any counter can have wrapped. */
const hour_ms = 3_600_000;
const both = { cpu: true, dram: true };

let root = "";
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "powercap-"));
});
afterEach(() => rm(root, { recursive: true }));

interface Zone {
  readonly name?: string;
  readonly energy_uj?: number | string;
  readonly max_energy_range_uj?: number | string;
}

/** Writes `files` into a zone such as `intel-rapl:0` or `intel-rapl:0/intel-rapl:0:1`; a file that is left out is missing. */
async function zone(path: string, files: Zone): Promise<void> {
  await mkdir(join(root, path), { recursive: true });
  await Promise.all(Object.entries(files).map(([name, content]) => put(`${path}/${name}`, content)));
}

async function put(path: string, content: number | string): Promise<void> {
  await writeFile(join(root, path), `${content}\n`);
}

async function packageZone(id: number, energy_uj: number, dram_uj?: number): Promise<void> {
  await zone(`intel-rapl:${id}`, { name: `package-${id}`, energy_uj, max_energy_range_uj: range_uj });
  if (dram_uj === undefined) return;
  const dram = { name: "dram", energy_uj: dram_uj, max_energy_range_uj: 65_712_999_613 };
  await zone(`intel-rapl:${id}/intel-rapl:${id}:0`, dram);
}

/** What is found in `folder`, with a log that is kept and a clock that stands still but for `time` and `wake`. */
async function open(folder = root) {
  const lines: string[] = [];
  const log = {
    info: (text: string) => void lines.push(`info: ${text}`),
    warn: (text: string) => void lines.push(`warn: ${text}`),
  };
  const time = { ms: 0 };
  const pending: { readonly ms: number; readonly callback: () => void }[] = [];
  const clock = {
    monotonicMs: () => time.ms,
    after(ms: number, callback: () => void) {
      const call = { ms, callback };
      pending.push(call);
      return () => void pending.splice(pending.indexOf(call), 1);
    },
  };
  const { cpus, stop } = await raplCpus({ root: folder, log, clock });
  /** Makes the calls that are pending at their time, and waits until each has asked for another. */
  const wake = async () => {
    const calls = pending.splice(0);
    time.ms += Math.max(...calls.map(({ ms }) => ms));
    for (const { callback } of calls) callback();
    while (pending.length < calls.length) await new Promise(setImmediate);
  };
  return { cpus, stop, lines, time, pending, wake };
}

async function onlyCpu() {
  const opened = await open();
  const [cpu] = opened.cpus;
  if (!cpu) throw new Error(`no CPU: ${opened.lines.join("\n")}`);
  return { ...opened, cpu };
}

describe("finding CPUs", () => {
  test("gives every package by the N of its zone, with or without memory", async () => {
    await packageZone(0, 1000, 500);
    await packageZone(1, 2000);
    const { cpus, lines } = await open();
    expect(cpus.map(({ id, dram_available }) => ({ id, dram_available }))).toEqual([
      { id: 0, dram_available: true },
      { id: 1, dram_available: false },
    ]);
    expect(await Promise.all(cpus.map((cpu) => cpu.supportsDramEnergy({})))).toEqual([
      { dram_available: true },
      { dram_available: false },
    ]);
    expect(lines).toEqual([]);
  });

  test("takes gaps between the zones as they are, and sorts by number (13.2 #15)", async () => {
    await Promise.all([10, 2, 0].map((id) => packageZone(id, id)));
    const { cpus } = await open();
    expect(cpus.map(({ id }) => id)).toEqual([0, 2, 10]);
  });

  test("does not count psys, the whole board, as a CPU (13.2 #15)", async () => {
    await packageZone(0, 1000);
    await zone("intel-rapl:1", { name: "psys", energy_uj: 5, max_energy_range_uj: range_uj });
    const { cpus, lines } = await open();
    expect(cpus.map(({ id }) => id)).toEqual([0]);
    expect(lines).toEqual([expect.stringMatching(/^info: .*intel-rapl:1 is "psys", not a CPU package/)]);
  });

  test.each([
    ["no name", { energy_uj: 1, max_energy_range_uj: 9 }, "No such file or directory (os error 2)"],
    ["no counter", { name: "package-1", max_energy_range_uj: 9 }, "No such file or directory (os error 2)"],
    ["no range", { name: "package-1", energy_uj: 1 }, "No such file or directory (os error 2)"],
    ["an empty counter", { name: "package-1", energy_uj: "", max_energy_range_uj: 9 }, "from empty string"],
    [
      "text for a range",
      { name: "package-1", energy_uj: 1, max_energy_range_uj: "x" },
      "invalid digit found in string",
    ],
  ])("leaves out a zone with %s, with a warning, and keeps the others (13.2 #15)", async (_, files, reason) => {
    await packageZone(0, 1000);
    await zone("intel-rapl:1", files);
    await packageZone(2, 1000);
    const { cpus, lines } = await open();
    expect(cpus.map(({ id }) => id)).toEqual([0, 2]);
    expect(lines).toEqual([expect.stringContaining("warn: ")]);
    expect(lines[0]).toContain("intel-rapl:1 ");
    expect(lines[0]).toContain(reason);
  });

  test("leaves out a bad sub-zone with a warning, and still finds the memory behind it (13.2 #15)", async () => {
    await zone("intel-rapl:0", { name: "package-0", energy_uj: 1, max_energy_range_uj: range_uj });
    await zone("intel-rapl:0/intel-rapl:0:0", {});
    await zone("intel-rapl:0/intel-rapl:0:1", { name: "core" });
    await zone("intel-rapl:0/intel-rapl:0:2", { name: "dram", energy_uj: 7, max_energy_range_uj: range_uj });
    const { cpu, lines } = await onlyCpu();
    expect(await cpu.getCumulativeEnergy(both)).toEqual({ cpu_energy_uj: 1, dram_energy_uj: 7 });
    expect(lines).toEqual([expect.stringMatching(/^warn: .*intel-rapl:0:0 left out/)]);
  });

  test("keeps a package whose memory cannot be read, without memory (13.2 #15)", async () => {
    await packageZone(0, 1000);
    await zone("intel-rapl:0/intel-rapl:0:0", { name: "dram", max_energy_range_uj: range_uj });
    const { cpu, lines } = await onlyCpu();
    expect(cpu.dram_available).toBe(false);
    expect(lines).toEqual([expect.stringMatching(/^warn: .*intel-rapl:0:0 left out: .*No such file/)]);
  });

  test("takes only a sub-zone named exactly dram for the memory", async () => {
    await packageZone(0, 1000);
    await zone("intel-rapl:0/intel-rapl:0:0", { name: "dram-like", energy_uj: 1, max_energy_range_uj: 9 });
    expect((await onlyCpu()).cpu.dram_available).toBe(false);
  });

  test("ignores what is not a zone", async () => {
    await packageZone(0, 1000);
    await Promise.all(["enabled", "intel-rapl:x", "intel-rapl:0:0", "intel-rapl-mmio:0"].map((name) => put(name, 1)));
    const { cpus, lines } = await open();
    expect(cpus.map(({ id }) => id)).toEqual([0]);
    expect(lines).toEqual([]);
  });

  test.each(["nowhere", "."])(
    "says that RAPL is not available where there is none, and finds no CPU (%s)",
    async (name) => {
      const { cpus, lines, pending } = await open(join(root, name));
      expect(cpus).toEqual([]);
      expect(lines).toEqual([expect.stringMatching(/^info: RAPL not available/)]);
      expect(pending).toEqual([]);
    },
  );
});

describe("the root", () => {
  test("may also be the folder above intel-rapl", async () => {
    await zone("intel-rapl/intel-rapl:3", { name: "package-0", energy_uj: 1, max_energy_range_uj: 9 });
    expect((await open()).cpus.map(({ id }) => id)).toEqual([3]);
  });

  test("is the one mounted for a container if that exists, else the kernel's own", async () => {
    const usual = [join(root, "zeus_sys"), join(root, "sys")] as const;
    expect(await findRoot(undefined, usual)).toBe(usual[1]);
    await mkdir(usual[0]);
    expect(await findRoot(undefined, usual)).toBe(usual[0]);
  });
});

describe("reading energy", () => {
  test("gives µJ, and null for what was not asked for or is not there", async () => {
    await packageZone(0, 1000, 500);
    await packageZone(1, 2000);
    const [with_, without] = (await open()).cpus;
    expect(await with_?.getCumulativeEnergy(both)).toEqual({ cpu_energy_uj: 1000, dram_energy_uj: 500 });
    expect(await with_?.getCumulativeEnergy({ cpu: true, dram: false })).toEqual({
      cpu_energy_uj: 1000,
      dram_energy_uj: null,
    });
    expect(await with_?.getCumulativeEnergy({ cpu: false, dram: true })).toEqual({
      cpu_energy_uj: null,
      dram_energy_uj: 500,
    });
    expect(await with_?.getCumulativeEnergy({ cpu: false, dram: false })).toEqual({
      cpu_energy_uj: null,
      dram_energy_uj: null,
    });
    expect(await without?.getCumulativeEnergy(both)).toEqual({ cpu_energy_uj: 2000, dram_energy_uj: null });
  });

  test.each([
    ["", "IOError: cannot parse integer from empty string"],
    ["12a4", "IOError: invalid digit found in string"],
    ["-5", "IOError: invalid digit found in string"],
    ["1.5", "IOError: invalid digit found in string"],
    ["18446744073709551616", "IOError: number too large to fit in target type"],
    ["9007199254740993", "IOError: number too large to be held exactly"],
  ])("of a counter that holds %j fails, and goes on when it is whole again", async (content, message) => {
    await packageZone(0, 1000);
    const { cpu } = await onlyCpu();
    await put("intel-rapl:0/energy_uj", content);
    await expect(cpu.getCumulativeEnergy(both)).rejects.toMatchObject({ code: "io_error", status: 500, message });
    await put("intel-rapl:0/energy_uj", 1234);
    expect(await cpu.getCumulativeEnergy(both)).toEqual({ cpu_energy_uj: 1234, dram_energy_uj: null });
  });

  test("of a counter that is gone fails in the system's words", async () => {
    await packageZone(0, 1000, 500);
    const { cpu } = await onlyCpu();
    await rm(join(root, "intel-rapl:0/intel-rapl:0:0/energy_uj"));
    const message = "IOError: No such file or directory (os error 2)";
    await expect(cpu.getCumulativeEnergy(both)).rejects.toMatchObject({ code: "io_error", message });
    expect(await cpu.getCumulativeEnergy({ cpu: true, dram: false })).toMatchObject({ cpu_energy_uj: 1000 });
  });

  test("goes on counting over a wrap, which is worth the range and one more (13.2 #15)", async () => {
    await packageZone(0, range_uj, 500);
    const { cpu, time } = await onlyCpu();
    await put("intel-rapl:0/energy_uj", 0);
    expect(await cpu.getCumulativeEnergy(both)).toEqual({ cpu_energy_uj: range_uj + 1, dram_energy_uj: 500 });
    time.ms += hour_ms;
    await put("intel-rapl:0/energy_uj", 7);
    await put("intel-rapl:0/intel-rapl:0:0/energy_uj", 499);
    expect(await cpu.getCumulativeEnergy(both)).toEqual({
      cpu_energy_uj: range_uj + 8,
      dram_energy_uj: 65_712_999_613 + 500,
    });
    time.ms += hour_ms;
    await put("intel-rapl:0/energy_uj", 6);
    expect(await cpu.getCumulativeEnergy(both)).toMatchObject({ cpu_energy_uj: 2 * (range_uj + 1) + 6 });
  });

  test("counts one wrap once, whoever reads (13.2 #14)", async () => {
    await packageZone(0, 1000);
    const { cpu, time, wake } = await onlyCpu();
    time.ms += hour_ms;
    await put("intel-rapl:0/energy_uj", 5);
    const energies = await Promise.all([
      ...Array.from({ length: 20 }, () => cpu.getCumulativeEnergy(both)),
      wake().then(() => cpu.getCumulativeEnergy(both)),
    ]);
    expect(new Set(energies.map(({ cpu_energy_uj }) => cpu_energy_uj))).toEqual(new Set([range_uj + 6]));
  });

  test("many times at once never takes the order of the answers for a wrap", async () => {
    await packageZone(0, 0);
    const { cpu } = await onlyCpu();
    const energies: number[] = [];
    const counter = { value: 0, last: 200 };
    const count = async () => {
      while (counter.value < counter.last) {
        counter.value++;
        // Replaced at one stroke: the kernel's file is never half written either.
        await put("next", counter.value).then(() => rename(join(root, "next"), join(root, "intel-rapl:0/energy_uj")));
      }
    };
    const read = async () => {
      while (counter.value < counter.last) {
        energies.push(Number((await cpu.getCumulativeEnergy(both)).cpu_energy_uj));
      }
    };
    await Promise.all([count(), read(), read(), read(), read()]);
    expect(Math.max(...energies)).toBeLessThanOrEqual(counter.last);
    expect(energies).toEqual(energies.toSorted((one, other) => one - other));
  });

  test("says so once when the total can no longer be held to the µJ", async () => {
    const max_energy_range_uj = Number.MAX_SAFE_INTEGER - 1;
    await zone("intel-rapl:0", { name: "package-0", energy_uj: max_energy_range_uj, max_energy_range_uj });
    const { cpu, time, lines } = await onlyCpu();
    expect(lines).toEqual([]);
    time.ms += hour_ms;
    await put("intel-rapl:0/energy_uj", 1_000_001);
    expect(Number((await cpu.getCumulativeEnergy(both)).cpu_energy_uj)).toBe(2 ** 53 + 1_000_000);
    await cpu.getCumulativeEnergy(both);
    expect(lines).toEqual([expect.stringMatching(/^warn: .*intel-rapl:0 has passed 2\^53 µJ/)]);
  });
});

describe("reading in the background", () => {
  test("notices a wrap that no client saw", async () => {
    await packageZone(0, range_uj - 10, 65_000_000_000);
    const { cpu, wake } = await onlyCpu();
    await put("intel-rapl:0/energy_uj", 5);
    await put("intel-rapl:0/intel-rapl:0:0/energy_uj", 6);
    await wake();
    await put("intel-rapl:0/energy_uj", range_uj);
    await put("intel-rapl:0/intel-rapl:0:0/energy_uj", 65_100_000_000);
    await wake();
    expect(await cpu.getCumulativeEnergy(both)).toEqual({
      cpu_energy_uj: 2 * range_uj + 1,
      dram_energy_uj: 65_712_999_614 + 65_100_000_000,
    });
  });

  test.each([
    [1_000_000_000, 500],
    [1000, 100],
  ])(
    "is every 30 s, and sooner for a counter of the small range of %d µJ",
    async (max_energy_range_uj, expected_ms) => {
      await packageZone(0, 1000);
      await zone("intel-rapl:1", { name: "package-1", energy_uj: 1, max_energy_range_uj });
      const { pending } = await open();
      expect(pending.map(({ ms }) => ms)).toEqual([30_000, expected_ms]);
    },
  );

  test("goes on after a failure, of which the log hears once", async () => {
    await packageZone(0, 1000);
    const { cpu, time, wake, lines } = await onlyCpu();
    await put("intel-rapl:0/energy_uj", "");
    await wake();
    await wake();
    expect(lines).toEqual([expect.stringMatching(/^warn: .*intel-rapl:0 cannot be read: IOError: .*empty string$/)]);
    time.ms += hour_ms;
    await wake();
    expect(lines).toHaveLength(1);
    await put("intel-rapl:0/energy_uj", 1);
    await wake();
    expect(await cpu.getCumulativeEnergy(both)).toMatchObject({ cpu_energy_uj: range_uj + 2 });
  });

  test("ends with stop", async () => {
    await packageZone(0, 1000);
    const { stop, pending } = await open();
    expect(pending).toHaveLength(1);
    stop();
    expect(pending).toEqual([]);
  });
});
