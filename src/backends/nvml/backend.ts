// Finds NVIDIA GPUs: loads NVML when it is there, opens each GPU once, and anew when it was lost; waits for none for ever.
import type { Clock } from "../../contract/clock.ts";
import { ZeusdError } from "../../contract/errors.ts";
import type { AwayGpu, Gpu, GpuBackend } from "../../contract/gpu.ts";
import { nvmlNames } from "../../native/nvml.ts";
import { isLost, isMismatch } from "./errors.ts";
import { inTurn, within } from "./patience.ts";
import { Places } from "./places.ts";
import type { Seat } from "./seat.ts";
import { createSessions } from "./session.ts";

export interface NvmlParts {
  readonly clock: Clock;
  /** Names or paths of the library, in the order in which they are tried. */
  readonly names?: readonly string[];
  /** How long the first probe waits for the driver, and for each GPU, in ms. What it does not wait for goes on. */
  readonly firstPatienceMs?: number;
  /** The same for later probes. */
  readonly patienceMs?: number;
}

export function createNvmlBackend({ clock, names = nvmlNames, ...patience }: NvmlParts): GpuBackend {
  const { patienceMs = 4_000, firstPatienceMs = patienceMs } = patience;
  let first = true;
  const sessions = createSessions(names);
  const places = new Places();

  function patiently<Result>(who: string, work: Promise<Result>): Promise<Result> {
    return within(first ? firstPatienceMs : patienceMs, clock, who, work);
  }

  /** Opens the GPUs all at once, and takes them in by index: who gets which id must not depend on who answers first. */
  async function open(seats: readonly Seat[]): Promise<ReadonlyMap<number, ZeusdError>> {
    const openings = await Promise.allSettled(seats.map((seat) => patiently(`GPU ${seat.id}`, seat.open())));
    const reasons = new Map<number, ZeusdError>();
    for (const [index, seat] of seats.entries()) {
      const opening = openings[index];
      const failure: unknown = opening?.status === "fulfilled" ? places.take(seat, opening.value) : opening?.reason;
      if (failure === undefined) continue;
      if (!(failure instanceof ZeusdError) || isMismatch(failure)) throw failure;
      places.reserve(seat.id);
      reasons.set(seat.id, failure);
    }
    return reasons;
  }

  async function look(lost: ReadonlySet<number>): Promise<readonly (Gpu | AwayGpu)[]> {
    places.close(lost);
    // While no GPU is open, nobody notices that NVML is initialised anew, and a driver that was reloaded needs it.
    const session = await patiently("NVML", places.anyOpen ? sessions.current() : sessions.renewed());
    const count = await patiently("NVML", session.count()).catch((error: unknown) => {
      // Then the driver has gone, and with it the GPUs that nobody has asked since.
      if (isLost(error)) places.closeAll();
      throw error;
    });
    const reasons = await open(session.seats(count).filter(({ place }) => !place?.close));
    return places.list(reasons);
  }

  return {
    name: "nvml",
    probe: inTurn((lost) => look(lost).finally(() => (first = false))),
  };
}
