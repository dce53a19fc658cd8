// The audit's file: whole lines at its end, in the file that has its name.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  constants,
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
import { openAuditFile } from "../../src/access/audit-file.ts";
import { createFolder } from "../processes/folder.ts";

const createPath = (): string => join(createFolder(), "audit.jsonl");
const read = (path: string): string => readFileSync(path, "utf8");

describe("a line", () => {
  it("stands in the file as soon as it is written, with its end", () => {
    const path = createPath();
    const sink = openAuditFile(path);
    sink.append(['{"a":1}']);
    expect(read(path)).toBe('{"a":1}\n');
    sink.append(['{"b":"zoë 日本"}']);
    expect(read(path)).toBe('{"a":1}\n{"b":"zoë 日本"}\n');
  });

  it("comes after what the file had before, and after what others have written to it since", () => {
    const path = createPath();
    writeFileSync(path, "old\n");
    const [one, other] = [openAuditFile(path), openAuditFile(path)];
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
    const sink = openAuditFile(path);
    sink.append(["1", "2", "3"]);
    sink.append(["4"]);
    expect(read(path)).toBe("1\n2\n3\n4\n");
  });

  it("of any length is written whole", () => {
    const path = createPath();
    openAuditFile(path).append(["x".repeat(3_000_000)]);
    expect(statSync(path).size).toBe(3_000_001);
  });
});

describe("the file", () => {
  it("that is made can be read by its owner and group alone", () => {
    const before = process.umask(0o022);
    onTestFinished(() => void process.umask(before));
    const path = createPath();
    openAuditFile(path);
    expect(statSync(path).mode & 0o777).toBe(0o640);
  });

  it("that is there keeps its mode", () => {
    const path = createPath();
    writeFileSync(path, "");
    chmodSync(path, 0o604);
    openAuditFile(path).append(["x"]);
    expect(statSync(path).mode & 0o777).toBe(0o604);
  });

  it("that was moved away gets all lines until it is opened anew, and none from then on", () => {
    const path = createPath();
    const sink = openAuditFile(path);
    sink.append(["1"]);
    renameSync(path, `${path}.1`);
    sink.append(["2"]);
    sink.reopen();
    sink.append(["3"]);
    expect([read(`${path}.1`), read(path)]).toEqual(["1\n2\n", "3\n"]);
    expect(statSync(path).mode & 0o027).toBe(0);
  });

  it("that was removed is made again", () => {
    const path = createPath();
    const sink = openAuditFile(path);
    rmSync(path);
    sink.reopen();
    sink.append(["1"]);
    expect(read(path)).toBe("1\n");
  });

  it("that is opened anew without having been moved goes on", () => {
    const path = createPath();
    const sink = openAuditFile(path);
    sink.append(["1"]);
    sink.reopen();
    sink.append(["2"]);
    expect(read(path)).toBe("1\n2\n");
  });

  it("that cannot be opened anew goes on as the one that was open", () => {
    const path = createPath();
    const sink = openAuditFile(path);
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
      "in a folder that is not there",
      (path: string) => rmSync(join(path, ".."), { recursive: true }),
      "No such file or directory (os error 2)",
    ],
  ])("%s", (_, make, reason) => {
    const path = createPath();
    make(path);
    expect(() => openAuditFile(path)).toThrow(reason);
  });

  it("a device", () => {
    expect(() => openAuditFile("/dev/full")).toThrow(/^it is no regular file$/);
  });
});

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
  const torn = "only a part could be written";

  it("the line that has none is refused, and the next comes as if there had been none", () => {
    const path = createPath();
    const sink = openAuditFile(path);
    sink.append(["one"]);
    within(4, () => {
      expect(() => sink.append(["two"])).toThrow(tooLarge);
      expect(() => sink.append(["two"])).toThrow(tooLarge);
    });
    sink.append(["three"]);
    expect(read(path)).toBe("one\nthree\n");
  });

  it("a line that was torn is ended before the next", () => {
    const path = createPath();
    const sink = openAuditFile(path);
    within(2, () => {
      expect(() => sink.append(["one"])).toThrow(torn);
      expect(() => sink.append(["two"])).toThrow(tooLarge);
    });
    sink.append(["three"]);
    sink.append(["four"]);
    expect(read(path)).toBe("on\nthree\nfour\n");
  });

  it("of several lines those before the torn one are whole, and it is ended before the next", () => {
    const path = createPath();
    const sink = openAuditFile(path);
    within(5, () => expect(() => sink.append(["one", "two", "three"])).toThrow(torn));
    sink.append(["four", "five"]);
    expect(read(path)).toBe("one\nt\nfour\nfive\n");
  });

  it("a line of which nothing but its end is missing is ended before the next", () => {
    const path = createPath();
    const sink = openAuditFile(path);
    within(3, () => expect(() => sink.append(["one"])).toThrow(torn));
    sink.append(["two"]);
    expect(read(path).split("\n").filter(Boolean)).toEqual(["one", "two"]);
  });

  it("lines that are torn one after the other are all ended", () => {
    const path = createPath();
    const sink = openAuditFile(path);
    for (const bytes of [2, 3, 5, 8]) within(bytes, () => expect(() => sink.append(["abcdefgh"])).toThrow());
    sink.append(["last"]);
    const lines = read(path).split("\n");
    expect(lines.slice(-2)).toEqual(["last", ""]);
    for (const line of lines.slice(0, -2)) expect("abcdefgh".startsWith(line)).toBe(true);
  });

  it("a line that was torn is ended before the next also if the file was opened anew meanwhile, or by the next daemon", () => {
    const path = createPath();
    const sink = openAuditFile(path);
    within(2, () => expect(() => sink.append(["one"])).toThrow(torn));
    sink.reopen();
    sink.append(["two"]);
    expect(read(path)).toBe("on\ntwo\n");
    writeFileSync(path, "thr");
    openAuditFile(path).append(["four"]);
    expect(read(path)).toBe("thr\nfour\n");
  });

  it("a new file begins with a whole line, though the old one was torn", () => {
    const path = createPath();
    const sink = openAuditFile(path);
    within(2, () => expect(() => sink.append(["one"])).toThrow(torn));
    renameSync(path, `${path}.1`);
    sink.reopen();
    sink.append(["two"]);
    expect(read(path)).toBe("two\n");
  });
});
