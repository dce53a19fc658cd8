// Asking: a request, and whose it is.
import type { Actor } from "./actor.ts";

export interface Asking {
  readonly request: {
    readonly id: string;
    readonly arrivedMs: number;
    readonly method: string;
    readonly path: string;
    /** Where it came from over TCP. */
    readonly address?: string | undefined;
  };
  readonly actor: Actor;
}
