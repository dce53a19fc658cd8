// A file whose content is in force until it has been read again with success.
import { messageOf, StartError } from "../contract/errors.ts";
import type { Health } from "../contract/health.ts";
import type { Log } from "../contract/log.ts";
import { readTrustedFile } from "./trusted-file.ts";

export interface KeptFileParts<Content> {
  /** What it is, for people, for example `policy`. */
  readonly what: string;
  readonly path: string;
  /** Who else than root may own it. */
  readonly euid: number;
  /** Throws an Error that says what is wrong. */
  parse(text: string): Content | Promise<Content>;
  readonly log: Log;
  readonly health: Health;
}

export class KeptFile<Content> {
  readonly #parts: KeptFileParts<Content>;
  #content: Content;
  #reading: Promise<void> | undefined;
  /** The reading that begins when the one that is under way has ended. */
  #next: Promise<void> | undefined;

  private constructor(parts: KeptFileParts<Content>, content: Content) {
    this.#parts = parts;
    this.#content = content;
  }

  /** Throws a StartError: without its first content the file has nothing to keep. */
  static async open<Content>(parts: KeptFileParts<Content>): Promise<KeptFile<Content>> {
    const content = await read(parts).catch((error: unknown) => {
      throw new StartError(`Cannot use the ${parts.what} file '${parts.path}': ${messageOf(error)}`, { cause: error });
    });
    return new KeptFile(parts, content);
  }

  get content(): Content {
    return this.#content;
  }

  /**
   * Reads it again, after any reading that is under way. All or nothing: what is wrong with it is told, and the old content
   * stays. Who asks while a reading is waiting to begin gets that one.
   */
  reload(): Promise<void> {
    if (this.#reading) return (this.#next ??= this.#reading.then(() => this.#begin()));
    return this.#begin();
  }

  #begin(): Promise<void> {
    this.#next = undefined;
    const reading = this.#reload().finally(() => {
      if (this.#reading === reading) this.#reading = undefined;
    });
    this.#reading = reading;
    return reading;
  }

  async #reload(): Promise<void> {
    const { what, path, log, health } = this.#parts;
    try {
      this.#content = await read(this.#parts);
      health.report(what);
      log.info(`Read the ${what} file '${path}' again; it is in force`);
    } catch (error) {
      health.report(what, `The ${what} file could not be read again; what it said before is in force.`);
      log.error(`Keeping the ${what} that was in force, since the file '${path}' cannot be used: ${messageOf(error)}`);
    }
  }
}

async function read<Content>({ path, euid, parse }: KeptFileParts<Content>): Promise<Content> {
  return parse(await readTrustedFile(path, euid));
}
