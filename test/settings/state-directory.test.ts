// The state directory: made or refused, and used by one daemon at a time.
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { StartError } from "../../src/contract/errors.ts";
import {
  openStateDirectory,
  type StateDirectory,
  type StateDirectoryParts,
} from "../../src/settings/state-directory.ts";
import { createFolder as createOpenFolder } from "../folder.ts";

const euid = process.geteuid?.() ?? 0;

function createFolder(): string {
  const folder = createOpenFolder();
  chmodSync(folder, 0o755);
  return folder;
}

/** Locks as the kernel gives them, for daemons of this test. */
function createLocks(): Pick<StateDirectoryParts, "lock" | "holder"> & { readonly held: Map<string, number> } {
  const held = new Map<string, number>();
  return {
    held,
    lock(path) {
      if (held.has(path)) return undefined;
      writeFileSync(path, "");
      held.set(path, 123);
      return () => {
        if (!held.delete(path)) throw new Error("it was given back before");
      };
    },
    holder: (path) => held.get(path),
  };
}

const open = (path: string, parts: Partial<StateDirectoryParts> = {}): StateDirectory =>
  openStateDirectory({ path, euid, ...createLocks(), ...parts });

/** What is refused touches nothing, not even the lock. */
function expectRefused(path: string, reason: string, parts: Partial<StateDirectoryParts> = {}): void {
  const { held, ...locks } = createLocks();
  const opening = (): unknown => open(path, { ...locks, ...parts });
  expect(opening).toThrow(StartError);
  expect(opening).toThrow(
    `Cannot use the state directory '${path}': ${reason}; put that right, or choose another --state-dir`,
  );
  expect(held.size).toBe(0);
}

const modeOf = (path: string): number => lstatSync(path).mode & 0o7777;

/** Makes files as a daemon does that was started with this umask. */
function withUmask(umask: number): void {
  const before = process.umask(umask);
  onTestFinished(() => void process.umask(before));
}

describe("a directory that is absent", () => {
  it("is made for its owner alone, and those above it for everyone to look into", () => {
    withUmask(0);
    const folder = createFolder();
    const path = join(folder, "var", "lib", "zeusd");
    const directory = open(path);
    expect(directory.path).toBe(path);
    expect(modeOf(path)).toBe(0o700);
    expect(modeOf(join(folder, "var"))).toBe(0o755);
    expect(modeOf(join(folder, "var", "lib"))).toBe(0o755);
    expect(readdirSync(path)).toEqual(["lock"]);
  });

  it("is found by a path from where the daemon runs, and told by its whole path", () => {
    const path = join(createFolder(), "state");
    expect(open(`${relative(process.cwd(), path)}/`).path).toBe(path);
    expect(statSync(path).isDirectory()).toBe(true);
  });

  it("cannot be made below a file, or where nobody can make one", () => {
    const file = join(createFolder(), "file");
    writeFileSync(file, "");
    expectRefused(join(file, "state"), "Not a directory (os error 20)");
    expectRefused(join(file, "above", "state"), "Not a directory (os error 20)");
    expectRefused("/proc/absent/state", "No such file or directory (os error 2)");
  });
});

