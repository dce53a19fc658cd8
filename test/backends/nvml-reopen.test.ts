// GPUs that the driver loses and finds again: who is opened anew, who must not notice, and which id is whose afterwards.
import { describe, expect, it } from "vitest";
import { createNvmlBackend } from "../../src/backends/nvml/backend.ts";
import { openNvml } from "../../src/backends/nvml/library.ts";
import { systemClock } from "../../src/contract/clock.ts";
import type { AwayGpu, Gpu, GpuBackend } from "../../src/contract/gpu.ts";
import type { NvmlStub } from "../stub/nvml.ts";
import { createHandClock, createInstallation, createSubject, nothingLost, type NvmlSubject } from "./nvml-subject.ts";

const lost = (...ids: readonly number[]): ReadonlySet<number> => new Set(ids);
const uuid = (gpu: number): string => `GPU-00000000-0000-0000-0000-00000000000${gpu}`;
const fellOff = "NVML error: device fell off the bus or has otherwise become inacessible";

/** The driver counts these GPUs at the indexes from 0. */
const order = (...gpus: readonly number[]): readonly string[] =>
  gpus.map((gpu, index) => `order@${index}=value:${gpu}`);

/** Two GPUs that were found; a handle is good until the GPU gets another. */
async function found(clock = systemClock): Promise<NvmlSubject & { readonly gpus: readonly Gpu[] }> {
  const subject = createSubject({ env: { NVML_STUB_HANDLES: "latest" } }, clock);
  return { ...subject, gpus: await probe(subject.backend) };
}

/** What a probe finds when no GPU is away. */
async function probe(backend: GpuBackend, ids = nothingLost): Promise<readonly Gpu[]> {
  return (await backend.probe(ids)).map((gpu: Gpu | AwayGpu) => {
    if ("away" in gpu) throw new Error(`GPU ${gpu.id} is away: ${gpu.away.message}`);
    return gpu;
  });
}

/** The calls so far that match. */
function asked(stub: NvmlStub, pattern: RegExp): readonly string[] {
  return stub.calls().filter((line) => pattern.test(line));
}

const beginnings = /^nvml(Init|Shutdown)/;
const begunAnew = ["nvmlInit_v2 - 0 -> 0", "nvmlShutdown - -> 0", "nvmlInit_v2 - 0 -> 0"];

