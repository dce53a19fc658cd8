// Who may start the daemon: root, and whoever asks for nothing that needs root.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { createMissingDriver } from "./driver.ts";
import { createFolder } from "../folder.ts";
import { isRoot, ordinaryUser } from "./ordinary-user.ts";
import { refusal, startZeusd } from "./zeusd.ts";

const { as } = ordinaryUser();

function socketPath(): readonly [flag: string, path: string] {
  return ["--socket-path", join(createFolder(), "zeusd.sock")];
}

it.each([
  [[], "gpu-control"],
  [["--enable", "gpu-read,cpu-read,gpu-control"], "cpu-read"],
  [["--enable", "gpu-read", "--enable", "gpu-control"], "gpu-control"],
  [["--gpu-backend", "nvml"], "gpu-control"],
  [["--signing-key-path", "/nowhere"], "gpu-control"],
])("an ordinary user is refused `serve` with %j: it names %s, and touches nothing", async (args, group) => {
  const [flag, path] = socketPath();
  const sentence = await refusal(["serve", flag, path, ...args], { as, env: createMissingDriver().env });
  expect(sentence).toContain(`API group '${group}' requires root but Zeusd is not running as root`);
  expect(existsSync(path)).toBe(false);
});

it("an ordinary user is refused the plain form, in the words of 0.1 to 0.3", async () => {
  const { env } = createMissingDriver();
  expect(await refusal([...socketPath()], { as, env })).toContain("Zeusd must be run as root");
});

it.each([
  [["serve", "--enable", "gpu-read"]],
  [["--enable", "gpu-read"]],
  [["--allow-unprivileged"]],
  [["serve", "--sim", "2xh100"]],
  [["serve", "--gpu-backend", "sim"]],
  [["serve", "--enable", "gpu-read,cpu-read", "--powercap-root", "/nowhere"]],
])("an ordinary user may start %j", async (args) => {
  const { env } = createMissingDriver();
  const daemon = startZeusd([...args, ...socketPath()], { as, env });
  expect((await daemon.request("/gpu/get_power")).status).toBe(200);
  expect((await daemon.request("/discover")).status).toBe(200);
  daemon.signal("SIGTERM");
  expect(await daemon.exit).toEqual({ code: 0, signal: null });
});

it("root may start it with everything; another user's refusal tells how to go on", async () => {
  const { env } = createMissingDriver();
  const args = ["serve", ...socketPath()];
  if (isRoot) {
    const daemon = startZeusd(args, { env });
    expect((await daemon.request("/gpu/get_power")).status).toBe(200);
  } else {
    expect(await refusal(args, { env })).toMatch(/--enable gpu-read/);
  }
});
