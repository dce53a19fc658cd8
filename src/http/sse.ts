// What all streams of server-sent events share.

export const sseHeaders = { "content-type": "text/event-stream", "cache-control": "no-cache" };

/** A comment that every client ignores. It keeps proxies from closing a quiet stream, and finds clients that are gone. */
export const heartbeat = ":\n\n";
export const heartbeatMs = 15_000;
