// Driver calls that hang: whatever they hold up, it is not another device, and not the daemon.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { createDriver } from "./driver.ts";
import { createFolder } from "./folder.ts";
import { statusOrCut } from "./http-client.ts";
import { startZeusd } from "./zeusd.ts";

const setter = "nvmlDeviceSetPowerManagementLimit";

/** A powercap tree with one CPU package. */
function createPowercap(): string {
  const root = createFolder();
  const zone = join(root, "intel-rapl:0");
  mkdirSync(zone);
  const files = { name: "package-0", energy_uj: "123456", max_energy_range_uj: "262143328850" };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(zone, name), `${text}\n`);
  return root;
}

it.each([
  ["as many workers as usual", []],
  ["one worker", ["--num-workers", "1"]],
])("the calls of 60 GPUs that hang hold up neither other GPUs nor CPUs, with %s", async (_, workers) => {
  const driver = createDriver({ gpus: 64 });
  const socket = ["--socket-path", join(createFolder(), "zeusd.sock")];
  const args = ["--allow-unprivileged", ...socket, "--powercap-root", createPowercap(), ...workers];
  const daemon = startZeusd(args, { env: driver.env });
  await daemon.listening();

  const hung = Array.from({ length: 60 }, (_gpu, id) => id);
  driver.fail(...hung.map((id) => `${setter}@${id}=hang`));
  const write = (ids: string): Promise<number | "cut"> => {
    const target = `/gpu/set_power_limit?gpu_ids=${ids}&power_limit_mw=200000&block=true`;
    return statusOrCut(daemon.request(target, { method: "POST" }));
  };
  const held = write(hung.join(","));
  await driver.called(/ hangs$/, 60);

  expect(await write("60,61,62,63")).toBe(200);
  expect((await daemon.request("/gpu/get_power?gpu_ids=60,61,62,63")).status).toBe(200);
  expect((await daemon.request("/cpu/get_cumulative_energy?cpu=true&dram=true")).body).toBe(
    '{"0":{"cpu_energy_uj":123456,"dram_energy_uj":null}}',
  );
  expect((await daemon.request("/discover")).status).toBe(200);
  const stream = await daemon.stream("/gpu/stream_power?gpu_ids=63");
  await stream.received(1);
  expect(stream.text()).toMatch(/^data: \{.*\}\n\n$/);

  driver.fail();
  expect(await held).toBe(200);
});
