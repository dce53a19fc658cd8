// The audit's file: whole lines at its end, in the file that has its name.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import type { AuditSink } from "../../src/access/audit.ts";
import { openAuditFile } from "../../src/access/audit-file.ts";
import { createFolder } from "../folder.ts";

const createPath = (): string => join(createFolder(), "audit.jsonl");
const euid = process.geteuid?.() ?? 0;
const open = (path: string): AuditSink => openAuditFile(path, euid);
const read = (path: string): string => readFileSync(path, "utf8");

describe("a line", () => {
  it("stands in the file as soon as it is written, with its end", () => {
    const path = createPath();
    const sink = open(path);
    sink.append(['{"a":1}']);
    expect(read(path)).toBe('{"a":1}\n');
    sink.append(['{"b":"zoë 日本"}']);
    expect(read(path)).toBe('{"a":1}\n{"b":"zoë 日本"}\n');
  });

  it("comes after what the file had before, and after what others have written to it since", () => {
    const path = createPath();
    writeFileSync(path, "old\n");
    const [one, other] = [open(path), open(path)];
    for (const n of [1, 2, 3]) {
      one.append([`one ${n}`]);
      other.append([`other ${n}`]);
    }
    expect(read(path)).toBe("old\none 1\nother 1\none 2\nother 2\none 3\nother 3\n");
    writeFileSync(path, "");
    one.append(["after"]);
    expect(read(path)).toBe("after\n");
  });

  it("is one of as many as are written at once", () => {
    const path = createPath();
    const sink = open(path);
    sink.append(["1", "2", "3"]);
    sink.append(["4"]);
    expect(read(path)).toBe("1\n2\n3\n4\n");
  });

  it("of any length is written whole", () => {
    const path = createPath();
    open(path).append(["x".repeat(3_000_000)]);
    expect(statSync(path).size).toBe(3_000_001);
  });
});

describe("the file", () => {
  it("that is made can be read by its owner and group alone", () => {
    const before = process.umask(0o022);
    onTestFinished(() => void process.umask(before));
    const path = createPath();
    open(path);
    expect(statSync(path).mode & 0o777).toBe(0o640);
  });

  it("that is there keeps its mode", () => {
    const path = createPath();
    writeFileSync(path, "");
    chmodSync(path, 0o604);
    open(path).append(["x"]);
    expect(statSync(path).mode & 0o777).toBe(0o604);
  });

  it("that was moved away gets all lines until it is opened anew, and none from then on", () => {
    const path = createPath();
    const sink = open(path);
    sink.append(["1"]);
    renameSync(path, `${path}.1`);
    sink.append(["2"]);
    sink.reopen();
    sink.append(["3"]);
    expect([read(`${path}.1`), read(path)]).toEqual(["1\n2\n", "3\n"]);
    expect(statSync(path).mode & 0o027).toBe(0);
  });

  it("that was removed is made again, by the next line already", () => {
    const path = createPath();
    const sink = open(path);
    sink.append(["1"]);
    rmSync(path);
    sink.append(["2"]);
    expect(read(path)).toBe("2\n");
    rmSync(path);
    sink.reopen();
    expect(read(path)).toBe("");
    sink.append(["3"]);
    expect(read(path)).toBe("3\n");
  });

  it("that was removed and cannot be made again takes no line, which whoever writes it is told, until it can", () => {
    const path = createPath();
    const sink = open(path);
    rmSync(path);
    mkdirSync(path);
    for (let time = 0; time < 2; time += 1) expect(() => sink.append(["1"])).toThrow("Is a directory (os error 21)");
    rmSync(path, { recursive: true });
    sink.append(["2"]);
    expect(read(path)).toBe("2\n");
  });

  it("that is opened anew without having been moved goes on", () => {
    const path = createPath();
    const sink = open(path);
    sink.append(["1"]);
    sink.reopen();
    sink.append(["2"]);
    expect(read(path)).toBe("1\n2\n");
  });

  it("that cannot be opened anew goes on as the one that was open", () => {
    const path = createPath();
    const sink = open(path);
    renameSync(path, `${path}.1`);
    mkdirSync(path);
    expect(() => sink.reopen()).toThrow("Is a directory (os error 21)");
    sink.append(["1"]);
    rmSync(path, { recursive: true });
    symlinkSync(`${path}.2`, path);
    expect(() => sink.reopen()).toThrow("(os error 40)");
    sink.append(["2"]);
    expect(read(`${path}.1`)).toBe("1\n2\n");
    rmSync(path);
    sink.reopen();
    sink.append(["3"]);
    expect(read(path)).toBe("3\n");
  });
});

