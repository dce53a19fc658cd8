// A daemon with a policy, users for whom it has rules, and a name service that knows them.
import { chmodSync, existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { createFolder } from "../folder.ts";
import { self, type Identity } from "./as-user.ts";
import { start, type Driven } from "./driven.ts";
import type { Driver } from "./driver.ts";
import { eventually } from "./http-client.ts";
import { isRoot } from "./ordinary-user.ts";
import type { Zeusd } from "./zeusd.ts";

// Only root can be two users; of anybody else both are the same, and the rules of both are theirs.
export const alice: Identity = isRoot ? { uid: 34_001, gid: 34_001, groups: [] } : self;
export const bob: Identity = isRoot ? { uid: 34_002, gid: 34_002, groups: [] } : self;

export function rule(name: string, who: string, allow: readonly string[], more = ""): string {
  return `[[rule]]\nname = "${name}"\n${who}\nallow = ${JSON.stringify(allow)}\n${more}\n`;
}
export const uids = (...all: readonly Identity[]): string => `uids = [${all.map(({ uid }) => uid).join(", ")}]`;
export const everything = ["gpu-control", "gpu-read", "cpu-read"];
export const forAlice = rule("for alice", uids(alice), everything);

export function createFile(name: string, text: string, mode = 0o600): string {
  const path = join(createFolder(), name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}
export const createPolicy = (text: string): string => createFile("policy.toml", text);

export interface Governed extends Driven {
  readonly policy: string;
  readonly address: string;
}

export async function startWith(
  text: string,
  args: readonly string[] = [],
  settings: Driver["env"] = {},
): Promise<Governed> {
  const policy = createPolicy(text);
  const driven = await start({ args: ["--policy", policy, ...args], settings });
  return { ...driven, policy, address: driven.path };
}

export const countOf = (daemon: Zeusd, text: RegExp): number =>
  daemon.stderr().match(new RegExp(text, "g"))?.length ?? 0;

/** Sends SIGHUP, and settles when the log tells what became of the file. */
export async function reload(daemon: Zeusd, what = "policy"): Promise<void> {
  const verdict = new RegExp(`Read the ${what} file .* it is in force|Keeping the ${what} that was in force`);
  const before = countOf(daemon, verdict);
  daemon.signal("SIGHUP");
  await eventually(() => countOf(daemon, verdict) > before);
}

export async function health(daemon: Zeusd): Promise<unknown> {
  const { status, body } = await daemon.request("/healthz");
  expect(status).toBe(200);
  return JSON.parse(body);
}

export const isWell = { status: "ok", problems: {} };

export function codeOf({ body }: { readonly body: string }): unknown {
  return (JSON.parse(body) as { readonly code?: unknown }).code;
}

/** What the driver was asked to change. */
export const changes = (driver: Driver): readonly string[] =>
  driver.calls().filter((call) => /^nvmlDevice(Set|Reset)/.test(call));

export function words(...more: readonly string[]): readonly string[] {
  return ["serve", "--sim", "2xh100", "--socket-path", join(createFolder(), "zeusd.sock"), ...more];
}

interface Names {
  /** What the daemon's environment must hold to ask them. */
  readonly settings: { readonly PATH: string };
  /** Makes whoever asks wait from now on, for ever or until `answer`. */
  hang(): void;
  answer(): void;
  /** Settles when somebody waits. */
  asked(): Promise<void>;
}

/** A name service of our own, in which alice is a user, and the team a group. */
export function createNames(): Names {
  const folder = createFolder();
  const script = `#!/bin/sh
case $1-$3 in passwd-slow) touch ${folder}/asked; while [ -e ${folder}/hang ]; do sleep 0.02; done;; esac
case $1-$3 in
  passwd-alice|passwd-slow) echo "$3:x:${alice.uid}:${alice.gid}::/:/bin/sh";;
  group-team) echo "team:x:${alice.gid}:";;
  *) exit 2;;
esac
`;
  writeFileSync(join(folder, "getent"), script);
  chmodSync(join(folder, "getent"), 0o755);
  return {
    settings: { PATH: `${folder}:${process.env["PATH"]}` },
    hang: () => writeFileSync(join(folder, "hang"), ""),
    answer: () => rmSync(join(folder, "hang")),
    asked: () => eventually(() => existsSync(join(folder, "asked"))),
  };
}
