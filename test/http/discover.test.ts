// /discover: the keys of every generation at once.
import { expect, it } from "vitest";
import { ZeusdError } from "../../src/contract/errors.ts";
import { startSubject, type SubjectOptions } from "./subject.ts";

async function discover(options: SubjectOptions = {}): Promise<Record<string, unknown>> {
  const zeusd = await startSubject("in process", options);
  const { status, type, body } = await zeusd.ask("GET /discover?ignored=1");
  expect({ status, type }).toEqual({ status: 200, type: "application/json" });
  return JSON.parse(body) as Record<string, unknown>;
}

const gpu = (id: number): object => ({
  id,
  name: `Fake GPU ${id}`,
  pci_address: `0000:4${id + 1}:00.0`,
  cumulative_energy_available: true,
  uuid: `GPU-00000000-0000-0000-0000-00000000000${id}`,
});

it("has the keys of 0.5 and later, those of 0.3 for CPUs, and the version (13.2 #23, #24)", async () => {
  expect(await discover()).toEqual({
    gpus: [gpu(0), gpu(1)],
    cpus: [
      { id: 0, dram_available: true },
      { id: 1, dram_available: false },
    ],
    enabled_api_groups: ["gpu-control", "gpu-read", "cpu-read"],
    auth_required: false,
    cpu_ids: [0, 1],
    dram_available: [true, false],
    version: "1.2.3",
  });
});

it("has gpu_ids where the GPU streams are what clients who read it expect (13.2 #24)", async () => {
  expect(await discover({ config: { gpuStreamFormat: "v1" } })).toMatchObject({
    gpu_ids: [0, 1],
    gpus: [gpu(0), gpu(1)],
  });
});

it("keeps order and duplicates of the enabled groups", async () => {
  const enabledGroups = ["cpu-read", "gpu-read", "cpu-read"] as const;
  expect(await discover({ config: { enabledGroups } })).toMatchObject({ enabled_api_groups: enabledGroups });
});

it("lists the GPUs that can be driven, with the ids that the driver gave them", async () => {
  const away = [{ id: 0, away: new ZeusdError("driver_error", "NVML error: lost") }];
  expect(await discover({ away })).toMatchObject({ gpus: [gpu(1)] });
});
