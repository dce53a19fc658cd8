// The system's users and groups, asked in child processes with a time limit: a name service may hang with its server.
import { execFile, type ExecFileException } from "node:child_process";

export interface NameService {
  /**
   * Undefined if nobody has that name; a service whose server is gone may say so of everybody. Rejects, as the others do,
   * with an Error whose message is one sentence for the operator if it does not answer in time or fails.
   */
  user(name: string): Promise<{ readonly uid: number; readonly gid: number } | undefined>;
  group(name: string): Promise<number | undefined>;
  /** All groups of a user, its own gid included; none if nobody has that name. */
  groupsOf(name: string): Promise<readonly number[]>;
}

/** Each child is a process and some descriptors, and a policy may name hundreds of users. */
const mostChildren = 8;
/** A group's answer lists all its members. */
const longestAnswerBytes = 4 * 1024 * 1024;
const longestNameBytes = 1024;
/** The one above means nobody. */
const lastId = 0xffff_fffe;
/** Source: getent(1). */
const notFound = 2;

/** How many fields an entry has that getent prints. */
const entryFields = { passwd: 7, group: 4 } as const;
type Database = keyof typeof entryFields | "initgroups";

/** `timeoutMs` bounds each question, from its child's start. `command` stands for getent(1) of the GNU C library. */
export function createNameService(options: { timeoutMs?: number; command?: string } = {}): NameService {
  const { timeoutMs = 5_000, command = "getent" } = options;
  const inTurn = createTurns(mostChildren);

  async function ask(database: Database, name: string): Promise<string | undefined> {
    refuseBadName(database, name);
    return inTurn(() => run(command, database, name, timeoutMs));
  }

  async function user(name: string): Promise<{ readonly uid: number; readonly gid: number } | undefined> {
    const answer = await ask("passwd", name);
    if (answer === undefined) return undefined;
    return { uid: idOf("passwd", name, answer, 2), gid: idOf("passwd", name, answer, 3) };
  }

  return {
    user,
    async group(name) {
      const answer = await ask("group", name);
      return answer === undefined ? undefined : idOf("group", name, answer, 2);
    },
    async groupsOf(name) {
      // The one knows the user's own gid alone, the other the groups that list it, and answers for users that do not exist.
      const [found, answer] = await Promise.all([user(name), ask("initgroups", name)]);
      return found && answer !== undefined ? [...new Set([found.gid, ...groupIdsOf(name, answer)])] : [];
    },
  };
}

/**
 * Lets so many tasks run at a time; the others wait for their turn in order. When one fails, those that wait fail with it: a
 * service that does not answer for one name will not for the next, and each would take as long.
 */
function createTurns(most: number): <Result>(task: () => Promise<Result>) => Promise<Result> {
  const waiting: { readonly begin: () => void; readonly fail: (error: unknown) => void }[] = [];
  let running = 0;
  return async (task) => {
    if (running < most) running += 1;
    else await new Promise<void>((begin, fail) => waiting.push({ begin, fail }));
    try {
      return await task();
    } catch (error) {
      for (const { fail } of waiting.splice(0)) fail(error);
      throw error;
    } finally {
      // Who waits takes over the place of who leaves.
      const next = waiting.shift();
      if (next) next.begin();
      else running -= 1;
    }
  };
}

function refuseBadName(database: Database, name: string): void {
  const shown = `The ${kindOf(database)} name ${JSON.stringify(name.slice(0, 80))}`;
  if (name === "") throw new Error(`${shown} is empty`);
  // getent takes for an id whatever strtoul(3) does: not only `0` is root, but ` 0`, `+0`, `-0` and 4294967296 too.
  if (/^ *[+-]?\d+$/.test(name)) throw new Error(`${shown} is a number: use uids or gids instead of names for that`);
  if (name.startsWith("-")) throw new Error(`${shown} begins with '-', which no name does`);
  if (/[:/\p{Cc}]/u.test(name))
    throw new Error(`${shown} has a colon, a slash or a control character, which no name has`);
  if (Buffer.byteLength(name) > longestNameBytes) throw new Error(`${shown}… has more than ${longestNameBytes} bytes`);
}

/** The first line of the answer; undefined for "not found". */
function run(command: string, database: Database, name: string, timeoutMs: number): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const fail = (what: string, cause?: Error): void =>
      reject(new Error(`${asking(database, name)} ${what}`, { cause }));
    const env = { PATH: process.env["PATH"], LC_ALL: "C" };
    const limits = { maxBuffer: longestAnswerBytes, killSignal: "SIGKILL" } as const;
    const child = execFile(command, [database, "--", name], { env, ...limits }, (error, answer, complaint) => {
      clearTimeout(timer);
      if (error?.code === notFound) resolve(undefined);
      else if (error) fail(failureOf(command, error, complaint), error);
      else resolve(answer.split("\n", 1)[0]);
    });
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      // Not once it has ended: in uninterruptible sleep it does not, and a child of its own may hold on to its output.
      fail(`had no answer within ${timeoutMs} ms: check the system's name service, or give ids instead of names`);
      child.stdout?.destroy();
      child.stderr?.destroy();
    }, timeoutMs);
    // It is to read nothing.
    child.stdin?.destroy();
  });
}

const kindOf = (database: Database): string => (database === "group" ? "group" : "user");

function asking(database: Database, name: string): string {
  return `Asking for the ${kindOf(database)} ${JSON.stringify(name)} (getent ${database})`;
}

function failureOf(command: string, error: ExecFileException, complaint: string): string {
  if (error.code === "ENOENT")
    return `failed: there is no command '${command}'; install it, or give ids instead of names`;
  if (error.code === "ERR_CHILD_PROCESS_STDIO_MAXBUFFER") return `gave more than ${longestAnswerBytes} bytes`;
  if (typeof error.code === "string") return `failed: '${command}' does not start (${error.code})`;
  const words = complaint.trim().split("\n", 1)[0]?.slice(0, 200) ?? "";
  return `failed: '${command}' ended with ${error.signal ?? `code ${error.code}`}${words && ` and said: ${words}`}`;
}

/** The id at a place of an entry, whose name may be spelled otherwise than asked: directories ignore case, or add a domain. */
function idOf(database: keyof typeof entryFields, name: string, entry: string, place: number): number {
  const fields = entry.split(":");
  const text = fields[place] ?? "";
  const id = Number(text);
  if (fields.length !== entryFields[database] || !/^\d{1,10}$/.test(text) || id > lastId)
    throw notUnderstood(database, name, entry);
  return id;
}

/** `NAME` as it was asked, blanks up to the 21st column, then ids. The name may have blanks and numbers itself. */
function groupIdsOf(name: string, answer: string): readonly number[] {
  const rest = answer.slice(name.length);
  const ids = rest.split(" ").filter(Boolean).map(Number);
  if (!answer.startsWith(name) || !/^[ \d]*$/.test(rest) || ids.some((id) => id > lastId))
    throw notUnderstood("initgroups", name, answer);
  return ids;
}

function notUnderstood(database: Database, name: string, answer: string): Error {
  return new Error(`${asking(database, name)} gave what is no answer: ${JSON.stringify(answer.slice(0, 200))}`);
}
