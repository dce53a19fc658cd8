// `zeusd lease`: who holds what, and the end of a lease.
import { describe, expect, it } from "vitest";
import { listLeases, releaseLease } from "../../src/cli/lease.ts";
import { acquired, startFakeDaemon, type Answers } from "./fake-daemon.ts";
import { run, usageError, type Outcome } from "./subject.ts";

const now = acquired.since_ms + 12 * 60_000;

/** Runs a command line against a daemon that answers so, as main.ts does. */
async function zeusd(argv: readonly string[], answers?: Answers, over: "unix" | "tcp" = "unix") {
  const fake = await startFakeDaemon(answers, over);
  const where = over === "unix" ? { ZEUSD_SOCK_PATH: fake.address } : { ZEUSD_HOST_PORT: fake.address };
  const outcome = await run(["lease", ...argv], {
    programs: (stdout) => {
      const parts = { env: where, epochMs: () => now, stdout };
      return {
        listLeases: (flags) => listLeases(flags, parts),
        releaseLease: (flags) => releaseLease(flags, parts),
      };
    },
  });
  return { ...outcome, asked: fake.asked };
}

const { lease_id: _, ...facts } = acquired;
const held = (asked: object, wins = true): object => ({ asked, covers: null, wins });
const listed =
  (...leases: readonly object[]): Answers =>
  () => ({ body: { leases } });
const lines = ({ stdout }: Outcome): readonly string[] => stdout.split("\n").slice(0, -1);
/** A line's columns; two blanks or more stand between them. */
const cells = (line = ""): readonly string[] => line.split(/ {2,}/);

