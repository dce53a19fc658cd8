// A lock that goes with its process: other processes that want it, have it, and are killed.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync, readdirSync, readlinkSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, it, onTestFinished } from "vitest";
import { lockFile, lockHolder } from "../../src/native/lock.ts";
import { createFolder } from "../folder.ts";
import { descriptorsOfThisProcess, startSleeper } from "./processes.ts";

const lock = join(import.meta.dirname, "../../dist/native/lock.js");
const script = `
  const { lockFile, lockHolder } = await import(${JSON.stringify(lock)});
  const path = process.argv[1];
  console.log(JSON.stringify({ has: lockFile(path) !== undefined, holder: lockHolder(path) ?? null }));
  process.stdin.resume();
`;
const args = ["--input-type=module", "-e", script];

function createPath(): string {
  return join(createFolder(), "lock");
}

/** What another process finds, which has ended afterwards. */
function tryElsewhere(path: string): unknown {
  return JSON.parse(spawnSync(process.execPath, [...args, path], { input: "", encoding: "utf8" }).stdout);
}

/** Another process that has it. */
async function startHolder(path: string) {
  const child = spawn(process.execPath, [...args, path], { stdio: ["pipe", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const ended = once(child, "exit");
  const [line]: unknown[] = await once(createInterface({ input: child.stdout }), "line");
  expect(JSON.parse(String(line))).toEqual({ has: true, holder: child.pid });
  return {
    pid: child.pid,
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

it("is had by one process at a time, and says by which", () => {
  const path = createPath();
  expect(lockHolder(path)).toBeUndefined();
  const release = lockFile(path);
  expect(release).toBeDefined();
  expect(readFileSync(path, "utf8")).toBe(`${process.pid}\n`);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(tryElsewhere(path)).toEqual({ has: false, holder: process.pid });
  expect(lockHolder(path)).toBe(process.pid);
  release?.();
  expect(lockHolder(path)).toBeUndefined();
  expect(tryElsewhere(path)).toMatchObject({ has: true });
});

it("is refused to the same process, too, as long as it has it", () => {
  const path = createPath();
  const before = descriptorsOfThisProcess(path);
  const release = lockFile(path);
  expect(lockFile(path)).toBeUndefined();
  expect(readFileSync(path, "utf8")).toBe(`${process.pid}\n`);
  release?.();
  const again = lockFile(path);
  expect(again).toBeDefined();
  // Lets go of what it took, and of nobody else's.
  release?.();
  expect(lockFile(path)).toBeUndefined();
  again?.();
  expect(descriptorsOfThisProcess(path)).toEqual(before);
});

it("goes with a process that is killed", async () => {
  const path = createPath();
  const holder = await startHolder(path);
  expect(lockFile(path)).toBeUndefined();
  expect(lockHolder(path)).toBe(holder.pid);
  await holder.kill();
  expect(lockHolder(path)).toBeUndefined();
  const release = lockFile(path);
  expect(release).toBeDefined();
  release?.();
});

it("is not kept by a child", () => {
  const path = createPath();
  const release = lockFile(path);
  const { pid } = startSleeper();
  const opened = readdirSync(`/proc/${pid}/fd`).map((name) => readlinkSync(`/proc/${pid}/fd/${name}`));
  expect(opened).not.toContain(path);
  release?.();
  const again = lockFile(path);
  expect(again).toBeDefined();
  again?.();
});

it("replaces what another left in the file, and tells of nobody who is not there", () => {
  const path = createPath();
  for (const text of ["4194304000\n", "0\n", "-1\n", "x\n", "", `${process.pid}`, `${process.pid}\n\n`, "../self\n"]) {
    writeFileSync(path, text);
    expect(lockHolder(path), JSON.stringify(text)).toBeUndefined();
  }
  writeFileSync(path, "1234567890 and more\n");
  const release = lockFile(path);
  expect(readFileSync(path, "utf8")).toBe(`${process.pid}\n`);
  release?.();
});

it("fails like Node where there can be no lock, and follows no link", () => {
  const folder = createFolder();
  const [path, link] = [join(folder, "lock"), join(folder, "link")];
  symlinkSync(path, link);
  expect(() => lockFile(link)).toThrow(expect.objectContaining({ code: "ELOOP" }));
  expect(() => lockFile(join(folder, "none", "lock"))).toThrow(expect.objectContaining({ code: "ENOENT" }));
  expect(() => lockFile(folder)).toThrow(expect.objectContaining({ code: "EISDIR" }));
  expect(lockHolder(folder)).toBeUndefined();
  expect(descriptorsOfThisProcess(folder)).toEqual([]);
});
