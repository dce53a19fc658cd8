// The journal's file: what was appended is read again, and nothing else ever is.
import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  ftruncateSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import * as fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import { openJournalFile, type FileCalls, type JournalFile } from "../../src/settings/journal-file.ts";
import { createFolder } from "../folder.ts";
import { createQuietLog } from "../quiet-log.ts";

const bootId = "0b8c6b6e-6a0e-4c5c-9a53-3d1f6c1c2a10";
const epochMs = Date.UTC(2026, 10, 24, 6, 40);
const euid = process.geteuid?.() ?? 0;
const header = { journal: "zeusd leases", version: 1, boot_id: bootId };

interface Opening {
  readonly bootId?: string;
  readonly epochMs?: number;
  readonly euid?: number;
  readonly calls?: Partial<FileCalls>;
}

interface Opened {
  readonly file: JournalFile;
  readonly records: readonly unknown[];
  readonly lines: readonly string[];
}

const systemCalls: FileCalls = { writeSync, ftruncateSync, renameSync };

function open(directory: string, opening: Opening = {}): Opened {
  const log = createQuietLog();
  const { file, records } = openJournalFile({
    directory,
    bootId: opening.bootId ?? bootId,
    log,
    epochMs: () => opening.epochMs ?? epochMs,
    ...(opening.euid !== undefined && { euid: opening.euid }),
    calls: { ...systemCalls, ...opening.calls },
  });
  onTestFinished(() => file.close());
  return { file, records, lines: log.lines };
}

/** What the next daemon finds. */
const reread = (directory: string): Pick<Opened, "records" | "lines"> => {
  const { file, records, lines } = open(directory);
  file.close();
  return { records, lines };
};

const pathIn = (directory: string): string => join(directory, "leases.journal");
const textIn = (directory: string): string => readFileSync(pathIn(directory), "utf8");
const line = (json: string): string => `${crc32(json).toString(16).padStart(8, "0")} ${json}\n`;
const lines = (...records: readonly unknown[]): string => records.map((each) => line(JSON.stringify(each))).join("");

/** A folder with a journal that says this. */
function folderWith(content: string | Uint8Array, mode = 0o600): string {
  const folder = createFolder();
  writeFileSync(pathIn(folder), content);
  chmodSync(pathIn(folder), mode);
  return folder;
}

const asideIn = (folder: string): readonly string[] =>
  readdirSync(folder)
    .filter((name) => name !== "leases.journal")
    .toSorted();

/** Runs something while files may have no more than so many bytes, which says no in the middle of a line as a full disk does. */
function within(bytes: number, attempt: () => void): void {
  const prlimit = (...options: string[]): string =>
    execFileSync("sh", ["-c", `prlimit --pid "$@"`, "sh", `${process.pid}`, ...options])
      .toString()
      .trim();
  const before = prlimit("--fsize", "--output=SOFT", "--noheadings");
  prlimit(`--fsize=${bytes}:`);
  try {
    attempt();
  } finally {
    prlimit(`--fsize=${before}:`);
  }
}

function systemError(code: string, errno: number): Error {
  return Object.assign(new Error(`${code}: told by the test`), { code, errno: -errno });
}

const noSpace = "No space left on device (os error 28)";

