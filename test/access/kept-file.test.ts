// A file that stays in force until it has been read again with success.
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { KeptFile } from "../../src/access/kept-file.ts";
import { StartError } from "../../src/contract/errors.ts";
import { Health } from "../../src/contract/health.ts";
import { createQuietLog } from "../quiet-log.ts";
import { createFolder } from "../folder.ts";

const degraded = "The policy file could not be read again; what it said before is in force.";

function createSubject(parse: (text: string) => string | Promise<string> = (text) => text) {
  const path = join(createFolder(), "policy.toml");
  const log = createQuietLog();
  const health = new Health();
  const write = (text: string): void => writeFileSync(path, text, { mode: 0o600 });
  write("first");
  const refuseBad = (text: string): string | Promise<string> => {
    if (text.startsWith("bad")) throw new Error(`line 1: ${text} is wrong`);
    return parse(text);
  };
  const euid = process.geteuid?.() ?? -1;
  const open = (): Promise<KeptFile<string>> =>
    KeptFile.open({ what: "policy", path, euid, parse: refuseBad, log, health });
  return { path, log, health, write, open };
}

describe("at the start", () => {
  it("the file is read, and is in force", async () => {
    const { open, log, health } = createSubject();
    expect((await open()).content).toBe("first");
    expect(log.lines).toEqual([]);
    expect(health.problems.size).toBe(0);
  });

  it.each([
    ["wrong", "bad", "line 1: bad is wrong"],
    ["missing", undefined, "No such file or directory (os error 2)"],
  ])("a file that is %s is an error that names it and says why", async (_, text, reason) => {
    const { path, write, open } = createSubject();
    if (text === undefined) rmSync(path);
    else write(text);
    const failed = open();
    await expect(failed).rejects.toBeInstanceOf(StartError);
    await expect(failed).rejects.toThrow(`Cannot use the policy file '${path}': ${reason}`);
  });

  it("a parser that rejects later is an error too", async () => {
    const { open } = createSubject(() => Promise.reject(new Error("line 2: no such user")));
    await expect(open()).rejects.toThrow(/^Cannot use the policy file '.*': line 2: no such user$/);
  });
});

describe("when it is read again", () => {
  it("what is good comes in force as a whole", async () => {
    const { path, write, open, log } = createSubject();
    const file = await open();
    write("second");
    expect(file.content).toBe("first");
    await file.reload();
    expect(file.content).toBe("second");
    expect(log.lines).toEqual([`info Read the policy file '${path}' again; it is in force`]);
  });

  it.each([
    ["wrong", "bad", "line 1: bad is wrong"],
    ["missing", undefined, "No such file or directory (os error 2)"],
  ])("what is %s changes nothing, and it can be seen until it is mended", async (_, text, reason) => {
    const { path, write, open, log, health } = createSubject();
    const file = await open();
    if (text === undefined) rmSync(path);
    else write(text);
    await file.reload();
    expect(file.content).toBe("first");
    expect([...health.problems]).toEqual([["policy", degraded]]);
    expect(log.lines).toEqual([
      `error Keeping the policy that was in force, since the file '${path}' cannot be used: ${reason}`,
    ]);
    await file.reload();
    expect([...health.problems]).toEqual([["policy", degraded]]);
    write("third");
    await file.reload();
    expect(file.content).toBe("third");
    expect(health.problems.size).toBe(0);
  });

  it("what was in force stays the same object, also after a failure", async () => {
    const { write, open } = createSubject();
    const file = await open();
    const before = file.content;
    write("bad");
    await file.reload();
    expect(file.content).toBe(before);
  });

  it("twice at once, it is done one after the other, and the last has the last word", async () => {
    const reading: { readonly text: string; readonly done: () => void }[] = [];
    let first = true;
    const { write, open } = createSubject((text) => {
      if (first) {
        first = false;
        return text;
      }
      return new Promise((resolve) => reading.push({ text, done: () => resolve(text) }));
    });
    const file = await open();
    write("second");
    const one = file.reload();
    const other = file.reload();
    await until(() => reading.length > 0);
    write("third");
    await new Promise((resolve) => setImmediate(resolve));
    expect(reading.map(({ text }) => text)).toEqual(["second"]);
    reading[0]?.done();
    await one;
    expect(file.content).toBe("second");
    await until(() => reading.length > 1);
    expect(reading.map(({ text }) => text)).toEqual(["second", "third"]);
    expect(file.content).toBe("second");
    reading[1]?.done();
    await other;
    expect(file.content).toBe("third");
  });

  it("after one that failed, the next is done all the same", async () => {
    const { write, open } = createSubject();
    const file = await open();
    write("bad");
    const failed = file.reload();
    const next = file.reload().then(() => file.content);
    await failed;
    write("second");
    await next;
    await file.reload();
    expect(file.content).toBe("second");
  });
});

/** Lets everything happen that is on its way, until what is awaited has. */
async function until(done: () => boolean): Promise<void> {
  while (!done()) await new Promise((resolve) => setImmediate(resolve));
}
