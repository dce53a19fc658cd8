// The Unix socket: whose it is, what was there before, and who may connect from the first moment on.
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
  chmodSync,
} from "node:fs";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { createFolder } from "../folder.ts";
import { isRoot, ordinaryUser } from "./ordinary-user.ts";
import { refusal, startZeusd, type StartOptions, type Zeusd } from "./zeusd.ts";

const user = ordinaryUser();

function words(path: string, ...more: readonly string[]): readonly string[] {
  return ["serve", "--sim", "2xh100", "--socket-path", path, ...more];
}

async function started(path: string, more: readonly string[] = [], options: StartOptions = {}): Promise<Zeusd> {
  const daemon = startZeusd(words(path, ...more), options);
  expect(await daemon.listening()).toBe(path);
  return daemon;
}

function modeOf(path: string): number {
  return statSync(path).mode & 0o7777;
}

describe("what is at the path already", () => {
  it("a socket that a killed daemon left behind is removed with a warning (13.2 #10)", async () => {
    const path = join(createFolder(), "zeusd.sock");
    const killed = await started(path);
    killed.signal("SIGKILL");
    expect(await killed.exit).toEqual({ code: null, signal: "SIGKILL" });
    expect(existsSync(path)).toBe(true);

    const next = await started(path);
    expect((await next.request("/time")).status).toBe(200);
    const warnings = next
      .stderr()
      .split("\n")
      .filter((line) => line.includes(" WARN "));
    expect(warnings.filter((line) => line.includes(path))).toHaveLength(1);
  });

  it("a socket that another daemon serves is refused, and that one goes on", async () => {
    const path = join(createFolder(), "zeusd.sock");
    const first = await started(path);
    expect(await refusal(words(path))).toContain("Socket is in use by another process");
    expect((await first.request("/time")).status).toBe(200);
    first.signal("SIGTERM");
    expect(await first.exit).toEqual({ code: 0, signal: null });
    expect(existsSync(path)).toBe(false);
  });

  it("a link to a socket that another daemon serves is refused, and stays", async () => {
    const folder = createFolder();
    const first = await started(join(folder, "zeusd.sock"));
    symlinkSync(join(folder, "zeusd.sock"), join(folder, "link"));
    await refusal(words(join(folder, "link")));
    expect(lstatSync(join(folder, "link")).isSymbolicLink()).toBe(true);
    expect((await first.request("/time")).status).toBe(200);
  });

  it("a socket that root may use and others may not is left alone by either (as root: in use; else: exists)", async () => {
    const path = join(createFolder(), "zeusd.sock");
    const first = await started(path);
    chmodSync(path, 0);
    expect(await refusal(words(path))).toContain(
      isRoot ? "Socket is in use by another process" : "Socket file already exists",
    );
    chmodSync(path, 0o666);
    expect((await first.request("/time")).status).toBe(200);
  });

  it("a regular file is refused and stays as it was", async () => {
    const path = join(createFolder(), "notes.txt");
    writeFileSync(path, "of value", { mode: 0o640 });
    const before = statSync(path);
    expect(await refusal(words(path))).toContain("Socket path is occupied by a non-socket file");
    expect(readFileSync(path, "utf8")).toBe("of value");
    const after = statSync(path);
    expect([after.ino, after.mode, after.mtimeMs]).toEqual([before.ino, before.mode, before.mtimeMs]);
  });

  it("a folder and a link that leads nowhere are refused and stay", async () => {
    const folder = createFolder();
    mkdirSync(join(folder, "folder"));
    symlinkSync("nowhere", join(folder, "link"));
    for (const name of ["folder", "link"]) {
      expect(await refusal(words(join(folder, name)))).toContain("Socket path is occupied by a non-socket file");
    }
    expect(lstatSync(join(folder, "folder")).isDirectory()).toBe(true);
    expect(lstatSync(join(folder, "link")).isSymbolicLink()).toBe(true);
    expect(existsSync(join(folder, "nowhere"))).toBe(false);
  });
});

