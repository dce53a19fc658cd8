// Calling C: what the driver writes to stays where it is, and mistakes are errors rather than crashes.
import { setImmediate as turn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, it, onTestFinished } from "vitest";
import { LibraryMissing, SymbolMissing } from "../../src/native/load.ts";
import { loadNvml, type NvmlLibrary } from "../../src/native/nvml.ts";
import { createNvmlStub, type NvmlStub } from "../stub/nvml.ts";

function createSubject(): { stub: NvmlStub; library: NvmlLibrary } {
  const stub = createNvmlStub({ omit: ["nvmlDeviceGetUUID"] });
  onTestFinished(() => stub.remove());
  return { stub, library: loadNvml([stub.path]) };
}

it("names every library that it looked for in vain", () => {
  expect(() => loadNvml(["/nowhere/a.so", "/nowhere/b.so"])).toThrow(LibraryMissing);
  expect(() => loadNvml(["/nowhere/a.so", "/nowhere/b.so"])).toThrow(
    /^\/nowhere\/a\.so: cannot open .*; \/nowhere\/b\.so: cannot open/,
  );
});

it("misses a function when it is called, not before", async () => {
  const { library } = createSubject();
  expect(await library.call("nvmlInit_v2")).toBe(0);
  await expect(library.call("nvmlDeviceGetUUID", 1n, Buffer.alloc(96), 96)).rejects.toThrow(SymbolMissing);
});

it("gives the driver's code back, whatever it is", async () => {
  const { library, stub } = createSubject();
  expect(await library.call("nvmlDeviceGetCount_v2", [0])).toBe(1);
  stub.fail("nvmlInit_v2=code:-7");
  expect(await library.call("nvmlInit_v2")).toBe(-7);
});

it("refuses arguments that do not fit a prototype", async () => {
  const { library } = createSubject();
  await expect(library.call("nvmlDeviceGetHandleByIndex_v2", 0)).rejects.toThrow("Expected");
});

it("keeps the bytes that a call writes to, even when nobody else does", async () => {
  const { library, stub } = createSubject();
  await library.call("nvmlInit_v2");
  const slot = [null] as [bigint | null];
  await library.call("nvmlDeviceGetHandleByIndex_v2", 0, slot);
  stub.fail("nvmlDeviceGetName=hang");
  const { bytes, ended } = ((buffer) => ({
    bytes: new WeakRef(buffer),
    ended: library.call("nvmlDeviceGetName", slot[0] ?? 0n, buffer, 96),
  }))(Buffer.alloc(96));
  await stub.called("nvmlDeviceGetName 0 hangs");
  await collectGarbage();
  expect(bytes.deref()).toBeDefined();
  stub.fail();
  expect(await ended).toBe(0);
});

async function collectGarbage(): Promise<void> {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  if (typeof collect !== "function") throw new Error("this Node cannot collect garbage on demand");
  await turn();
  collect();
}