describe("a directory that is there", () => {
  it.each([0o700, 0o750, 0o755, 0o1755, 0o2755])("is used as it is if only its owner can write to it: %o", (mode) => {
    const path = join(createFolder(), "state");
    mkdirSync(path);
    chmodSync(path, mode);
    writeFileSync(join(path, "leases.journal"), "kept");
    open(path);
    expect(modeOf(path)).toBe(mode);
    expect(readdirSync(path).toSorted()).toEqual(["leases.journal", "lock"]);
  });

  it.each([0o770, 0o702, 0o777, 0o1777])("is refused if others can write to it: %o", (mode) => {
    const path = join(createFolder(), "state");
    mkdirSync(path);
    chmodSync(path, mode);
    expectRefused(path, "others than its owner can write to it");
    expect(readdirSync(path)).toEqual([]);
  });

  it("is refused if it belongs to somebody else than root and the daemon's own user", () => {
    const path = join(createFolder(), "state");
    mkdirSync(path);
    // Only root can give a directory away.
    const owner = euid === 0 ? 1 : euid;
    if (euid === 0) chownSync(path, owner, owner);
    expectRefused(path, `it belongs to uid ${owner}`, { euid: owner + 1 });
    expectRefused(path, `it belongs to uid ${owner}`, { euid: 0 });
    expect(open(path, { euid: owner }).path).toBe(path);
  });

  it("may be root's, whoever the daemon runs as", () => {
    expect(open("/etc", { euid: 12_345, lock: () => () => {} }).path).toBe("/etc");
  });

  it("is refused if it is a link, also with a slash at its end, or a file", () => {
    const folder = createFolder();
    const [directory, link, file] = ["directory", "link", "file"].map((name) => join(folder, name));
    mkdirSync(`${directory}`, { mode: 0o700 });
    symlinkSync(`${directory}`, `${link}`);
    writeFileSync(`${file}`, "");
    expectRefused(`${link}`, "it is a symbolic link");
    expect(() => open(`${link}/`)).toThrow("it is a symbolic link");
    expectRefused(`${file}`, "it is no directory");
    expect(readdirSync(`${directory}`)).toEqual([]);
  });

  it("may be reached through a link above it, as /var/run is one", () => {
    const folder = createFolder();
    mkdirSync(join(folder, "run"), { mode: 0o755 });
    symlinkSync("run", join(folder, "link"));
    open(join(folder, "link", "zeusd"));
    expect(modeOf(join(folder, "run", "zeusd"))).toBe(0o700);
  });
});

describe("the directory above it", () => {
  it.each([
    [0o777, "there", true],
    [0o777, "absent", true],
    [0o757, "absent", true],
    [0o1777, "there", false],
    [0o1777, "absent", false],
    [0o755, "absent", false],
  ])("of mode %o decides, where the directory is %s, whether it is refused: %s", (mode, state, refused) => {
    const parent = createFolder();
    const path = join(parent, "state");
    if (state === "there") mkdirSync(path, { mode: 0o700 });
    chmodSync(parent, mode);
    if (!refused) expect(open(path).path).toBe(path);
    else {
      expectRefused(path, `others than its owner can write to '${parent}', which holds it`);
      expect(readdirSync(parent)).toEqual(state === "there" ? ["state"] : []);
    }
  });
});

describe("a second daemon", () => {
  it("is refused, with what to do, until the first has closed it", () => {
    const path = join(createFolder(), "state");
    const locks = createLocks();
    const first = open(path, locks);
    const second = (): StateDirectory => open(path, locks);
    const reason = `Another zeusd (pid 123) uses the state directory '${path}'; give --state-dir another one, or stop it`;
    expect(second).toThrow(StartError);
    expect(second).toThrow(reason);
    first.close();
    const next = second();
    // A second close does not take the lock from whoever has it now.
    first.close();
    expect(second).toThrow(reason);
    next.close();
    expect(locks.held.size).toBe(0);
  });

  it("is refused also where nobody can tell which process the first is", () => {
    const path = join(createFolder(), "state");
    expect(() => open(path, { lock: () => undefined, holder: () => undefined })).toThrow(
      `Another zeusd uses the state directory '${path}'; give --state-dir another one, or stop it`,
    );
  });

  it("is told when there are no locks", () => {
    const path = join(createFolder(), "state");
    const lock = (): never => {
      throw new Error("No locks available (os error 37)");
    };
    expect(() => open(path, { lock })).toThrow(StartError);
    expect(() => open(path, { lock })).toThrow(
      `Cannot lock '${path}/lock': No locks available (os error 37); choose another --state-dir`,
    );
  });
});
