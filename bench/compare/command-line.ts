// Runs both programs with the same words, each in a folder of its own, and notes how that went.
import { execFileSync, type ChildProcess, type SpawnOptions } from "node:child_process";
import {
  chmodSync,
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { startProgram } from "./children.ts";
import { driverEnv, type Version } from "./daemon.ts";
import { bodyOf, show } from "./difference.ts";
import { perform, type Exchange } from "./exchange.ts";
import { signParts } from "./tokens.ts";

export interface CommandCase {
  readonly name?: string;
  readonly version?: Version;
  /** What follows the program's name; `PORT` becomes a port that is taken. */
  readonly args: readonly string[];
  /** What is in the folder before: text, a mode with text, or "directory", "socket" (listened on) and "stale". */
  readonly files?: Readonly<Record<string, string>>;
  readonly env?: Readonly<Record<string, string>>;
  /** The user to run as (0). */
  readonly uid?: number;
  /** Show it an empty /run, or the folder's own `class` as /sys/class. */
  readonly mounts?: "run" | "class";
  /** What both must say. */
  readonly says?: RegExp;
  /** Run this program before, in the same folder, and end it so; "stay" lets it run. */
  readonly before?: { readonly program: "original" | "ours"; readonly end: NodeJS.Signals | "stay" };
  /** What to send on the socket `s` once it listens, before the signal. */
  readonly asks?: Exchange;
  /** How to end what listens (SIGTERM). */
  readonly end?: NodeJS.Signals;
}

/** How it went, by what could differ. */
export type Notes = Readonly<Record<string, string>>;

interface Programs {
  readonly original: readonly string[];
  readonly ours: readonly string[];
}

export async function runCase(
  which: keyof Programs,
  programs: Programs,
  one: CommandCase,
  folder: string,
): Promise<Notes> {
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o777);
  const servers: Server[] = [await listenOn(0)];
  for (const [name, content] of Object.entries(one.files ?? {})) {
    if (content === "socket") servers.push(await listenOn(join(folder, name)));
    else place(join(folder, name), content);
  }
  const args = one.args.map((word) => word.replace("PORT", portOf(servers[0])));
  const before = one.before && (await start(programs[one.before.program], args, one, folder, "before"));
  if (before) await pause(settling);
  if (before && one.before?.end !== "stay") await finish(before, one.before?.end ?? "SIGTERM");
  try {
    return await observe(await start(programs[which], args, one, folder, "log"), one, folder);
  } finally {
    if (before) await finish(before, "SIGKILL");
    for (const server of servers) server.close();
  }
}

interface Running {
  readonly child: ChildProcess;
  readonly stdout: string;
  readonly stderr: string;
  /** What it listens on, or undefined when it ended before. */
  readonly listening: string | undefined;
}

async function start(
  program: readonly string[],
  args: readonly string[],
  one: CommandCase,
  folder: string,
  log: string,
): Promise<Running> {
  const user = one.uid === undefined ? [] : ["setpriv", `--reuid=${one.uid}`, "--clear-groups"];
  const mount = { run: "mount -t tmpfs tmpfs /run", class: 'mount --bind "$0/class" /sys/class' }[one.mounts ?? "run"];
  const mounted = one.mounts ? ["unshare", "-m", "sh", "-c", `${mount} && exec "$@"`, folder] : [];
  const [stdout, stderr] = [join(folder, `${log}.out`), join(folder, `${log}.err`)];
  const [out, err] = [openSync(stdout, "w"), openSync(stderr, "w")];
  const options = { cwd: folder, env: driverEnv(folder, one.env), stdio: ["ignore", out, err] } satisfies SpawnOptions;
  const child = startProgram([...mounted, ...user, ...program, ...args], options);
  for (const file of [out, err]) closeSync(file);
  return { child, stdout, stderr, listening: await listeningOn(child, stdout) };
}

async function listeningOn(child: ChildProcess, stdout: string): Promise<string | undefined> {
  for (const end = Date.now() + 10_000; Date.now() < end;) {
    const found = /Listening on (\S+)/.exec(readFileSync(stdout, "utf8"));
    if (found) return found[1];
    if (child.exitCode !== null || child.signalCode !== null) return undefined;
    await pause(5);
  }
  return undefined;
}

