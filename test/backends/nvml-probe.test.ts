// Finding GPUs: with what is there, while something is missing, and again later.
import { describe, expect, it, onTestFinished } from "vitest";
import { createNvmlBackend } from "../../src/backends/nvml/backend.ts";
import { systemClock } from "../../src/contract/clock.ts";
import { createNvmlStub } from "../stub/nvml.ts";
import { createHandClock, createInstallation, createSubject, nothingLost, openGpu } from "./nvml-subject.ts";

describe("looking for GPUs", () => {
  it("finds as many as the driver counts, by ascending index", async () => {
    const found = await createSubject({ env: { NVML_STUB_GPUS: "11" } }).backend.probe(nothingLost);
    expect(found.map(({ id }) => id)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(found[10]).toMatchObject({ name: "Fake GPU 10", pci_address: "0000:4b:00.0" });
  });

  it("finds none without an error when there are none", async () => {
    expect(await createSubject({ env: { NVML_STUB_GPUS: "0" } }).backend.probe(nothingLost)).toEqual([]);
  });

  it("gives the same record for a GPU that was found before, and opens it once", async () => {
    const { backend, stub } = createSubject();
    const [first, second] = [await backend.probe(nothingLost), await backend.probe(nothingLost)];
    expect(second[0]).toBe(first[0]);
    expect(second[1]).toBe(first[1]);
    expect(stub.calls().filter((line) => line.startsWith("nvmlDeviceGetHandleByIndex_v2"))).toHaveLength(2);
    expect(stub.calls().filter((line) => line.startsWith("nvmlInit_v2"))).toHaveLength(1);
  });

  it("gives the same records to two that look at the same time", async () => {
    const { backend, stub } = createSubject();
    const [first, second] = await Promise.all([backend.probe(nothingLost), backend.probe(nothingLost)]);
    expect([second[0] === first[0], second[1] === first[1]]).toEqual([true, true]);
    expect(stub.calls().filter((line) => line.startsWith("nvmlInit_v2"))).toHaveLength(1);
  });

  it("keeps a GPU that was found before when the driver counts fewer", async () => {
    const { backend, stub } = createSubject();
    const before = await backend.probe(nothingLost);
    stub.fail("nvmlDeviceGetCount_v2=value:1");
    expect((await backend.probe(nothingLost))[1]).toBe(before[1]);
  });

  it("finds a GPU that the driver counts later", async () => {
    const { backend, stub } = createSubject();
    stub.fail("nvmlDeviceGetCount_v2=value:1");
    const [only, ...others] = await backend.probe(nothingLost);
    expect(others).toEqual([]);
    stub.fail();
    const later = await backend.probe(nothingLost);
    expect(later[0]).toBe(only);
    expect(later[1]).toMatchObject({ id: 1, name: "Fake GPU 1" });
  });

  it("takes the first of the library's names that is there", async () => {
    const stub = createNvmlStub();
    onTestFinished(() => stub.remove());
    const backend = createNvmlBackend({ clock: systemClock, names: ["/nowhere/libnvidia-ml.so.1", stub.path] });
    expect(await backend.probe(nothingLost)).toHaveLength(2);
  });
});

describe("a GPU that cannot be opened", () => {
  it.each(["nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetName"])(
    "because %s fails is away with the reason, while the others work",
    async (symbol) => {
      const { backend, stub } = createSubject();
      stub.fail(`${symbol}@0=code:15`);
      const [away, other] = await backend.probe(nothingLost);
      expect(away).toMatchObject({
        id: 0,
        away: { message: "NVML error: device fell off the bus or has otherwise become inacessible", status: 500 },
      });
      expect(other).toMatchObject({ id: 1, name: "Fake GPU 1" });
    },
  );

  it("is found by a later probe, and the others stay as they were", async () => {
    const { backend, stub } = createSubject();
    stub.fail("nvmlDeviceGetHandleByIndex_v2@0=code:17");
    const before = await backend.probe(nothingLost);
    stub.fail();
    const after = await backend.probe(nothingLost);
    expect(after[0]).toMatchObject({ id: 0, name: "Fake GPU 0" });
    expect(after[1]).toBe(before[1]);
  });

  it.each([3, 6, 15, 999])("is not one that only fails with code %i to tell more than its name", async (code) => {
    const { backend, stub } = createSubject();
    const silent = ["nvmlDeviceGetUUID", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetTotalEnergyConsumption"];
    stub.fail(...silent.map((symbol) => `${symbol}@0=code:${code}`));
    expect(await openGpu(backend, 0)).toMatchObject({
      name: "Fake GPU 0",
      uuid: null,
      pci_address: null,
      cumulative_energy_available: false,
    });
    expect(await openGpu(backend, 1)).toMatchObject({ pci_address: "0000:42:00.0", cumulative_energy_available: true });
  });
});

describe("a driver that is not there", () => {
  it("is an error that names the library, and is found once it is installed", async () => {
    const { path, install } = createInstallation();
    const backend = createNvmlBackend({ clock: systemClock, names: [path] });
    await expect(backend.probe(nothingLost)).rejects.toMatchObject({
      code: "driver_error",
      message: `Cannot load NVML: ${path}: cannot open shared object file: No such file or directory`,
    });
    install([]);
    expect(await backend.probe(nothingLost)).toHaveLength(2);
  });

  it.each([
    ["nvmlInit_v2=code:9", "NVML error: NVIDIA driver is not loaded"],
    ["nvmlInit_v2=code:18", "NVML error: RM detects a driver/library version mismatch"],
    ["nvmlDeviceGetCount_v2=code:999", "NVML error: an internal driver error occurred"],
  ])("is an error with the reason for %s, and works without a restart when that is over", async (rule, message) => {
    const { backend, stub } = createSubject();
    stub.fail(rule);
    await expect(backend.probe(nothingLost)).rejects.toMatchObject({ message });
    await expect(backend.probe(nothingLost)).rejects.toMatchObject({ message });
    stub.fail();
    expect(await backend.probe(nothingLost)).toHaveLength(2);
  });

  it("is begun anew while none of its GPUs can be opened", async () => {
    const { backend, stub } = createSubject();
    stub.fail("nvmlDeviceGetHandleByIndex_v2=code:9");
    expect(await backend.probe(nothingLost)).toMatchObject([
      { away: { code: "gpu_lost" } },
      { away: { code: "gpu_lost" } },
    ]);
    stub.fail();
    expect(await backend.probe(nothingLost)).toMatchObject([{ name: "Fake GPU 0" }, { name: "Fake GPU 1" }]);
    expect(stub.calls().filter((line) => /Init|Shutdown/.test(line))).toEqual([
      "nvmlInit_v2 - 0 -> 0",
      "nvmlShutdown - -> 0",
      "nvmlInit_v2 - 0 -> 0",
    ]);
  });

  it.each([
    "nvmlInit_v2=code:18",
    "nvmlDeviceGetCount_v2=code:18",
    "nvmlDeviceGetHandleByIndex_v2@1=code:18",
    "nvmlDeviceGetUUID@1=code:18",
    "nvmlDeviceGetTotalEnergyConsumption@1=code:18",
  ])("and was replaced under the library is the end of every probe (%s)", async (rule) => {
    const { backend, stub } = createSubject();
    stub.fail(rule);
    await expect(backend.probe(nothingLost)).rejects.toMatchObject({ code: "driver_mismatch" });
  });

  it("is loaded anew after it failed to start, so that an upgrade is taken up", async () => {
    const { path, install } = createInstallation();
    install(["nvmlInit_v2"]);
    const backend = createNvmlBackend({ clock: systemClock, names: [path] });
    await expect(backend.probe(nothingLost)).rejects.toThrow("function symbol failed to load");
    install([]);
    expect(await backend.probe(nothingLost)).toHaveLength(2);
  });
});

describe("a driver that hangs", () => {
  it("does not hold up a probe for longer than its patience, and is joined by the next", async () => {
    const { clock, pass } = createHandClock();
    const { backend, stub } = createSubject({}, clock);
    stub.fail("nvmlInit_v2=hang");
    const first = backend.probe(nothingLost);
    await stub.called("nvmlInit_v2 - hangs");
    pass();
    await expect(first).rejects.toThrow("NVML has not answered for 30 s");
    const second = backend.probe(nothingLost);
    stub.fail();
    expect(await second).toHaveLength(2);
    expect(stub.calls().filter((line) => line === "nvmlInit_v2 - 0 -> 0")).toHaveLength(1);
  });

  it("for longer than a probe waits is found by the next one after it has begun, not begun once more", async () => {
    const { clock, pass } = createHandClock();
    const { backend, stub } = createSubject({}, clock);
    stub.fail("nvmlInit_v2=hang");
    const first = backend.probe(nothingLost);
    await stub.called("nvmlInit_v2 - hangs");
    pass();
    await expect(first).rejects.toThrow("NVML has not answered");
    stub.fail();
    await stub.called("nvmlInit_v2 - 0 -> 0");
    for (const _ of [1, 2]) expect(await backend.probe(nothingLost)).toMatchObject([{ id: 0 }, { id: 1 }]);
    const beginnings = stub.calls().filter((line) => /Init.*->|Shutdown/.test(line));
    expect(beginnings).toEqual(["nvmlInit_v2 - 0 -> 0"]);
  });

  it("is waited for as long as the first probe shall, and then as long as the others shall", async () => {
    const { clock, pass } = createHandClock();
    const stub = createNvmlStub();
    onTestFinished(() => stub.remove());
    stub.fail("nvmlInit_v2=hang");
    const backend = createNvmlBackend({ clock, names: [stub.path], firstPatienceMs: 20_000, patienceMs: 3_000 });
    for (const [index, seconds] of [20, 3, 3].entries()) {
      const probe = expect(backend.probe(nothingLost)).rejects.toThrow(`NVML has not answered for ${seconds} s`);
      if (index === 0) await stub.called("nvmlInit_v2 - hangs");
      // The probe takes its place in the queue of probes first.
      await new Promise((resolve) => setImmediate(resolve));
      pass();
      await probe;
    }
    stub.fail();
    expect(await backend.probe(nothingLost)).toHaveLength(2);
  });

  it("while it counts its GPUs is asked once, however often it is probed", async () => {
    const { clock, pass } = createHandClock();
    const { backend, stub } = createSubject({}, clock);
    stub.fail("nvmlDeviceGetCount_v2=hang");
    const first = backend.probe(nothingLost);
    await stub.called("nvmlDeviceGetCount_v2 - hangs");
    pass();
    await expect(first).rejects.toThrow("NVML has not answered for 30 s");
    const second = backend.probe(nothingLost);
    stub.fail();
    expect(await second).toHaveLength(2);
    expect(stub.calls().filter((line) => line === "nvmlDeviceGetCount_v2 - -> 0")).toHaveLength(1);
  });

  it("for one GPU makes that one away, and leaves the others", async () => {
    const { clock, pass } = createHandClock();
    const { backend, stub } = createSubject({}, clock);
    stub.fail("nvmlDeviceGetName@0=hang");
    const probe = backend.probe(nothingLost);
    await stub.called("nvmlDeviceGetName 0 hangs");
    await stub.called("nvmlDeviceGetTotalEnergyConsumption 1 -> 0");
    pass();
    const [away, other] = await probe;
    expect(away).toMatchObject({ id: 0, away: { message: "GPU 0 has not answered for 30 s" } });
    expect(other).toMatchObject({ id: 1 });
    stub.fail();
    expect((await backend.probe(nothingLost))[0]).toMatchObject({ id: 0, name: "Fake GPU 0" });
  });
});
