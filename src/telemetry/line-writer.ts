// Writes lines to a stream whose reader may be slow or stuck: what it does not take is dropped and counted, not kept.
import type { Writable } from "node:stream";

/** How many bytes may wait for the reader. */
const most = 1024 * 1024;

export function createLineWriter(stream: Writable): (line: string) => void {
  let dropped = 0;
  return (line) => {
    if (stream.writableLength > most) {
      dropped += 1;
      return;
    }
    if (dropped > 0) stream.write(`${dropped} lines were dropped here, because nobody read them\n`);
    dropped = 0;
    stream.write(line);
  };
}