describe("the path itself", () => {
  it("is used whole up to 107 bytes; from 108 on it is refused, and nothing is created", async () => {
    const folder = createFolder();
    const longest = join(folder, "x".repeat(107 - folder.length - 1));
    expect(longest).toHaveLength(107);
    await started(longest);
    expect(statSync(longest).isSocket()).toBe(true);

    for (const path of [`${longest}x`, join(folder, "sub", "x".repeat(108)), `${longest.slice(0, -1)}é`]) {
      expect(await refusal(words(path))).toContain("path must be shorter than SUN_LEN");
      expect(existsSync(path)).toBe(false);
    }
    expect(existsSync(join(folder, "sub"))).toBe(false);
  });

  it("is refused where it is empty, in a sentence that names the flag", async () => {
    expect(await refusal(words(""))).toContain("--socket-path");
  });

  it("gets the folders that it lacks", async () => {
    const folder = createFolder();
    const path = join(folder, "a", "b", "zeusd.sock");
    const daemon = await started(path);
    expect((await daemon.request("/time")).status).toBe(200);
    expect(modeOf(join(folder, "a"))).toBe(0o777 & ~process.umask());
  });

  it("is refused where a folder of it is a file", async () => {
    const folder = createFolder();
    writeFileSync(join(folder, "file"), "");
    expect(await refusal(words(join(folder, "file", "zeusd.sock")))).toContain(join(folder, "file", "zeusd.sock"));
  });

  it("is refused where the daemon may not write", async () => {
    const folder = createFolder();
    mkdirSync(join(folder, "closed"));
    chmodSync(join(folder, "closed"), 0o555);
    const path = join(folder, "closed", "zeusd.sock");
    expect(await refusal(words(path), user)).toContain("Permission denied (os error 13)");
    expect(existsSync(path)).toBe(false);
  });
});

describe("mode and owner", () => {
  it.each([
    { given: [], mode: 0o666 },
    { given: ["--socket-permissions", "660"], mode: 0o660 },
    { given: ["--socket-permissions", "0600"], mode: 0o600 },
    { given: ["--socket-permissions", "777"], mode: 0o777 },
  ])("the mode is $mode for $given, whatever the umask", async ({ given, mode }) => {
    for (const umask of ["000", "077"]) {
      const path = join(createFolder(), "zeusd.sock");
      await started(path, given, { through: ["sh", "-c", `umask ${umask} && exec "$@"`, "sh"] });
      expect(modeOf(path)).toBe(mode);
    }
  });

  it("the file never has another mode than none and the one asked for (13.2 #10)", async () => {
    const path = join(createFolder(), "zeusd.sock");
    const daemon = startZeusd(words(path, "--socket-permissions", "620"));
    const start = { over: false };
    const listening = daemon.listening().finally(() => (start.over = true));
    const seen = new Set<number | undefined>();
    while (!start.over) {
      const found = lstatSync(path, { throwIfNoEntry: false });
      seen.add(found && found.mode & 0o7777);
      await turn();
    }
    expect(await listening).toBe(path);
    expect([...seen].filter((mode) => ![undefined, 0, 0o620].includes(mode))).toEqual([]);
    expect(modeOf(path)).toBe(0o620);
  });

  it("the umask is back to what it was once the socket is there", async () => {
    const path = join(createFolder(), "zeusd.sock");
    const daemon = await started(path, [], { through: ["sh", "-c", 'umask 027 && exec "$@"', "sh"] });
    expect(readFileSync(`/proc/${daemon.pid}/status`, "utf8")).toMatch(/^Umask:\s+0027$/m);
  });

  it("the owner and the group are those asked for (as root any; else the user's own)", async () => {
    const [uid, gid] = isRoot ? [65_534, 65_533] : [process.getuid?.(), process.getgid?.()];
    const path = join(createFolder(), "zeusd.sock");
    await started(path, ["--socket-uid", String(uid), "--socket-gid", String(gid), "--socket-permissions", "660"]);
    expect(statSync(path)).toMatchObject({ uid, gid });
    expect(modeOf(path)).toBe(0o660);
  });

  it("a group alone leaves the owner as it is (as root any; else the user's own)", async () => {
    const gid = isRoot ? 65_533 : process.getgid?.();
    const path = join(createFolder(), "zeusd.sock");
    await started(path, ["--socket-gid", String(gid)]);
    expect(statSync(path)).toMatchObject({ uid: process.getuid?.(), gid });
  });

  it("an owner that the daemon may not give it is refused, and no file stays behind (13.2 #10)", async () => {
    const path = join(createFolder(), "zeusd.sock");
    expect(await refusal(words(path, "--socket-uid", "0"), user)).toContain("Operation not permitted (os error 1)");
    expect(lstatSync(path, { throwIfNoEntry: false })).toBeUndefined();
  });
});