describe("a GPU that was lost", () => {
  it("is opened anew, keeps its id and works by its new handle, while nobody else notices", async () => {
    const { backend, stub, gpus } = await found();
    stub.fail("nvmlDeviceGetPowerManagementLimit@0=code:15");
    await expect(gpus[0]?.getPowerLimit?.({})).rejects.toMatchObject({ code: "gpu_lost" });
    stub.fail();
    const before = stub.calls().length;
    const again = await probe(backend, lost(0));
    expect(again[1]).toBe(gpus[1]);
    expect(again[0]).not.toBe(gpus[0]);
    expect(again[0]).toMatchObject({ id: 0, uuid: uuid(0) });
    expect(await again[0]?.getPowerLimit?.({})).toEqual({ power_limit_mw: 300_000 });
    expect(stub.calls()[before + 1]).toBe(`nvmlDeviceGetHandleByUUID 0 ${uuid(0)} -> 0`);
    expect(
      stub
        .calls()
        .slice(before)
        .filter((line) => /^\w+ 1 /.test(line) || beginnings.test(line)),
    ).toEqual([]);
  });

  it("can be lost and opened anew as often as it pleases", async () => {
    const { backend, stub, gpus } = await found();
    await probe(backend, lost(0));
    const [one, other] = await probe(backend, lost(0));
    expect(await one?.getPowerLimit?.({})).toEqual({ power_limit_mw: 300_000 });
    expect(other).toBe(gpus[1]);
    expect(await probe(backend)).toEqual([one, other]);
    expect(asked(stub, /HandleByUUID/)).toHaveLength(2);
  });

  it("is not reached by its old handle any more", async () => {
    const { backend, stub, gpus } = await found();
    stub.fail("nvmlDeviceSetPowerManagementLimit@0=hang,code:15");
    const hung = gpus[0]?.setPowerLimit?.({ power_limit_mw: 200_000 });
    await stub.called("nvmlDeviceSetPowerManagementLimit 0 hangs");
    await probe(backend, lost(0));
    const before = stub.calls().length;
    await expect(gpus[0]?.getPowerLimit?.({})).rejects.toMatchObject({ code: "gpu_away", status: 503 });
    await expect(gpus[0]?.getPower?.({})).rejects.toMatchObject({ code: "gpu_away" });
    expect(stub.calls()).toHaveLength(before);
    stub.fail();
    // What becomes of a call that was under way says nothing about the GPU that is there now.
    await expect(hung).rejects.toMatchObject({ code: "gpu_away", cause: { code: "gpu_lost" } });
  });

  it("is away with the reason for as long as it cannot be opened", async () => {
    const { backend, stub, gpus } = await found();
    stub.fail("nvmlDeviceGetHandleByUUID=code:15");
    for (const _ of [1, 2]) {
      const [away, other] = await backend.probe(lost(0));
      expect(away).toMatchObject({ id: 0, away: { code: "gpu_lost", message: fellOff } });
      expect(other).toBe(gpus[1]);
    }
    stub.fail();
    expect((await probe(backend, lost(0)))[0]).toMatchObject({ id: 0, name: "Fake GPU 0" });
  });

  it("and hangs when it is opened anew is away, and is asked once, however often it is probed", async () => {
    const { clock, pass } = createHandClock();
    const { backend, stub, gpus } = await found(clock);
    stub.fail("nvmlDeviceGetName@0=hang");
    const first = backend.probe(lost(0));
    await stub.called("nvmlDeviceGetName 0 hangs");
    pass();
    expect(await first).toMatchObject([{ id: 0, away: { message: "GPU 0 has not answered for 30 s" } }, { id: 1 }]);
    const second = probe(backend, lost(0));
    stub.fail();
    const [one, other] = await second;
    expect(one).toMatchObject({ id: 0, uuid: uuid(0) });
    expect(other).toBe(gpus[1]);
    expect(asked(stub, /HandleByUUID/)).toHaveLength(1);
  });

  it("and answers between two probes is found by the later one, not opened once more", async () => {
    const { clock, pass } = createHandClock();
    const { backend, stub } = await found(clock);
    stub.fail("nvmlDeviceGetName=hang");
    const first = backend.probe(lost(0, 1));
    await stub.called("nvmlDeviceGetName 0 hangs");
    await stub.called("nvmlDeviceGetName 1 hangs");
    pass();
    await first;
    stub.fail();
    const late = "nvmlDeviceGetTotalEnergyConsumption";
    await expect.poll(() => asked(stub, new RegExp(late))).toHaveLength(4);
    const before = stub.calls().length;
    expect(await probe(backend, lost(0, 1))).toMatchObject([{ id: 0 }, { id: 1 }]);
    expect(stub.calls().slice(before)).toEqual(["nvmlDeviceGetCount_v2 - -> 0"]);
  });

  it("is found by its UUID wherever the driver counts it now", async () => {
    const { backend, stub, gpus } = await found();
    stub.fail(...order(1, 0));
    const [one, other] = await probe(backend, lost(0));
    expect(one).toMatchObject({ id: 0, uuid: uuid(0) });
    expect(other).toBe(gpus[1]);
  });

  it("is found by its index when it never told its UUID, and tells then what it did not before", async () => {
    const { backend, stub } = createSubject();
    const silent = ["nvmlDeviceGetUUID", "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetTotalEnergyConsumption"];
    stub.fail(...silent.map((symbol) => `${symbol}@0=code:999`));
    expect((await probe(backend))[0]).toMatchObject({ uuid: null, pci_address: null });
    stub.fail();
    const facts = { id: 0, uuid: uuid(0), pci_address: "0000:41:00.0", cumulative_energy_available: true };
    expect((await probe(backend, lost(0)))[0]).toMatchObject(facts);
    expect(asked(stub, /HandleByIndex_v2 0/)).toHaveLength(2);
    stub.fail(...silent.map((symbol) => `${symbol}@0=code:999`));
    // What is known does not become unknown.
    expect((await probe(backend, lost(0)))[0]).toMatchObject(facts);
  });

  it("ends the probe when its driver was replaced under the library", async () => {
    const { backend, stub } = await found();
    stub.fail("nvmlDeviceGetHandleByUUID@0=code:18");
    await expect(backend.probe(lost(0))).rejects.toMatchObject({ code: "driver_mismatch" });
  });
});

