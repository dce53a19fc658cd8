// Files that decide who may do what: none that somebody else could have written is read.
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readTrustedFile } from "../../src/access/trusted-file.ts";
import { createFolder } from "../folder.ts";

const own = process.geteuid?.() ?? -1;

function createFile(content: string | Uint8Array = "all\n", mode = 0o644): string {
  const path = join(createFolder(), "file");
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

const read = (path: string, euid = own): Promise<string> => readTrustedFile(path, euid);

describe("a file is read", () => {
  it.each([
    ["", ""],
    ["a = 'zoë 日本'\r\n", "a = 'zoë 日本'\r\n"],
    ["\ufeffa = 1", "a = 1"],
    ["a\0b", "a\0b"],
  ])("with its text, without a mark at its beginning: %j", async (content, text) => {
    expect(await read(createFile(content))).toBe(text);
  });

  it.each([0o400, 0o600, 0o640, 0o644, 0o660, 0o664, 0o755])(
    "if only its owner and group can write to it: %o",
    async (mode) => {
      expect(await read(createFile("x", mode))).toBe("x");
    },
  );

  it("through a link", async () => {
    const path = createFile("x");
    symlinkSync(path, `${path}.link`);
    expect(await read(`${path}.link`)).toBe("x");
  });

  it("of up to a mebibyte", async () => {
    expect(await read(createFile("x".repeat(1024 * 1024)))).toHaveLength(1024 * 1024);
  });

  it("that belongs to the daemon's own user, and only root's besides", async () => {
    const path = createFile("x");
    // Only root can give a file away.
    const owner = own === 0 ? 1 : own;
    if (own === 0) chownSync(path, owner, owner);
    expect(await read(path, owner)).toBe("x");
    const reason = `it belongs to uid ${owner}, who could change it; make root its owner`;
    await expect(read(path, owner + 1)).rejects.toThrow(reason);
    await expect(read(path, 0)).rejects.toThrow(reason);
    expect(await read("/etc/passwd", owner)).toContain("root:");
  });
});

describe("it is refused, with the reason,", () => {
  it.each([0o602, 0o646, 0o666, 0o777, 0o002])("if everyone can write to it: %o", async (mode) => {
    const path = createFile("x", mode);
    await expect(read(path)).rejects.toThrow(
      own === 0 || mode !== 0o002 ? "everyone can write to it; chmod o-w it" : "Permission denied (os error 13)",
    );
  });

  it.each([
    ["missing", (path: string) => path, "No such file or directory (os error 2)"],
    ["below a file", (path: string) => (writeFileSync(path, ""), join(path, "x")), "Not a directory (os error 20)"],
    ["a folder", (path: string) => (mkdirSync(path), path), "it is no regular file"],
    [
      "a pipe, for which nobody is waited",
      (path: string) => (execFileSync("sh", ["-c", `mkfifo "$1"`, "sh", path]), path),
      "it is no regular file",
    ],
    ["a device", () => "/dev/zero", "it is no regular file"],
    [
      "a link to nothing",
      (path: string) => (symlinkSync("nowhere", path), path),
      "No such file or directory (os error 2)",
    ],
    ["a link to itself", (path: string) => (symlinkSync(path, path), path), "(os error 40)"],
  ])("if it is %s", async (_, make, reason) => {
    await expect(read(make(join(createFolder(), "file")))).rejects.toThrow(reason);
  });

  it("if it is larger than a mebibyte", async () => {
    await expect(read(createFile("x".repeat(1024 * 1024 + 1)))).rejects.toThrow(
      "it holds 1048577 bytes; 1048576 are the most",
    );
  });

  it.each([[[0xff]], [[0x61, 0xc3]], [[0xed, 0xa0, 0x80]], [[0xff, 0xfe, 0x61, 0x00]]])(
    "if it is no UTF-8: %j",
    async (bytes) => {
      await expect(read(createFile(Uint8Array.from(bytes)))).rejects.toThrow("it is no UTF-8 text");
    },
  );
});

it("no reading leaves a descriptor behind, whether it succeeds or not", async () => {
  const good = createFile("x");
  const bad = createFile("x", 0o666);
  const open = (): number => readdirSync("/proc/self/fd").length;
  await read(good);
  const before = open();
  for (let time = 0; time < 50; time += 1) await Promise.allSettled([read(good), read(bad), read("/dev/null")]);
  expect(open()).toBeLessThan(before + 20);
});