describe("zeusd lease list", () => {
  it.each(["unix", "tcp"] as const)("asks over %s, and says that there are none", async (over) => {
    const { code, stdout, stderr, asked } = await zeusd(["list"], undefined, over);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "no leases\n", stderr: "" });
    expect(asked.map(({ path }) => path)).toEqual(["/lease/list"]);
  });

  it("prints a line for each, in columns", async () => {
    const outcome = await zeusd(
      ["list"],
      listed(
        { ...facts, settings: {} },
        {
          ...facts,
          lease: 12,
          gpu_ids: [7],
          exclusive: true,
          reason: "a long run",
          since_ms: now - 3_000,
          expires_ms: now + 61_000,
          holder: { uid: null, pid: null, program: null, sub: "ci-1" },
          settings: {
            7: {
              persistence_mode: held({ enabled: true }),
              power_limit: held({ power_limit_mw: 250_500 }),
              gpu_clocks: held({ min_clock_mhz: 1200, max_clock_mhz: 1500 }, false),
            },
          },
        },
      ),
    );
    expect(outcome).toMatchObject({ code: 0, stderr: "" });
    expect(outcome.stdout).toBe(
      `LEASE  GPUS  MODE       HOLDER                  SINCE       ENDS             REASON      SETTINGS
3      0,1   shared     uid 1000 python (4711)  12 min ago  with its holder  -           -
12     7     exclusive  token ci-1              3 s ago     in 1 min         a long run  power limit 250.5 W, (GPU clocks 1200-1500 MHz), persistence mode on
`,
    );
  });

  it.each([
    [
      { 0: { power_limit: held({ power_limit_mw: 250_000 }) }, 1: { power_limit: held({ power_limit_mw: 250_000 }) } },
      "power limit 250 W",
    ],
    [
      { 0: { power_limit: held({ power_limit_mw: 250_000 }) }, 1: { power_limit: held({ power_limit_mw: 300_000 }) } },
      "0: power limit 250 W; 1: power limit 300 W",
    ],
    [{ 0: { memory_clocks: held({ min_clock_mhz: 1593, max_clock_mhz: 1593 }) }, 1: {} }, "memory clocks 1593 MHz"],
    [{ 0: { gpu_clocks: held({}) } }, "GPU clocks unlocked"],
    [{ 0: { persistence_mode: held({ enabled: false }, false) } }, "(persistence mode off)"],
  ])("shows settings %j as %s", async (settings, text) => {
    const [, line] = lines(await zeusd(["list"], listed({ ...facts, settings })));
    expect(cells(line).at(-1)).toBe(text);
  });

  it.each([
    [0, "0 s ago"],
    [-5_000, "0 s ago"],
    [59_999, "59 s ago"],
    [3_600_000, "1 h 0 min ago"],
    [12_000_000, "3 h 20 min ago"],
    [180_000_000, "2 d 2 h ago"],
  ])("says of a lease that is %i ms old: %s", async (ageMs, text) => {
    const [, line] = lines(await zeusd(["list"], listed({ ...facts, since_ms: now - ageMs, settings: {} })));
    expect(cells(line)[4]).toBe(text);
  });

  it("says of one that came with a write that it is implicit, and of a holder what is known", async () => {
    const holder = { uid: 0, pid: null, program: null, sub: null };
    const [, line] = lines(
      await zeusd(["list"], listed({ ...facts, gpu_ids: [], implicit: true, holder, settings: {} })),
    );
    expect(cells(line).slice(1, 4)).toEqual(["-", "implicit", "uid 0"]);
  });

  it("shows what others have written in a way that does nothing to a terminal", async () => {
    const evil = "a\u001b[2Jb\nc\u009b\u202ed\u2028\u{e0001}";
    const holder = { uid: 1, pid: 2, program: evil, sub: evil };
    const leases = [{ ...facts, reason: evil, holder, settings: {} }];
    const table = await zeusd(["list"], listed(...leases));
    expect(lines(table)).toHaveLength(2);
    expect(table.stdout).toContain("a\u{fffd}[2Jb\u{fffd}c\u{fffd}\u{fffd}d\u{fffd}\u{fffd}");
    expect(table.stdout).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}\u2028]/u);

    const json = await zeusd(["list", "--json"], listed(...leases));
    expect(json.stdout).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}\u2028]/u);
    expect(JSON.parse(json.stdout)).toEqual({ leases });
  });

  it("prints with --json what the daemon says", async () => {
    const leases = [{ ...facts, settings: { 0: { power_limit: held({ power_limit_mw: 1 }) } }, of_a_later_version: 1 }];
    expect(JSON.parse((await zeusd(["list", "--json"], listed(...leases))).stdout)).toEqual({ leases });
    expect(JSON.parse((await zeusd(["list", "--json"])).stdout)).toEqual({ leases: [] });
  });

  it.each([
    [{ status: 404, body: "" }, /^Error: The daemon at '[^']*' knows no leases\n$/],
    [{ status: 404, body: { error: "not enabled" } }, /^Error: not enabled\n$/],
    [{ status: 403, body: { error: "no\u001b[2J", code: "forbidden" } }, /^Error: no\u{fffd}\[2J\n$/u],
    [{ status: 500, body: "" }, /^Error: The daemon at '[^']*' answers with status 500\n$/],
    [{ status: 200, body: "<html>" }, /^Error: What answers at '[^']*' is no zeusd that knows leases\n$/],
    [{ status: 200, body: [] }, /^Error: What answers at /],
    [{ status: 401, body: {} }, /^Error: The daemon at '[^']*' wants a token; give one in ZEUSD_TOKEN\n$/],
  ])("answered with %j ends with 1 and a sentence", async (reply, stderr) => {
    expect(await zeusd(["list"], () => reply)).toMatchObject({
      code: 1,
      stdout: "",
      stderr: expect.stringMatching(stderr),
    });
  });
});

describe("zeusd lease release", () => {
  it("ends a lease by its number, and prints what became of each GPU", async () => {
    const late = () => ({ body: { lease: 3, gpus: { 0: "restored", 1: "GPU 1 is stuck\u001b" } } });
    const { code, stdout, stderr, asked } = await zeusd(["release", "3"], late);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toBe("lease 3 has ended\n  GPU 0: restored\n  GPU 1: GPU 1 is stuck\u{fffd}\n");
    expect(asked).toEqual([{ path: "/lease/release", query: { lease: "3" } }]);
  });

  it("asks for somebody else's lease with --force", async () => {
    for (const argv of [
      ["release", "--force", "3"],
      ["release", "3", "--force"],
    ]) {
      const { asked } = await zeusd(argv);
      expect(asked).toEqual([{ path: "/lease/release", query: { lease: "3", force: "true" } }]);
    }
  });

  it("ends with 1 and the daemon's sentence where that refuses", async () => {
    const refused = () => ({ status: 403, body: { error: "lease 3 is uid 0's", code: "forbidden" } });
    expect(await zeusd(["release", "3"], refused)).toMatchObject({
      code: 1,
      stdout: "",
      stderr: "Error: lease 3 is uid 0's\n",
    });
  });

  it.each([[[]], [["x"]], [["-1"]], [["3.5"]], [["3", "4"]], [["3", "--force", "--force"]], [["3", "--all"]]])(
    "%j is a usage error",
    async (argv) => {
      expect(await run(["lease", "release", ...argv])).toEqual(usageError());
    },
  );
});
