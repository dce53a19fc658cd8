// The driver as the daemon finds it at its start: absent, broken, later there after all; and what drives GPUs no daemon can yet.
import { join } from "node:path";
import { expect, it } from "vitest";
import { gpuIds, launch } from "./driven.ts";
import { createDriver, createMissingDriver } from "./driver.ts";
import { createFolder } from "../folder.ts";
import { eventually } from "./http-client.ts";
import { refusal, startZeusd } from "./zeusd.ts";

type Environment = Readonly<Record<string, string>>;

/** In the plain form, so that any user may run it. */
function words(...more: readonly string[]): readonly string[] {
  return ["--allow-unprivileged", "--socket-path", join(createFolder(), "zeusd.sock"), ...more];
}

async function refusesBackend(env: Environment): Promise<string> {
  return refusal(words("--gpu-backend", "nvml"), { env });
}

it("without the library it serves no GPUs and says why; with --gpu-backend nvml it is refused", async () => {
  const { env } = createMissingDriver();
  const daemon = startZeusd(words(), { env });
  expect(await gpuIds(daemon)).toEqual([]);
  expect((await daemon.request("/gpu/get_power")).status).toBe(200);
  expect(daemon.stderr()).toMatch(/ WARN .*No GPUs.*libnvidia-ml\.so\.1/);
  expect(await refusesBackend(env)).toContain("libnvidia-ml.so.1");
});

it("where the driver is not loaded it serves no GPUs and says why; with --gpu-backend nvml it is refused", async () => {
  const driver = createDriver();
  driver.fail("nvmlInit_v2=code:9");
  const daemon = startZeusd(words(), { env: driver.env });
  expect(await gpuIds(daemon)).toEqual([]);
  expect(daemon.stderr()).toMatch(/ WARN .*NVIDIA driver is not loaded/);
  expect(await refusesBackend(driver.env)).toContain("NVIDIA driver is not loaded");
});

it("a driver that is installed later is found without a restart", async () => {
  const driver = createMissingDriver();
  const daemon = startZeusd(words(), { env: driver.env });
  expect(await gpuIds(daemon)).toEqual([]);
  driver.install();
  await eventually(async () => (await gpuIds(daemon)).length === 2);
  expect((await daemon.request("/gpu/get_power")).status).toBe(200);
});

it("a driver that is loaded later is found without a restart", async () => {
  const { daemon, driver } = launch({ rules: ["nvmlInit_v2=code:9"] });
  expect(await gpuIds(daemon)).toEqual([]);
  driver.fail();
  await daemon.logged("All GPUs are there now");
  expect(await gpuIds(daemon)).toEqual([0, 1]);
  expect((await daemon.request("/gpu/get_power_limit")).status).toBe(200);
});

it("a GPU that cannot be opened does not keep the others from being served", async () => {
  const driver = createDriver();
  driver.fail("nvmlDeviceGetHandleByIndex_v2@0=code:15");
  const daemon = startZeusd(words("--gpu-backend", "nvml"), { env: driver.env });
  expect(await gpuIds(daemon)).toEqual([1]);
  expect(daemon.stderr()).toMatch(/ WARN .*GPU 0/);
});

it.each([
  [["--gpu-backend", "amdsmi"], "amdsmi"],
  [["--gpu-command-overrides", "/nowhere.toml"], "--gpu-command-overrides"],
  [["--sim", "2xh100", "--gpu-command-overrides", "/nowhere.toml"], "--gpu-command-overrides"],
  [["--sim", "2xh100", "--gpu-backend", "nvml"], "--sim"],
  [["--sim", "8xabacus"], "8xabacus"],
  [["--sim", "0xh100"], "0xh100"],
])("%j is refused in one sentence that names %s", async (args, named) => {
  const { env } = createMissingDriver();
  for (const form of [[], ["serve"]]) expect(await refusal([...form, ...args], { env })).toContain(named);
});
