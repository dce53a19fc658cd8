// The programs in C that ask and answer: compiles them when they changed, runs them and reads what they say.
import { execFileSync, type ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { startProgram } from "./compare/children.ts";

/** What a program says, in the units that its names end in. */
export type Figures = Readonly<Record<string, number>>;

export interface Load {
  readonly requests: readonly string[];
  /** Further options of load.c, without their dashes. */
  readonly options?: Readonly<Record<string, string | number>>;
  /** The processor that it must stay on. */
  readonly processor?: number;
}

/** Throws where a request was not answered as it should be. */
export async function runLoad(socket: string, { requests, options = {}, processor }: Load): Promise<Figures> {
  return runProgram([...onProcessor(processor), compiled("load"), ...words(options), socket, ...requests]);
}

export async function runStreams(
  socket: string,
  target: string,
  options: Readonly<Record<string, string | number>>,
): Promise<Figures> {
  return runProgram([compiled("streams"), ...words(options), socket, target]);
}

export async function startEcho(socket: string): Promise<ChildProcess> {
  const child = startProgram([compiled("echo"), socket], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve, reject) => {
    child.stdout?.once("data", resolve);
    child.once("exit", reject);
  });
  return child;
}

/** The words that keep a program on one processor. */
export function onProcessor(processor: number | undefined): readonly string[] {
  return processor === undefined ? [] : ["taskset", "-c", String(processor)];
}

function words(options: Readonly<Record<string, string | number>>): readonly string[] {
  return Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
}

async function runProgram(command: readonly string[]): Promise<Figures> {
  const child = startProgram(command, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  let complaint = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (complaint += text));
  const code = await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (code !== 0) throw new Error(`${command.join(" ")} ended with ${code}: ${complaint}${output}`);
  return figuresOf(output);
}

function figuresOf(line: string): Figures {
  const read: unknown = JSON.parse(line);
  if (typeof read !== "object" || read === null) throw new Error(`not an object: ${line}`);
  return Object.fromEntries(Object.entries(read).filter((entry): entry is [string, number] => isNumber(entry[1])));
}

const isNumber = (value: unknown): value is number => typeof value === "number";

/** Throws where a program does not say it. */
export function figure(figures: Figures, name: string): number {
  const value = figures[name];
  if (value === undefined || !Number.isFinite(value)) throw new Error(`no ${name} in ${JSON.stringify(figures)}`);
  return value;
}

const cache = join(import.meta.dirname, "../node_modules/.cache/zeusd-bench-programs");

function compiled(name: "load" | "streams" | "echo"): string {
  const source = join(import.meta.dirname, `${name}.c`);
  const texts = [source, join(import.meta.dirname, "program.h")].map((path) => readFileSync(path));
  const version = createHash("sha256").update(Buffer.concat(texts)).digest("hex").slice(0, 16);
  const program = join(cache, `${name}-${version}`);
  if (existsSync(program)) return program;
  mkdirSync(cache, { recursive: true });
  const fresh = `${program}.${process.pid}`;
  const flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-pthread"];
  execFileSync("cc", [...flags, "-o", fresh, source], { stdio: "inherit" });
  renameSync(fresh, program);
  return program;
}
