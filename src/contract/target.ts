// A target: a device that a command is for, as far as it matters to who may do what.
import type { DeviceKind } from "./operations.ts";

export interface Target {
  readonly kind: DeviceKind;
  readonly id: number;
  /** For example `GPU 0`. */
  readonly name: string;
  /** What the driver calls it, for example `NVIDIA H100 80GB HBM3`. Absent for a CPU and for a GPU that has never been there. */
  readonly model?: string | undefined;
  readonly uuid?: string | null | undefined;
  readonly pci_address?: string | null | undefined;
}
