// A client on a bare socket: it sends bytes as they are, and keeps what comes back.
import { connect, type Socket } from "node:net";
import { onTestFinished } from "vitest";

export interface BareConnection {
  readonly socket: Socket;
  /** All that has come back so far. */
  text(): string;
  readonly closed: Promise<void>;
}

/** Ends at the latest with its test. */
export function openBare(path: string, bytes: string): BareConnection {
  const socket = connect(path);
  let text = "";
  socket.on("data", (data) => (text += data.toString("latin1")));
  socket.on("error", () => {});
  const closed = new Promise<void>((resolve) => {
    socket.once("close", () => resolve());
  });
  socket.write(bytes);
  onTestFinished(() => void socket.destroy());
  return { socket, text: () => text, closed };
}