async function observe(running: Running, one: CommandCase, folder: string): Promise<Notes> {
  const { child, listening } = running;
  const alive = listening !== undefined;
  if (alive) await pause(settling);
  const during = alive ? list(folder) : "";
  const answer = alive && one.asks ? perform({ path: join(folder, "s") }, one.asks, false) : undefined;
  if (answer) await pause(300);
  const signalled = Date.now();
  await finish(running, alive ? (one.end ?? "SIGTERM") : undefined);
  const slow = Date.now() - signalled > 5_000;
  const replies = (await answer)?.replies.map(
    (reply) => `${reply.status} ${one.asks?.events ? "" : show(bodyOf(reply))}`,
  );
  const [stdout, stderr] = [readFileSync(running.stdout, "utf8"), readFileSync(running.stderr, "utf8")];
  const key = one.files?.["key"] ?? "";
  return {
    ended: child.signalCode ?? `exit ${child.exitCode}`,
    listening: (listening ?? "no").replace(/:\d+$/, ":port"),
    during,
    after: list(folder),
    replies: (replies ?? []).join(" + "),
    slow: String(slow),
    says: String(one.says?.test(stdout + stderr) ?? true),
    stderr: alive ? "" : sayingOf(stderr),
    stdout: alive || child.exitCode !== 0 ? "" : kindOf(stdout, key),
  };
}

/** Ends it by a signal, if one is given, and waits; in the end by force. */
async function finish({ child }: Running, signal: NodeJS.Signals | undefined): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  if (signal) child.kill(signal);
  const force = setTimeout(() => child.kill("SIGKILL"), 7_000);
  await ended;
  clearTimeout(force);
}

function sayingOf(stderr: string): string {
  const error = /^(Error|error): /m.exec(stderr)?.[0];
  if (error) return error;
  if (/^To revoke this token, write the line 'jti [0-9a-f]{32}' [^\n]*\n$/.test(stderr)) return "how to revoke it";
  return stderr === "" ? "nothing" : "text";
}

/** A version's number, a token's time and a text's wording may differ. */
function kindOf(stdout: string, key: string): string {
  if (/^zeusd \d+\.\d+\.\d+\n$/.test(stdout)) return "version";
  const [head = "", claims = "", signature] = /^(eyJ[\w-]+)\.([\w-]+)\.([\w-]+)\n$/.exec(stdout)?.slice(1) ?? [];
  if (signature === undefined) return stdout === "" ? "nothing" : "text";
  const { iat, jti, ...said } = JSON.parse(Buffer.from(claims, "base64url").toString()) as Record<string, unknown>;
  // Ours says when it was issued, and its id, which no two tokens share: so the bytes cannot be the same.
  const isOdd = [Number.isInteger(iat), typeof jti === "string"].some((good) => !good) && (iat ?? jti) !== undefined;
  if (typeof said["exp"] === "number") said["exp"] = Math.round((said["exp"] - Date.now() / 1000) / 10) * 10;
  const isSigned = signParts(head, claims, Buffer.from(key)).endsWith(`.${signature}`);
  return [head, JSON.stringify(said), isSigned ? "signed" : "badly signed", isOdd ? "oddly issued" : ""]
    .join(" ")
    .trim();
}

const ownFiles = /^(lib|calls|faults|class|(log|before)\.(out|err))$/;

/** The folder's entries with kind, mode and owner. */
function list(folder: string): string {
  const names = readdirSync(folder, { recursive: true }) as string[];
  const shown = names.filter((name) => !ownFiles.test(name.split("/")[0] ?? "")).toSorted();
  return shown
    .map((name) => {
      const { mode, uid, gid } = lstatSync(join(folder, name));
      return `${name} ${mode.toString(8)} ${uid}:${gid}`;
    })
    .join(", ");
}

function place(path: string, content: string): void {
  mkdirSync(join(path, ".."), { recursive: true });
  if (content === "directory") mkdirSync(path);
  else if (content === "stale") {
    const bind =
      "const s=require('net').createServer().listen(process.argv[1],()=>process.kill(process.pid,'SIGKILL'))";
    try {
      execFileSync(process.execPath, ["-e", bind, path], { stdio: "ignore" });
    } catch {
      // It killed itself, so that the socket stays behind.
    }
  } else {
    const [, mode = "600", text = ""] = /^(?:mode (\d+) )?(.*)$/s.exec(content) ?? [];
    writeFileSync(path, text, { mode: Number.parseInt(mode, 8) });
  }
}

function portOf(server: Server | undefined): string {
  const address = server?.address();
  return typeof address === "object" ? String(address?.port) : "";
}

function listenOn(where: number | string): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve) => {
    if (typeof where === "string") server.listen(where, () => resolve(server));
    else server.listen(where, "127.0.0.1", () => resolve(server));
  });
}

/** The line may come before the owner and the mode are set, and before signals are listened to; in milliseconds. */
const settling = 100;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
