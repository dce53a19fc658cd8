// The state directory: nobody else can write to it, and one daemon at a time uses it.
import { lstatSync, mkdirSync, statSync, type Stats } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { messageOf, StartError } from "../contract/errors.ts";
import { osErrorText } from "../contract/os-error.ts";

export interface StateDirectory {
  readonly path: string;
  /** Lets others have it. */
  close(): void;
}

export interface StateDirectoryParts {
  readonly path: string;
  /** Who else than root may own it. */
  readonly euid: number;
  /** Takes the lock on a file, which it makes; undefined if somebody else has it. Returns what gives it back. */
  readonly lock: (path: string) => (() => void) | undefined;
  /** The process that has the lock, if that can be told. */
  readonly holder: (path: string) => number | undefined;
}

/** Throws a StartError. */
export function openStateDirectory({ path: given, euid, lock, holder }: StateDirectoryParts): StateDirectory {
  // With a slash at its end, a link would be followed.
  const path = resolve(given);
  try {
    makeFolder(dirname(path), 0o755);
    requireSafeParent(dirname(path), euid);
    makeFolder(path, 0o700);
    requireOurs(lstatSync(path), euid);
  } catch (error) {
    const text = `Cannot use the state directory '${path}': ${osErrorText(error)}; put that right, or choose another --state-dir`;
    throw new StartError(text, { cause: error });
  }
  const release = take(path, lock, holder);
  let open = true;
  return {
    path,
    close() {
      if (open) release();
      open = false;
    },
  };
}

/** Like `mkdir -p`; Node's own never returns where a parent cannot be made, as under /proc. */
function makeFolder(folder: string, mode: number): void {
  if (lstatSync(folder, { throwIfNoEntry: false })) return;
  const parent = dirname(folder);
  makeFolder(parent, 0o755);
  try {
    mkdirSync(folder, { mode });
  } catch (error) {
    // Another daemon may be starting beside this one; the lock decides between them.
    if (!lstatSync(folder, { throwIfNoEntry: false })) throw error;
  }
}

/** Where everyone may rename everything, the directory is not ours for long. */
function requireSafeParent(parent: string, euid: number): void {
  const { mode, uid } = statSync(parent);
  if (uid !== 0 && uid !== euid) throw new Error(`'${parent}', which holds it, belongs to uid ${uid}`);
  if (mode & 0o022 && !(mode & 0o1000))
    throw new Error(`others than its owner can write to '${parent}', which holds it`);
}

/** Throws if somebody else than root and `euid` could put files there. */
function requireOurs(found: Stats, euid: number): void {
  if (found.isSymbolicLink()) throw new Error("it is a symbolic link");
  if (!found.isDirectory()) throw new Error("it is no directory");
  if (found.uid !== 0 && found.uid !== euid) throw new Error(`it belongs to uid ${found.uid}`);
  if (found.mode & 0o022) throw new Error("others than its owner can write to it");
}

function take(path: string, lock: StateDirectoryParts["lock"], holder: StateDirectoryParts["holder"]): () => void {
  const file = join(path, "lock");
  let release: (() => void) | undefined;
  try {
    release = lock(file);
  } catch (error) {
    const text = `Cannot lock '${file}': ${messageOf(error)}; choose another --state-dir`;
    throw new StartError(text, { cause: error });
  }
  if (release) return release;
  const pid = holder(file);
  const who = pid === undefined ? "Another zeusd" : `Another zeusd (pid ${pid})`;
  throw new StartError(`${who} uses the state directory '${path}'; give --state-dir another one, or stop it`);
}
