// What /gpu/get_state says of a GPU, as the tests of leases look at it.
import type { Setting } from "../../src/contract/operations.ts";
import type { LeaseRig } from "./lease-rig.ts";

type Fields = Readonly<Record<string, unknown>>;

interface ToldSetting {
  readonly asked: Fields | null;
  readonly set: Fields | null;
  readonly age_ms: number | null;
  readonly held_by: { readonly lease: number } | null;
}

export interface ToldGpu extends Readonly<Record<Setting, ToldSetting>> {
  readonly stale: string | null;
  readonly restoring: readonly Setting[];
}

export async function stateOfGpu(rig: LeaseRig, gpu: number): Promise<ToldGpu> {
  const { gpus } = (await rig.get(`/gpu/get_state?gpu_ids=${gpu}`)) as {
    readonly gpus: Readonly<Record<string, ToldGpu>>;
  };
  const told = gpus[gpu];
  if (!told) throw new Error(`nothing is told of GPU ${gpu}`);
  return told;
}