describe("a new journal", () => {
  it("has a header and nothing else, and only its owner may read it", () => {
    const folder = createFolder();
    const { file, records, lines: told } = open(folder);
    expect(records).toEqual([]);
    expect(told).toEqual([]);
    expect(textIn(folder)).toBe(lines(header));
    expect(file.bytes).toBe(lines(header).length);
    expect(statSync(pathIn(folder)).mode & 0o7777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(["leases.journal"]);
  });

  it("takes the place of an empty file", () => {
    const folder = folderWith("");
    expect(open(folder).records).toEqual([]);
    expect(textIn(folder)).toBe(lines(header));
    expect(asideIn(folder)).toEqual([]);
  });

  it("cannot be made where there is no directory, and says so", () => {
    const folder = join(createFolder(), "absent");
    expect(() => open(folder)).toThrow(
      `the journal of leases '${pathIn(folder)}' cannot be used: No such file or directory (os error 2)`,
    );
  });

  it("is not left half made where there is no room for it", () => {
    const folder = createFolder();
    within(20, () => expect(() => open(folder)).toThrow("there is room for a part of it only"));
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each(["", "half a rec", lines(header, { a: 1 })])(
    "is not taken from what a daemon that was killed while it rewrote has left: %j",
    (left) => {
      const folder = createFolder();
      writeFileSync(`${pathIn(folder)}.new`, left);
      expect(open(folder).records).toEqual([]);
      expect(readdirSync(folder)).toEqual(["leases.journal"]);
    },
  );

  it("is not taken for what goes on where there is a whole one", () => {
    const folder = folderWith(lines(header, { a: 1 }));
    writeFileSync(`${pathIn(folder)}.new`, lines(header, { b: 1 }));
    expect(open(folder).records).toEqual([{ a: 1 }]);
    expect(readdirSync(folder)).toEqual(["leases.journal"]);
  });

  it("is open for appending only, and not for programs that the daemon starts", () => {
    const folder = createFolder();
    open(folder);
    const descriptor = readdirSync("/proc/self/fd").find((each) => linkOf(each) === pathIn(folder));
    const [, flags = ""] = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, "utf8")) ?? [];
    expect(Number.parseInt(flags, 8) & 0o2000).toBe(0o2000);
    expect(Number.parseInt(flags, 8) & 0o2000000).toBe(0o2000000);
  });
});

/** The files in a folder that this process has open. */
function openIn(folder: string): readonly string[] {
  return readdirSync("/proc/self/fd")
    .flatMap((each) => linkOf(each) ?? [])
    .filter((each) => each.startsWith(folder));
}

function linkOf(descriptor: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`);
  } catch {
    return undefined;
  }
}

describe("a record", () => {
  const records = [
    { record: "lease", lease: { number: 1, owner: { program: 'zoë "日本"\n\u2028🦓' } } },
    { "": null, nested: [{ a: [1.5, -2, 1e21] }, true] },
    {},
    { long: "日".repeat(30_000) },
    { after: "the long one" },
    { lone: "\ud800" },
  ];

  it("stands in the file when append returns, a line with its checksum", () => {
    const folder = createFolder();
    const { file } = open(folder);
    file.append({ a: 1 });
    expect(textIn(folder)).toBe(lines(header, { a: 1 }));
    file.append({ b: "zoë" });
    expect(textIn(folder)).toBe(lines(header, { a: 1 }, { b: "zoë" }));
    expect(file.bytes).toBe(statSync(pathIn(folder)).size);
  });

  it("is read again as it was, in its order, and the next goes after it", () => {
    const folder = createFolder();
    const { file } = open(folder);
    for (const record of records) file.append(record);
    file.close();
    const again = open(folder);
    expect(again.records).toEqual(records);
    expect(again.lines).toEqual([]);
    again.file.append({ more: 1 });
    expect(again.file.bytes).toBe(statSync(pathIn(folder)).size);
    expect(reread(folder).records).toEqual([...records, { more: 1 }]);
  });

  it.each([[[1]], [() => 1], [new Date(0)]])("that is no JSON object is refused: %o", (record) => {
    const folder = createFolder();
    const { file } = open(folder);
    expect(() => file.append(record)).toThrow("it is no JSON object");
    expect(textIn(folder)).toBe(lines(header));
  });

  it("is refused, and nothing is written, when the journal is closed", () => {
    const folder = createFolder();
    const { file } = open(folder);
    file.close();
    file.close();
    expect(() => file.append({ a: 1 })).toThrow("it is closed");
    expect(() => file.rewrite([])).toThrow("it is closed");
    expect(textIn(folder)).toBe(lines(header));
  });

  it("is refused where the file would become too large to be read again", () => {
    const folder = createFolder();
    const { file } = open(folder);
    const large = { large: "x".repeat(16 * 1024 * 1024) };
    for (let time = 0; time < 3; time += 1) file.append(large);
    expect(() => file.append(large)).toThrow("there is no room for it: 67108864 bytes are the most");
    file.append({ small: 1 });
    expect(() => file.rewrite([large, large, large, large])).toThrow("there is no room for it");
    expect(reread(folder).records.length).toBe(4);
    expect(asideIn(folder)).toEqual([]);
  });
});

describe("a record that cannot be written", () => {
  it("leaves nothing behind where a part of it would fit, wherever that ends", () => {
    const folder = createFolder();
    const { file } = open(folder);
    file.append({ one: 1 });
    const before = textIn(folder);
    for (let room = 0; room < lines({ two: 2 }).length; room += 1) {
      within(before.length + room, () =>
        expect(() => file.append({ two: 2 })).toThrow(
          room === 0 ? "File too large (os error 27)" : "there is room for a part of it only",
        ),
      );
      expect(textIn(folder)).toBe(before);
      expect(file.bytes).toBe(before.length);
    }
    file.append({ three: 3 });
    expect(reread(folder).records).toEqual([{ one: 1 }, { three: 3 }]);
  });

  it("throws the system's words when the disk is full", () => {
    const folder = createFolder();
    let full = false;
    const { file } = open(folder, {
      calls: {
        writeSync(...call) {
          if (full) throw systemError("ENOSPC", 28);
          return writeSync(...call);
        },
      },
    });
    full = true;
    expect(() => file.append({ one: 1 })).toThrow(noSpace);
    expect(() => file.append({ one: 1 })).toThrow(noSpace);
    full = false;
    file.append({ two: 2 });
    expect(reread(folder).records).toEqual([{ two: 2 }]);
  });

  it("does no harm where nothing of it was written, though nothing could have been taken back", () => {
    const folder = createFolder();
    let failing = false;
    const fail = (): void => {
      if (failing) throw systemError("ENOSPC", 28);
    };
    const { file } = open(folder, {
      calls: {
        writeSync: (...call) => (fail(), writeSync(...call)),
        ftruncateSync: (...call) => (fail(), ftruncateSync(...call)),
      },
    });
    failing = true;
    expect(() => file.append({ one: 1 })).toThrow(noSpace);
    failing = false;
    file.append({ two: 2 });
    expect(reread(folder).records).toEqual([{ two: 2 }]);
  });

  /** Writes half of what it is given, and cannot take it back, while `stuck`. */
  function openStuck(folder: string): { readonly file: JournalFile; stuck: boolean } {
    const state = { stuck: false };
    const { file } = open(folder, {
      calls: {
        writeSync: (descriptor, bytes, offset, length) =>
          writeSync(descriptor, bytes, offset, state.stuck ? Math.floor(length / 2) : length),
        ftruncateSync(...call) {
          if (state.stuck) throw systemError("EIO", 5);
          ftruncateSync(...call);
        },
      },
    });
    return Object.assign(state, { file });
  }

  const broken = "half a record at its end could not be taken back: Input/output error (os error 5)";

  it("breaks the journal where half of it cannot be taken back, until that is rewritten", () => {
    const folder = createFolder();
    const journal = openStuck(folder);
    journal.file.append({ one: 1 });
    journal.stuck = true;
    expect(() => journal.file.append({ two: 2 })).toThrow("there is room for a part of it only");
    expect(() => journal.file.append({ two: 2 })).toThrow(broken);
    expect(() => journal.file.rewrite([{ one: 1 }])).toThrow("there is room for a part of it only");
    journal.stuck = false;
    const torn = textIn(folder);
    expect(() => journal.file.append({ three: 3 })).toThrow(broken);
    expect(textIn(folder)).toBe(torn);
    journal.file.rewrite([{ one: 1 }]);
    journal.file.append({ four: 4 });
    expect(reread(folder)).toEqual({ records: [{ one: 1 }, { four: 4 }], lines: [] });
  });

  it("is left out by the next daemon where half of it was not taken back", () => {
    const folder = createFolder();
    const journal = openStuck(folder);
    journal.file.append({ one: 1 });
    journal.stuck = true;
    expect(() => journal.file.append({ two: 2 })).toThrow("there is room for a part of it only");
    const told = `info The last record in the journal of leases '${pathIn(folder)}', line 3, was never finished and is left out: what it announces was not begun`;
    const next = open(folder);
    expect(next).toMatchObject({ records: [{ one: 1 }], lines: [told] });
    next.file.append({ three: 3 });
    expect(reread(folder)).toEqual({ records: [{ one: 1 }, { three: 3 }], lines: [] });
  });

  it("does not fill a file that somebody else has cut with zeros", () => {
    const folder = createFolder();
    let short = false;
    const { file } = open(folder, {
      calls: {
        writeSync: (descriptor, bytes, offset, length) => writeSync(descriptor, bytes, offset, short ? 5 : length),
      },
    });
    for (let n = 0; n < 10; n += 1) file.append({ n });
    truncateSync(pathIn(folder), 3);
    short = true;
    expect(() => file.append({ a: 1 })).toThrow("there is room for a part of it only");
    expect(() => file.append({ a: 1 })).toThrow("somebody else has cut the file");
    expect(textIn(folder)).toHaveLength(8);
  });
});

describe("a rewrite", () => {
  it("replaces everything, and appending goes on after it", () => {
    const folder = createFolder();
    const { file } = open(folder);
    for (let n = 0; n < 100; n += 1) file.append({ n });
    file.rewrite([{ all: 1 }, { that: 2 }]);
    expect(textIn(folder)).toBe(lines(header, { all: 1 }, { that: 2 }));
    expect(file.bytes).toBe(textIn(folder).length);
    expect(statSync(pathIn(folder)).mode & 0o7777).toBe(0o600);
    file.append({ more: 3 });
    expect(reread(folder).records).toEqual([{ all: 1 }, { that: 2 }, { more: 3 }]);
    expect(asideIn(folder)).toEqual([]);
  });

  it("brings back a file that somebody has deleted", () => {
    const folder = createFolder();
    const { file } = open(folder);
    rmSync(pathIn(folder));
    file.append({ lost: 1 });
    file.rewrite([{ one: 1 }]);
    file.append({ two: 2 });
    expect(reread(folder).records).toEqual([{ one: 1 }, { two: 2 }]);
  });

  it("keeps no more than one file open", () => {
    const folder = createFolder();
    const { file } = open(folder);
    for (let time = 0; time < 20; time += 1) file.rewrite([{ time }]);
    expect(openIn(folder)).toEqual([pathIn(folder)]);
  });

  function* failing(): Iterable<object> {
    yield { new: 1 };
    throw new Error("it went wrong");
  }

  it.each<[string, Iterable<object>, Partial<FileCalls>, string]>([
    [
      "it cannot be renamed",
      [{ new: 1 }],
      {
        renameSync(from, to) {
          if (statSync(to, { throwIfNoEntry: false })) throw systemError("ENOSPC", 28);
          renameSync(from, to);
        },
      },
      noSpace,
    ],
    [
      "the disk is full",
      [{ new: 1 }],
      {
        writeSync(descriptor, bytes, offset, length) {
          // The buffer is used again: what comes behind the line is left from others.
          const given = Buffer.from(bytes).subarray(offset, offset + length);
          if (given.includes("new") && length < 30) throw systemError("ENOSPC", 28);
          return writeSync(descriptor, bytes, offset, length);
        },
      },
      noSpace,
    ],
    ["its records cannot be told", failing(), {}, "it went wrong"],
    ["a record is none", [{ new: 1 }, [2]], {}, "it is no JSON object"],
  ])("that fails throws and leaves the old file in use: %s", (_why, records, calls, reason) => {
    const folder = createFolder();
    const { file } = open(folder, { calls });
    file.append({ one: 1 });
    const before = file.bytes;
    expect(() => file.rewrite(records)).toThrow(reason);
    expect(file.bytes).toBe(before);
    expect(readdirSync(folder)).toEqual(["leases.journal"]);
    file.append({ two: 2 });
    expect(reread(folder).records).toEqual([{ one: 1 }, { two: 2 }]);
  });

  it("does not write through a link that lies where the new file goes", () => {
    const folder = createFolder();
    const { file } = open(folder);
    writeFileSync(join(folder, "other"), "kept");
    symlinkSync(join(folder, "other"), `${pathIn(folder)}.new`);
    file.rewrite([{ one: 1 }]);
    expect(readFileSync(join(folder, "other"), "utf8")).toBe("kept");
    expect(reread(folder).records).toEqual([{ one: 1 }]);
  });
});

describe("a journal from before the machine last started", () => {
  it.each([
    ["whole", lines({ a: 1 })],
    ["damaged", "damage\n"],
    ["unfinished", "12"],
  ])("is dropped, however it goes on: %s", (_how, rest) => {
    const folder = folderWith(lines({ ...header, boot_id: "another" }) + rest);
    expect(reread(folder)).toEqual({
      records: [],
      lines: [
        `info Dropped the journal of leases '${pathIn(folder)}': the machine has started anew since, which reset the GPUs`,
      ],
    });
    expect(textIn(folder)).toBe(lines(header));
    expect(asideIn(folder)).toEqual([]);
  });
});

describe("a journal that cannot be trusted is set aside, and a new one begun:", () => {
  const stamp = "2026-11-24T064000.000Z";
  const start = lines(header);
  const notUtf8 = Buffer.from([...Buffer.from('{"a":"'), 0xff, ...Buffer.from('"}\n')]);
  const noUtf8 = Buffer.concat([
    Buffer.from(`${start}${crc32(notUtf8.subarray(0, -1)).toString(16).padStart(8, "0")} `),
    notUtf8,
  ]);

  function expectAside(folder: string, kind: string, reason: string, opening?: Opening): void {
    const { file, records, lines: told } = open(folder, opening);
    const aside = `${pathIn(folder)}.${kind}-${stamp}`;
    expect(told).toEqual([
      `error Cannot use the journal of leases '${pathIn(folder)}': ${reason}. It is now '${aside}'. Nothing was guessed from it: settings that leases had changed stay as they are`,
    ]);
    expect(records).toEqual([]);
    expect(asideIn(folder)).toEqual([`leases.journal.${kind}-${stamp}`]);
    expect(openIn(folder)).toEqual([pathIn(folder)]);
    file.append({ new: 1 });
    expect(reread(folder)).toEqual({ records: [{ new: 1 }], lines: [] });
  }

  it.each<[string, string | Uint8Array]>([
    ["line 1 does not fit its checksum", "damage\n"],
    ["line 1 does not fit its checksum", "\n"],
    ["line 1 does not fit its checksum", Buffer.concat([Buffer.alloc(100), Buffer.from("\n")])],
    ["line 1, where its header should be, has no end", "damage"],
    ["line 1, where its header should be, has no end", Buffer.alloc(4096)],
    ["line 1, where its header should be, has no end", start.slice(0, -1)],
    ["line 1 is no header of a journal of leases", lines({ a: 1 })],
    ["line 1 is no header of a journal of leases", lines({ ...header, journal: "something else", version: 2 })],
    ["line 1 is no header of a journal of leases", lines({ ...header, version: "2" })],
    ["line 1 is no header of a journal of leases", lines({ ...header, version: 0 })],
    ["line 1 is no header of a journal of leases", lines({ ...header, boot_id: undefined })],
    ["line 1 is no JSON object", lines([header])],
    ["line 2 does not fit its checksum", `${start}00000000 {"a":1}\n`],
    ["line 2 does not fit its checksum", `${start}00000000 {"a":1}\n${lines({ b: 1 })}`],
    ["line 2 does not fit its checksum", `${start}\n`],
    ["line 2 does not fit its checksum", start + lines({ a: 1 }).toUpperCase()],
    ["line 2 does not fit its checksum", start + lines({ a: 1 }).replace(" ", "\t")],
    ["line 2 does not fit its checksum", start + lines({ a: 1 }).replace("\n", "\r\n")],
    ["line 3 is no JSON object", start + lines({ a: 1 }, null)],
    ["line 3 is no JSON object", start + lines({ a: 1 }, [1], { b: 1 })],
    ["line 3 is no JSON object", start + lines({ a: 1 }, "text")],
    ["line 2 is no JSON object", start + line("{")],
    ["line 2 is no JSON object", start + line("")],
    ["line 2 is no JSON object", start + line('\ufeff{"a":1}')],
    ["line 2 is no JSON object", noUtf8],
  ])("%s", (reason, content) => {
    const folder = folderWith(content);
    expectAside(folder, "damaged", reason);
    expect(readFileSync(`${pathIn(folder)}.damaged-${stamp}`)).toEqual(Buffer.from(content));
  });

  it("it is too large", () => {
    const folder = folderWith(start);
    truncateSync(pathIn(folder), 64 * 1024 * 1024 + 1);
    expectAside(folder, "damaged", "it has 67108865 bytes; 67108864 are the most");
  });

  it.each<[string, (path: string) => void]>([
    ["a directory", (path) => mkdirSync(path)],
    ["a link", (path) => (writeFileSync(`${path}-target`, start), symlinkSync(`${path}-target`, path))],
    ["a link to nothing", (path) => symlinkSync(`${path}-target`, path)],
    ["a pipe", (path) => execFileSync("sh", ["-c", `mkfifo "$1"`, "sh", path])],
  ])("it is %s", (_what, make) => {
    const folder = createFolder();
    make(pathIn(folder));
    const reason = "it is no regular file";
    const { lines: told } = open(folder);
    expect(told).toEqual([expect.stringContaining(`${reason}. It is now '${pathIn(folder)}.damaged-${stamp}'`)]);
    expect(textIn(folder)).toBe(start);
    expect(statSync(pathIn(folder)).isFile()).toBe(true);
  });

  it.each([2, 1.5, 1000])("it has version %d, which a newer zeusd has written", (version) => {
    const folder = folderWith(`${lines({ ...header, version })}whatever that writes\n`);
    expectAside(folder, "newer", `line 1 says that it has version ${version}; this zeusd reads version 1`);
  });

  it.each([0o620, 0o602, 0o666])("others could have written to it: %o", (mode) => {
    const reason = "others than its owner can write to it, and could have changed it";
    expectAside(folderWith(start + lines({ a: 1 }), mode), "untrusted", reason);
  });

  it("it belongs to somebody else than root and the daemon's own user", () => {
    const folder = folderWith(start + lines({ a: 1 }));
    // Only root can give a file away.
    const owner = euid === 0 ? 1 : euid;
    if (euid === 0) chownSync(pathIn(folder), owner, owner);
    const own = open(folder, { euid: owner });
    expect(own.records).toEqual([{ a: 1 }]);
    own.file.close();
    expectAside(folder, "untrusted", `it belongs to uid ${owner}, who could have changed it`, { euid: owner + 1 });
  });

  it("but not if it belongs to root, whoever the daemon runs as", () => {
    const folder = folderWith(start + lines({ a: 1 }));
    // Nobody else can make a file of root's.
    expect(open(folder, { euid: euid === 0 ? 12_345 : euid }).records).toEqual([{ a: 1 }]);
  });

  it.each([0o600, 0o640, 0o644])("but not if others can only read it: %o", (mode) => {
    const folder = folderWith(start + lines({ a: 1 }), mode);
    expect(reread(folder)).toEqual({ records: [{ a: 1 }], lines: [] });
  });

  it("two at the same moment keep both", () => {
    const folder = createFolder();
    for (const content of ["one\n", "two\n"]) {
      writeFileSync(pathIn(folder), content);
      reread(folder);
    }
    expect(asideIn(folder)).toEqual([
      `leases.journal.damaged-${stamp}`,
      "leases.journal.damaged-2026-11-24T064000.001Z",
    ]);
    expect(asideIn(folder).map((name) => readFileSync(join(folder, name), "utf8"))).toEqual(["one\n", "two\n"]);
  });

  it("the newest eight are kept, of whatever kind, and no other file is touched", () => {
    const folder = createFolder();
    writeFileSync(join(folder, "lock"), "");
    writeFileSync(join(folder, "leases.journal.backup-2000"), "");
    for (let day = 0; day < 20; day += 1) {
      writeFileSync(pathIn(folder), day % 2 ? lines({ ...header, version: 2 }) : `damage ${day}\n`, { mode: 0o600 });
      open(folder, { epochMs: epochMs + day * 86_400_000 }).file.close();
    }
    const kinds = asideIn(folder).filter((name) => /damaged|newer/.test(name));
    expect(kinds).toEqual([
      ...[6, 8, 10, 12].map((day) => `leases.journal.damaged-2026-12-${`${day}`.padStart(2, "0")}T064000.000Z`),
      ...[7, 9, 11, 13].map((day) => `leases.journal.newer-2026-12-${`${day}`.padStart(2, "0")}T064000.000Z`),
    ]);
    expect(asideIn(folder)).toEqual(["leases.journal.backup-2000", ...kinds, "lock"]);
  });

  it("the one that was just set aside is kept, also when the clock went back", () => {
    const folder = createFolder();
    for (let year = 0; year < 10; year += 1) {
      writeFileSync(pathIn(folder), `damage ${year}\n`);
      open(folder, { epochMs: Date.UTC(2020 - year, 0) }).file.close();
      expect(asideIn(folder)).toContain(`leases.journal.damaged-${2020 - year}-01-01T000000.000Z`);
    }
    expect(asideIn(folder)).toHaveLength(8);
  });
});

describe("whatever becomes of the file", () => {
  const record = fc.dictionary(
    fc.constantFrom("a", "lease", "日本", ""),
    fc.oneof(fc.string({ unit: "grapheme", maxLength: 12 }), fc.integer(), fc.constant(null), fc.boolean()),
    { noNullPrototype: true },
  );
  const some = fc.array(record, { maxLength: 6 });

  function contentOf(records: readonly object[]): Buffer {
    const folder = createFolder();
    const { file } = open(folder);
    for (const each of records) file.append(each);
    file.close();
    return readFileSync(pathIn(folder));
  }

  const ends = (content: Buffer): number => content.filter((byte) => byte === 0x0a).length;

  it("a file that was cut at any byte gives exactly the records whose lines are whole", () => {
    fc.assert(
      fc.property(some, (records) => {
        const content = contentOf(records);
        const folder = createFolder();
        for (let bytes = 0; bytes <= content.length; bytes += 1) {
          const cut = content.subarray(0, bytes);
          writeFileSync(pathIn(folder), cut, { mode: 0o600 });
          const whole = Math.max(ends(cut) - 1, 0);
          expect(reread(folder).records).toEqual(records.slice(0, whole));
          if (whole > 0 || ends(cut) > 0)
            expect(textIn(folder)).toBe(cut.subarray(0, cut.lastIndexOf(0x0a) + 1).toString());
        }
      }),
      { numRuns: 4 },
    );
  });

  it("a file with one wrong byte is set aside, or has lost its last line with the end of it, and never gives another record", () => {
    fc.assert(
      fc.property(some, fc.integer({ min: 1, max: 255 }), (records, change) => {
        const content = contentOf(records);
        const folder = createFolder();
        for (let at = 0; at < content.length; at += 1) {
          const wrong = Buffer.from(content);
          wrong[at] = (content[at] ?? 0) ^ change;
          writeFileSync(pathIn(folder), wrong, { mode: 0o600 });
          const found = reread(folder);
          const lostEnd = at === content.length - 1 && records.length > 0;
          expect(found.records).toEqual(lostEnd ? records.slice(0, -1) : []);
          expect(found.lines).toEqual([
            expect.stringMatching(lostEnd ? /^info .* was never finished/ : /^error .*\. It is now '.*\.damaged-/),
          ]);
        }
      }),
      { numRuns: 4 },
    );
  });

  it("what others write to its end is damage or not finished, never a record", () => {
    fc.assert(
      fc.property(some, fc.string({ minLength: 1 }), (records, text) => {
        const folder = folderWith(contentOf(records));
        appendFileSync(pathIn(folder), text);
        expect(reread(folder).records).toEqual(text.includes("\n") ? [] : records);
      }),
      { numRuns: 50 },
    );
  });
});
