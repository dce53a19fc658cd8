// What to try on simulated GPUs, printed for whoever starts them for the first time.
import type { Config } from "../contract/config.ts";
import type { ApiGroup } from "../contract/operations.ts";

/** Lines to paste, or nothing where the GPUs are real or tokens are needed. */
export function hints(config: Config, address: string): string {
  if (config.gpuBackend !== "sim" || config.signingKeyPath !== undefined) return "";
  const unix = config.listener.mode === "uds";
  const curl = unix ? `curl --unix-socket ${address}` : "curl";
  const base = unix ? "http://localhost" : `http://${address}`;
  const tries: readonly (readonly [group: ApiGroup, command: string])[] = [
    ["gpu-read", `${curl} ${base}/gpu/get_power`],
    ["gpu-control", `${curl} -X POST '${base}/gpu/set_persistence_mode?gpu_ids=0&enabled=true&block=true'`],
    ["gpu-read", `${curl} -N '${base}/gpu/stream_power?gpu_ids=0'`],
    ["cpu-read", `${curl} ${base}/cpu/get_power`],
  ];
  const lines = tries.filter(([group]) => config.enabledGroups.includes(group)).map(([, command]) => `  ${command}\n`);
  return `Try, in another terminal:\n${lines.join("")}`;
}