describe("a driver that lost all its GPUs", () => {
  it("is begun anew once, and gives every GPU its id", async () => {
    const { backend, stub, gpus } = await found();
    stub.fail("nvmlDeviceGetPowerManagementLimit=code:9");
    await expect(gpus[0]?.getPowerLimit?.({})).rejects.toMatchObject({ code: "gpu_lost" });
    stub.fail();
    const again = await probe(backend, lost(0, 1));
    expect(again).toMatchObject([
      { id: 0, uuid: uuid(0) },
      { id: 1, uuid: uuid(1) },
    ]);
    expect(await again[1]?.getPowerLimit?.({})).toEqual({ power_limit_mw: 300_000 });
    expect(await probe(backend)).toEqual(again);
    expect(asked(stub, beginnings)).toEqual(begunAnew);
    const before = stub.calls().length;
    await expect(gpus[1]?.getPowerLimit?.({})).rejects.toMatchObject({ code: "gpu_away" });
    expect(stub.calls()).toHaveLength(before);
  });

  it("is begun anew also when it does not take its leave", async () => {
    const { backend, stub } = await found();
    stub.fail("nvmlShutdown=code:1");
    expect(await probe(backend, lost(0, 1))).toHaveLength(2);
    expect(asked(stub, beginnings)).toHaveLength(3);
  });

  it("is left as it is while a call hangs in its library", async () => {
    const { backend, stub, gpus } = await found();
    stub.fail("nvmlDeviceGetPowerManagementLimit@1=hang");
    const hung = gpus[1]?.getPowerLimit?.({});
    await stub.called("nvmlDeviceGetPowerManagementLimit 1 hangs");
    expect(await probe(backend, lost(0, 1))).toMatchObject([{ id: 0 }, { id: 1 }]);
    expect(asked(stub, beginnings)).toHaveLength(1);
    expect(asked(stub, /HandleByUUID/)).toHaveLength(2);
    stub.fail();
    await hung;
    await probe(backend, lost(0, 1));
    expect(asked(stub, beginnings)).toEqual(begunAnew);
  });

  it("is an error with the reason for as long as it is away, and works again when it is back", async () => {
    const { backend, stub } = await found();
    stub.fail("nvmlInit_v2=code:9");
    for (const _ of [1, 2]) {
      await expect(backend.probe(lost(0, 1))).rejects.toThrow("NVML error: NVIDIA driver is not loaded");
    }
    stub.fail();
    expect(await probe(backend, lost(0, 1))).toMatchObject([{ id: 0 }, { id: 1 }]);
    expect(asked(stub, /Shutdown/)).toHaveLength(1);
  });

  it("is an error that only a new process can mend when it was replaced", async () => {
    const { backend, stub } = await found();
    stub.fail("nvmlInit_v2=code:18");
    await expect(backend.probe(lost(0, 1))).rejects.toMatchObject({ code: "driver_mismatch" });
  });

  it("is loaded anew, so that its new library is taken up", async () => {
    const { path, install } = createInstallation();
    install(["nvmlDeviceGetPersistenceMode"]);
    const backend = createNvmlBackend({ clock: systemClock, names: [path] });
    const [old] = await probe(backend);
    await expect(old?.getPersistenceMode?.({})).rejects.toThrow("function symbol failed to load");
    install([]);
    const [one] = await probe(backend, lost(0, 1));
    expect(await one?.getPersistenceMode?.({})).toEqual({ enabled: false });
  });
});

describe("a driver that is found to have gone when its GPUs are counted", () => {
  it.each([1, 9, 15, 16])("(code %i) is begun anew, with all its GPUs, also those that nobody asked", async (code) => {
    const { backend, stub, gpus } = await found();
    stub.fail(`nvmlDeviceGetCount_v2=code:${code}`);
    await expect(backend.probe(lost(0))).rejects.toMatchObject({ code: "gpu_lost" });
    await expect(gpus[1]?.getPowerLimit?.({})).rejects.toMatchObject({ code: "gpu_away", status: 503 });
    stub.fail();
    const again = await probe(backend, lost(0));
    expect(again).toMatchObject([
      { id: 0, uuid: uuid(0) },
      { id: 1, uuid: uuid(1) },
    ]);
    expect(again[1]).not.toBe(gpus[1]);
    for (const gpu of again) expect(await gpu.getPowerLimit?.({})).toEqual({ power_limit_mw: 300_000 });
    expect(asked(stub, beginnings)).toEqual(begunAnew);
  });

  it("is left alone when the count fails for another reason: the other GPUs never notice", async () => {
    const { backend, stub, gpus } = await found();
    stub.fail("nvmlDeviceGetCount_v2=code:999");
    await expect(backend.probe(lost(0))).rejects.toMatchObject({ code: "driver_error" });
    expect(await gpus[1]?.getPowerLimit?.({})).toEqual({ power_limit_mw: 300_000 });
    stub.fail();
    expect((await probe(backend, lost(0)))[1]).toBe(gpus[1]);
    expect(asked(stub, beginnings)).toHaveLength(1);
  });
});

