// What a browser asks for because a page from elsewhere embeds it, over real connections.
import { expect, it } from "vitest";
import { startSubject } from "./subject.ts";

it("on loopback TCP what a page from elsewhere embeds is refused with 403, and a link to here is followed", async () => {
  const zeusd = await startSubject("over TCP");
  const from = (site: string, destination: string): Record<string, string> => ({
    "sec-fetch-site": site,
    "sec-fetch-dest": destination,
  });
  const embedded = await zeusd.ask("GET /gpu/get_power", { headers: from("cross-site", "image") });
  expect([embedded.status, JSON.parse(embedded.body)]).toEqual([
    403,
    { error: "What pages from elsewhere embed is not served; open it by itself.", code: "origin_refused" },
  ]);
  expect(zeusd.calls).toEqual([]);
  for (const headers of [from("cross-site", "document"), from("same-origin", "empty"), from("none", "document")])
    expect((await zeusd.ask("GET /gpu/get_power", { headers })).status).toBe(200);
  // A browser does not come over a Unix socket.
  const local = await startSubject("over a Unix socket");
  expect((await local.ask("GET /gpu/get_power", { headers: from("cross-site", "image") })).status).toBe(200);
});
