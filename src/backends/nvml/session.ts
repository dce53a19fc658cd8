// NVML from one initialisation to the next, and when it is time for the next.
import { openNvml, type OpenNvml } from "./library.ts";
import { joined } from "./patience.ts";
import { Seat } from "./seat.ts";

interface Session {
  /** How many GPUs the driver counts. */
  count(): Promise<number>;
  /** One for each index up to `count`, and for each that was counted before. */
  seats(count: number): readonly Seat[];
}

export interface Sessions {
  /** The session that there is, or else a new one. Throws a ZeusdError with the reason when it cannot be begun. */
  current(): Promise<Session>;
  /**
   * The same, but begun anew if that can be done, which finds a driver that was reloaded, and its library if that was replaced.
   * No GPU may be open. A call that hangs in the library keeps it as it is: see `OpenNvml.close`.
   */
  renewed(): Promise<Session>;
}

export function createSessions(names: readonly string[]): Sessions {
  let session: LiveSession | undefined;

  const current = joined(async () => (session ??= createSession(await openNvml(names))));
  const close = joined(async () => {
    // One that nobody has asked yet is as new as can be: its driver may have taken longer to begin than a probe waits.
    if (!session?.used() || session.busy()) return;
    await session.nvml.close();
    session = undefined;
  });
  return { current, renewed: () => close().then(current) };
}

interface LiveSession extends Session {
  readonly nvml: OpenNvml;
  busy(): boolean;
  /** Whether the driver was asked anything since it began. */
  used(): boolean;
}

function createSession(nvml: OpenNvml): LiveSession {
  const seats: Seat[] = [];
  let used = false;
  return {
    nvml,
    used: () => used,
    busy: () => nvml.inFlight > 0 || seats.some(({ busy }) => busy),
    count: joined(async () => {
      try {
        return await nvml.number("nvmlDeviceGetCount_v2");
      } finally {
        used = true;
      }
    }),
    seats(count) {
      while (seats.length < count) seats.push(new Seat(nvml, seats.length));
      return seats;
    },
  };
}
