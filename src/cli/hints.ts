// What to try on simulated GPUs, printed for whoever starts them for the first time.
import type { Config } from "../contract/config.ts";

/** Lines to paste, or nothing where the GPUs are real or tokens are needed. */
export function hints(config: Config, address: string): string {
  if (config.gpuBackend !== "sim" || config.signingKeyPath !== undefined) return "";
  const unix = config.listener.mode === "uds";
  const curl = unix ? `curl --unix-socket ${address}` : "curl";
  const base = unix ? "http://localhost" : `http://${address}`;
  const lines = [
    "Try, in another terminal:",
    `  ${curl} ${base}/gpu/get_power`,
    `  ${curl} -X POST '${base}/gpu/set_power_limit?gpu_ids=0&power_limit_mw=300000&block=true'`,
    `  ${curl} -N '${base}/gpu/stream_power?gpu_ids=0'`,
  ];
  return `${lines.join("\n")}\n`;
}