describe("it is refused, with the system's words, if it is", () => {
  it.each([
    ["a folder", (path: string) => mkdirSync(path), "Is a directory (os error 21)"],
    ["a link", (path: string) => symlinkSync(`${path}.2`, path), "Too many symbolic links encountered (os error 40)"],
    [
      "a pipe that nobody reads, for which nobody is waited",
      makePipe,
      /^(it is no regular file|No such device or address .os error 6.)$/,
    ],
    ["a pipe that somebody reads", makeReadPipe, "it is no regular file"],
    [
      "a file that everyone can write to",
      (path: string) => makeFile(path, 0o602),
      "everyone can write to it; chmod o-w it",
    ],
    [
      "a file that has another name",
      (path: string) => (makeFile(path, 0o600), linkSync(path, `${path}.2`)),
      "it has other names as well (hard links); give one that has none",
    ],
    [
      "in a folder that is not there",
      (path: string) => rmSync(join(path, ".."), { recursive: true }),
      "No such file or directory (os error 2)",
    ],
  ])("%s", (_, make, reason) => {
    const path = createPath();
    make(path);
    expect(() => open(path)).toThrow(reason);
  });

  it("a file of somebody who is neither root nor who runs the daemon", () => {
    const path = createPath();
    makeFile(path, 0o600);
    // Only root can give a file away; of anybody else it is asked for as if somebody else ran the daemon.
    if (euid === 0) chownSync(path, 34_001, 34_001);
    const { uid } = statSync(path);
    expect(() => openAuditFile(path, uid + 1)).toThrow(
      `it belongs to uid ${uid}, who could change it; make root its owner`,
    );
    openAuditFile(path, uid).append(["1"]);
    expect(read(path)).toBe("1\n");
  });

  it("when it is opened anew, and then it goes on as before", () => {
    const path = createPath();
    const sink = open(path);
    renameSync(path, `${path}.1`);
    makeFile(path, 0o666);
    expect(() => sink.reopen()).toThrow("everyone can write to it");
    sink.append(["1"]);
    expect([read(`${path}.1`), read(path)]).toEqual(["1\n", ""]);
  });

  it("a device", () => {
    expect(() => open("/dev/full")).toThrow(/^it is no regular file$/);
  });
});

function makeFile(path: string, mode: number): void {
  writeFileSync(path, "");
  chmodSync(path, mode);
}

function makePipe(path: string): void {
  execFileSync("sh", ["-c", `mkfifo "$1"`, "sh", path]);
}

function makeReadPipe(path: string): void {
  makePipe(path);
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  onTestFinished(() => closeSync(reader));
}

describe("where the disk has no room left", () => {
  // A limit on the size of files says no in the middle of a line too, as a full disk does.
  const prlimit = (...options: string[]): string =>
    execFileSync("sh", ["-c", `prlimit --pid "$@"`, "sh", `${process.pid}`, ...options])
      .toString()
      .trim();

  /** Runs something while files may have no more than so many bytes. */
  function within(bytes: number, attempt: () => void): void {
    const before = prlimit("--fsize", "--output=SOFT", "--noheadings");
    prlimit(`--fsize=${bytes}:`);
    try {
      attempt();
    } finally {
      prlimit(`--fsize=${before}:`);
    }
  }

  const tooLarge = "File too large (os error 27)";
  const partly = "there is room for a part of it only";

  it("the line that has none is refused, and the next comes as if there had been none", () => {
    const path = createPath();
    const sink = open(path);
    sink.append(["one"]);
    within(4, () => {
      expect(() => sink.append(["two"])).toThrow(tooLarge);
      expect(() => sink.append(["two"])).toThrow(tooLarge);
    });
    sink.append(["three"]);
    expect(read(path)).toBe("one\nthree\n");
  });

  it("a line of which a part would fit leaves nothing behind, so that whoever reads the file finds whole lines", () => {
    const path = createPath();
    const sink = open(path);
    sink.append(["zero"]);
    within(7, () => {
      for (let time = 0; time < 2; time += 1) {
        expect(() => sink.append(["one"])).toThrow(partly);
        expect(read(path)).toBe("zero\n");
      }
    });
    sink.append(["three"]);
    expect(read(path)).toBe("zero\nthree\n");
  });

  it("several lines are written all or none, wherever it ends", () => {
    for (let bytes = 1; bytes < 14; bytes += 1) {
      const path = createPath();
      const sink = open(path);
      within(bytes, () => expect(() => sink.append(["one", "two", "three"])).toThrow(partly));
      expect(read(path)).toBe("");
      sink.append(["four", "five"]);
      expect(read(path)).toBe("four\nfive\n");
    }
  });

  it("a line that a daemon left torn when it was killed is ended before the next", () => {
    const path = createPath();
    writeFileSync(path, "thr");
    const sink = open(path);
    within(5, () => expect(() => sink.append(["four"])).toThrow(partly));
    expect(read(path)).toBe("thr");
    sink.reopen();
    sink.append(["five"]);
    sink.append(["six"]);
    expect(read(path)).toBe("thr\nfive\nsix\n");
  });

  it("a new file begins with a whole line, though the old one was torn", () => {
    const path = createPath();
    writeFileSync(path, "thr");
    const sink = open(path);
    renameSync(path, `${path}.1`);
    sink.reopen();
    sink.append(["two"]);
    expect([read(`${path}.1`), read(path)]).toEqual(["thr", "two\n"]);
  });
});
