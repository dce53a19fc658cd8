// The system's users and groups: the real name service, and commands in its place that fail in every way.
import { chmodSync, existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { expect, it } from "vitest";
import { createNameService, type NameService } from "../../src/native/names.ts";
import { createFolder } from "../folder.ts";

const system = createNameService({ timeoutMs: 10_000 });

/** A shell script in getent's place; its folder is `$0`'s. */
function fake(script: string, timeoutMs = 10_000): { service: NameService; folder: string } {
  const folder = createFolder();
  const command = join(folder, "getent");
  writeFileSync(command, `#!/bin/sh\nfolder=\${0%/*}\n${script}\n`);
  chmodSync(command, 0o755);
  return { service: createNameService({ timeoutMs, command }), folder };
}

async function messageOf(answer: Promise<unknown>): Promise<string> {
  const error = await answer.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof Error)) throw new Error("there is an answer");
  expect(error.message).not.toContain("\n");
  return error.message;
}

it("knows the system's users and groups", async () => {
  expect(await system.user("root")).toEqual({ uid: 0, gid: 0 });
  expect(await system.group("root")).toBe(0);
  const [, , uid, gid] = /^daemon:.*$/m.exec(readFileSync("/etc/passwd", "utf8"))?.[0].split(":") ?? [];
  expect(await system.user("daemon")).toEqual({ uid: Number(uid), gid: Number(gid) });
  expect(await system.groupsOf("daemon")).toContain(Number(gid));
  expect((await system.user("nobody"))?.uid).toBe(65_534);
});

it("knows all groups of a user, each once", async () => {
  const entries = readFileSync("/etc/group", "utf8")
    .split("\n")
    .map((line) => line.split(":"));
  const listed = entries
    .filter(([, , , members]) => members?.split(",").includes("root"))
    .map(([, , gid]) => Number(gid));
  expect((await system.groupsOf("root")).toSorted()).toEqual([...new Set([0, ...listed])].toSorted());
});

it("says of a name that nobody has that nobody has it", async () => {
  for (const name of [
    "zeusd-nobody-has-this",
    "zeusd nobody",
    "z@example.org",
    "CORP\\z",
    "z.z$",
    "zürich",
    "0x0",
    "*",
    "$(id)",
  ]) {
    expect(await system.user(name)).toBeUndefined();
    expect(await system.group(name)).toBeUndefined();
    expect(await system.groupsOf(name)).toEqual([]);
  }
});

it.each(["0", "1000", " 0", "+0", "4294967296", "  -0"])(
  "refuses the number %j, which would be taken for an id",
  async (name) => {
    expect(await messageOf(system.user(name))).toMatch(/^The user name ".*" is a number: use uids or gids/);
    expect(await messageOf(system.group(name))).toMatch(/^The group name ".*" is a number: use uids or gids/);
    expect(await messageOf(system.groupsOf(name))).toMatch(/is a number/);
  },
);

it.each([
  ["", "is empty"],
  ["-0", "is a number"],
  ["-s", "begins with '-'"],
  ["--help", "begins with '-'"],
  ["root:x", "has a colon"],
  ["../root", "has a colon, a slash"],
  ["root\n", "control character"],
  ["ro\0ot", "control character"],
  ["\u007f", "control character"],
  ["x".repeat(1025), "more than 1024 bytes"],
  ["x".repeat(10_000_000), "more than 1024 bytes"],
])("refuses what can be no name, and starts nothing for it: %.20j", async (name, reason) => {
  const { service, folder } = fake('touch "$folder/started"; exit 2');
  expect(await messageOf(service.user(name))).toContain(reason);
  expect(await messageOf(service.group(name))).toContain(reason);
  expect(await messageOf(service.groupsOf(name))).toContain(reason);
  expect(existsSync(join(folder, "started"))).toBe(false);
});

it("hands a name over as it is, with nothing else but a path and a plain locale, and nothing to read", async () => {
  const { service, folder } = fake(
    'printf "%s|" "$@" > "$folder/arguments"; env > "$folder/env"; wc -c > "$folder/stdin"; exit 2',
  );
  const name = "  CORP\\Jürgen 'X' $(id) ; ~ .@$ ";
  expect(await service.user(name)).toBeUndefined();
  expect(readFileSync(join(folder, "arguments"), "utf8")).toBe(`passwd|--|${name}|`);
  const names = readFileSync(join(folder, "env"), "utf8")
    .split("\n")
    .map((line) => line.split("=", 1)[0]);
  // The shell adds some of its own.
  expect(names.filter((variable) => !["", "PWD", "OLDPWD", "SHLVL", "_"].includes(variable ?? "")).toSorted()).toEqual([
    "LC_ALL",
    "PATH",
  ]);
  expect(readFileSync(join(folder, "stdin"), "utf8").trim()).toBe("0");
});

it("takes an entry under another spelling than was asked", async () => {
  const { service } = fake('echo "jane@corp.example:*:10001:10002:Jane:/home/jane:/bin/sh"');
  expect(await service.user("CORP\\Jane")).toEqual({ uid: 10_001, gid: 10_002 });
});

it("tells numbers in a name from groups", async () => {
  const { service } = fake(`case $1 in
    passwd) echo "x:*:7:8::/:/bin/sh";;
    *) printf '%-21s 9 8 4294967294\\n' "$3";;
  esac`);
  expect(await service.groupsOf("agent 007")).toEqual([8, 9, 4_294_967_294]);
  expect(await service.groupsOf("a name that is longer than its column 5")).toEqual([8, 9, 4_294_967_294]);
});

