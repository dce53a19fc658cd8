// Lines for a reader that is stuck.
import { Writable } from "node:stream";
import { expect, it } from "vitest";
import { createLineWriter } from "../../src/telemetry/line-writer.ts";

it("drops what a stuck reader does not take, keeps no more than a mebibyte, and tells how many lines are missing", () => {
  const read: string[] = [];
  const waiting: (() => void)[] = [];
  const stream = new Writable({
    write(chunk: Buffer, _, done) {
      read.push(chunk.toString());
      waiting.push(done);
    },
  });
  const write = createLineWriter(stream);
  const line = `${"x".repeat(1023)}\n`;
  for (let count = 0; count < 5_000; count += 1) write(line);
  expect(stream.writableLength).toBeLessThan(1024 * 1024 + 2 * line.length);
  while (waiting.length > 0) waiting.shift()?.();
  return new Promise<void>((resolve) => {
    const drain = setInterval(() => {
      while (waiting.length > 0) waiting.shift()?.();
      if (stream.writableLength > 0) return;
      clearInterval(drain);
      const taken = read.length;
      write("after\n");
      for (; waiting.length > 0;) waiting.shift()?.();
      setImmediate(() => {
        for (; waiting.length > 0;) waiting.shift()?.();
        setImmediate(() => {
          expect(read.slice(taken).join("")).toBe(
            `${5_000 - taken} lines were dropped here, because nobody read them\nafter\n`,
          );
          resolve();
        });
      });
    }, 1);
  });
});
