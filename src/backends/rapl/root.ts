// Where the powercap tree is.
import { access } from "node:fs/promises";
import { join } from "node:path";

/** In a container the host's tree is mounted under /zeus_sys, because /sys cannot be mounted over. */
const usualRoots = ["/zeus_sys/class/powercap/intel-rapl", "/sys/class/powercap/intel-rapl"] as const;

/** The folder that should hold `intel-rapl:N`. It need not exist. */
export async function findRoot(
  given: string | undefined,
  usual: readonly [string, string] = usualRoots,
): Promise<string> {
  if (given === undefined) return (await exists(usual[0])) ? usual[0] : usual[1];
  const inner = join(given, "intel-rapl");
  return (await exists(inner)) ? inner : given;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
