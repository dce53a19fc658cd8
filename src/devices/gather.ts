// Gathers the outcomes of one command on several devices.
import type { Results } from "../contract/command.ts";
import { CommandFailed, ZeusdError } from "../contract/errors.ts";
import type { Values } from "../contract/field.ts";

/** Starts `work` for all devices at once, and waits for all of them, whatever becomes of the others. */
export async function gather<Device extends { readonly id: number }>(
  devices: readonly Device[],
  work: (device: Device) => Promise<Values>,
  failed: (device: Device, error: unknown) => void,
): Promise<Results> {
  const results = new Map<number, Values>();
  const errors = new Map<number, ZeusdError>();
  const workOn = async (device: Device): Promise<void> => {
    try {
      results.set(device.id, await work(device));
    } catch (error) {
      failed(device, error);
      if (!(error instanceof ZeusdError)) throw error;
      errors.set(device.id, error);
    }
  };
  const [only] = devices;
  if (only && devices.length === 1) await workOn(only);
  else await Promise.all(devices.map(workOn));
  if (errors.size > 0) throw new CommandFailed(inOrder(errors), inOrder(results));
  return inOrder(results);
}

/** The devices answered in any order; they are shown by ascending id. */
function inOrder<Outcome>(outcomes: ReadonlyMap<number, Outcome>): ReadonlyMap<number, Outcome> {
  if (outcomes.size < 2) return outcomes;
  return new Map([...outcomes].toSorted(([one], [other]) => one - other));
}
