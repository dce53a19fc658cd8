#!/usr/bin/env node
// The binary: sets what must stand before the program is loaded, the size of the thread pool and how memory is reclaimed.
// Young objects live in a space that V8 lets grow to 48 MB, which nothing here needs: what a request leaves behind is dead
// long before. At its first size, 1 MB, collecting it takes a fraction of a millisecond, and the process stays small.
process.getBuiltinModule("node:v8").setFlagsFromString("--semi-space-growth-factor=1");

// A hung driver call keeps its thread for good, so there are more than a node has GPUs. The size must stand before Node
// uses the pool for the first time, and its loader of ES modules already does: hence this one CommonJS file.
const leastThreads = 64;
const at = process.argv.findIndex((word) => /^--num-workers(=|$)/.test(word));
const [, inline] = process.argv[at]?.split("=") ?? [];
const asked = Number(at < 0 ? 0 : (inline ?? process.argv[at + 1]));
const given = Number(process.env["UV_THREADPOOL_SIZE"]);
process.env["UV_THREADPOOL_SIZE"] = String(Math.max(leastThreads, asked || 0, given || 0));

// Until the daemon knows what to read again, being asked to must not end it.
process.on("SIGHUP", () => {});

void import("./main.ts");