it("kills what does not answer in time, and says so", async () => {
  const { service, folder } = fake(
    'echo $$ > "$folder/pid.part"; mv "$folder/pid.part" "$folder/pid"; trap "" TERM INT HUP; exec sleep 60',
    1000,
  );
  const began = performance.now();
  const message = await messageOf(service.user("root"));
  expect(performance.now() - began).toBeGreaterThan(990);
  expect(performance.now() - began).toBeLessThan(5000);
  expect(message).toBe(
    'Asking for the user "root" (getent passwd) had no answer within 1000 ms: check the system\'s name service, or give ids instead of names',
  );
  const pid = Number(readFileSync(join(folder, "pid"), "utf8"));
  await expect.poll(() => existsSync(`/proc/${pid}`)).toBe(false);
});

it("does not wait for what a killed command has left behind with its output", async () => {
  const { service, folder } = fake('sleep 60 & echo $! > "$folder/pid"; wait', 500);
  const began = performance.now();
  await messageOf(service.group("root"));
  expect(performance.now() - began).toBeLessThan(5000);
  process.kill(Number(readFileSync(join(folder, "pid"), "utf8")), "SIGKILL");
});

it.each([
  ["exit 1", /ended with code 1$/],
  ["exit 3", /ended with code 3$/],
  ["echo first >&2; echo second >&2; exit 1", /ended with code 1 and said: first$/],
  ["kill -SEGV $$", /ended with SIGSEGV$/],
  ["exec head -c 100000000 /dev/zero", /gave more than \d+ bytes$/],
  ["head -c 100000000 /dev/zero >&2; exit 2", /gave more than \d+ bytes$/],
  ["exit 0", /gave what is no answer: ""$/],
  ["echo garbage", /gave what is no answer: "garbage"$/],
  ["echo a:b:c:d:e:f:g", /gave what is no answer/],
  ["echo root:x:0:0::/", /gave what is no answer/],
  ["echo root:x:0", /gave what is no answer/],
  ["echo root:x::0::/:/bin/sh", /gave what is no answer/],
  ["echo root:x:-1:-1::/:/bin/sh", /gave what is no answer/],
  ["echo root:x:4294967295:4294967295::/:/bin/sh", /gave what is no answer/],
  ["echo root:x:0x1:1e1::/:/bin/sh", /gave what is no answer/],
  ["head -c 1000 /dev/urandom | tr -d '0-9'", /gave what is no answer/],
])("fails with a sentence where the command does `%s`", async (script, reason) => {
  const { service } = fake(script);
  const user = await messageOf(service.user("root"));
  expect(user).toMatch(/^Asking for the user "root" \(getent passwd\) /);
  expect(user).toMatch(reason);
  expect(await messageOf(service.group("wheel"))).toMatch(/^Asking for the group "wheel" \(getent group\) /);
  await messageOf(service.groupsOf("root"));
});

it.each(["", "daemon 1", "root 1 x", "root -1", "root 4294967295", "root 1e3"])(
  "takes %j for no list of root's groups",
  async (list) => {
    const { service } = fake(`case $1 in passwd) echo "root:x:0:0::/:/bin/sh";; *) echo "${list}";; esac`);
    expect(await messageOf(service.groupsOf("root"))).toMatch(/\(getent initgroups\) gave what is no answer/);
  },
);

it("says that there is no such command", async () => {
  const service = createNameService({ timeoutMs: 1000, command: "/nowhere/getent" });
  expect(await messageOf(service.user("root"))).toBe(
    "Asking for the user \"root\" (getent passwd) failed: there is no command '/nowhere/getent'; install it, or give ids instead of names",
  );
  expect(await messageOf(createNameService({ timeoutMs: 1000, command: "/" }).user("root"))).toContain("(EACCES)");
});

it("has at most eight children at a time, and answers everybody", async () => {
  const { service, folder } = fake(
    'touch "$folder/child-$$"; ls "$folder" | grep -c child > "$folder/count-$$"; sleep 0.1; rm "$folder/child-$$"; echo "$3:x:5:"',
  );
  const answers = await Promise.all(Array.from({ length: 40 }, (_, index) => service.group(`group${index}`)));
  expect(answers).toEqual(Array.from({ length: 40 }, () => 5));
  const counts = readdirSync(folder)
    .filter((name) => name.startsWith("count-"))
    .map((name) => Number(readFileSync(join(folder, name), "utf8")));
  expect(counts).toHaveLength(40);
  expect(Math.max(...counts)).toBeLessThanOrEqual(8);
  expect(Math.max(...counts)).toBeGreaterThan(1);
});

it("where one name gets no answer, does not ask for those that wait, and asks again afterwards", async () => {
  const { service } = fake('case $3 in hang*) exec sleep 60;; *) echo "$3:x:5:";; esac', 500);
  const began = performance.now();
  const hung = Array.from({ length: 100 }, (_, index) => messageOf(service.group(`hang${index}`)));
  for (const message of await Promise.all(hung)) expect(message).toContain("within 500 ms");
  // One after the other, eight at a time, they would take 6 s.
  expect(performance.now() - began).toBeLessThan(4_000);
  expect(await service.group("last")).toBe(5);
});

it("does not stop the event loop while it waits", async () => {
  const { service } = fake("exec sleep 60", 500);
  const asked = messageOf(service.user("root"));
  let turns = 0;
  void (async () => {
    for (; turns < 20; turns += 1) await wait(5);
  })();
  await asked;
  expect(turns).toBe(20);
});