describe("an NVML that was closed", () => {
  it("refuses calls, which would kill the process in a library that is unloaded", async () => {
    const { stub } = createSubject();
    const nvml = await openNvml([stub.path]);
    await nvml.close();
    await expect(nvml.number("nvmlDeviceGetCount_v2")).rejects.toMatchObject({ code: "gpu_away" });
    expect(asked(stub, /./)).toEqual(["nvmlInit_v2 - 0 -> 0", "nvmlShutdown - -> 0"]);
  });
});

describe("a driver that counts its GPUs in another order", () => {
  it("finds each under the id that it had", async () => {
    const { backend, stub } = await found();
    stub.fail(...order(1, 0));
    const again = await probe(backend, lost(0, 1));
    expect(again).toMatchObject([
      { id: 0, uuid: uuid(0) },
      { id: 1, uuid: uuid(1) },
    ]);
    await again[0]?.setPowerLimit?.({ power_limit_mw: 200_000 });
    expect(stub.calls().at(-1)).toBe("nvmlDeviceSetPowerManagementLimit 0 200000 -> 0");
    expect(await probe(backend)).toEqual(again);
  });

  it("and has a new GPU in the place of one gives it an id that nobody had, and keeps the other's", async () => {
    const { backend, stub } = await found();
    stub.fail(...order(5, 1));
    const again = await backend.probe(lost(0, 1));
    expect(again).toMatchObject([
      { id: 0, away: { message: `NVML does not find ${uuid(0)}` } },
      { id: 1, uuid: uuid(1) },
      { id: 2, uuid: uuid(5) },
    ]);
    expect((await backend.probe(lost(0)))[2]).toBe(again[2]);
    expect(asked(stub, beginnings)).toEqual(begunAnew);
  });

  it.each([
    ["its own index when that is free", order(0, 5)],
    ["the next id that is free when its index is not", order(5, 0)],
  ])("gives a further GPU %s", async (_, rules) => {
    const { backend, stub } = createSubject();
    stub.fail("nvmlDeviceGetCount_v2=value:1");
    expect(await probe(backend)).toHaveLength(1);
    stub.fail(...rules);
    expect(await probe(backend, lost(0))).toMatchObject([
      { id: 0, uuid: uuid(0) },
      { id: 1, uuid: uuid(5) },
    ]);
  });

  it("gives the id of a GPU that never could be opened to the one that nobody has seen", async () => {
    const { backend, stub } = createSubject();
    stub.fail("nvmlDeviceGetHandleByIndex_v2@1=code:17");
    await backend.probe(nothingLost);
    stub.fail(...order(1, 0));
    expect(await probe(backend, lost(0))).toMatchObject([
      { id: 0, uuid: uuid(0) },
      { id: 1, uuid: uuid(1) },
    ]);
  });

  it("never has one GPU twice", async () => {
    const { backend, stub } = createSubject();
    stub.fail("nvmlDeviceGetHandleByIndex_v2@1=code:17");
    const [one] = await backend.probe(nothingLost);
    stub.fail(...order(0, 0));
    const again = await backend.probe(nothingLost);
    expect(again[0]).toBe(one);
    expect(again[1]).toMatchObject({ id: 1, away: { message: "The GPU at index 1 is GPU 0" } });
    stub.fail();
    expect((await probe(backend))[1]).toMatchObject({ id: 1, uuid: uuid(1) });
  });

  it("has a GPU away that may be any, until it tells its UUID", async () => {
    const { backend, stub } = await found();
    stub.fail(...order(1, 0), "nvmlDeviceGetUUID@0=code:999");
    const again = await backend.probe(lost(0, 1));
    expect(again).toMatchObject([
      { id: 0, away: { message: "NVML does not find GPU-00000000-0000-0000-0000-000000000000" } },
      { id: 1, uuid: uuid(1) },
    ]);
    stub.fail(...order(1, 0));
    const [one, other] = await probe(backend, lost(0));
    expect(one).toMatchObject({ id: 0, uuid: uuid(0) });
    expect(other).toBe(again[1]);
  });

  it("has to be believed when none of its GPUs ever tells a UUID", async () => {
    const { backend, stub } = createSubject({ omit: ["nvmlDeviceGetUUID"] });
    await probe(backend);
    expect(await probe(backend, lost(0, 1))).toMatchObject([
      { id: 0, uuid: null },
      { id: 1, uuid: null },
    ]);
    expect(asked(stub, beginnings)).toEqual(begunAnew);
  });
});
