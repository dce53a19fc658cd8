// What an attacker on the socket and an operator at night have found: none of it happens any more.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync, writeFileSync } from "node:fs";
import { describe, expect, it, onTestFinished } from "vitest";
import { setter } from "./driven.ts";
import { alice } from "./governed.ts";
import { eventually } from "./http-client.ts";
import { base, createLeaseRig, limit, limitTarget, whenSet } from "./lease-rig.ts";
import { isRoot } from "./ordinary-user.ts";

/** Others cannot become somebody else, and have no such children. */
const onlyRoot: typeof it | (() => void) = isRoot ? it : () => {};

describe("an orderly stop", () => {
  it.each(["SIGTERM", "SIGINT"] as const)("by %s puts back every GPU, each with a lease of its own", async (signal) => {
    const rig = await createLeaseRig({ gpus: 4 });
    await rig.start();
    for (let gpu = 0; gpu < 4; gpu += 1) {
      const holder = await rig.clients.start(alice);
      expect((await holder.post(`/lease/acquire?gpu_ids=${gpu}`)).status).toBe(200);
      expect((await holder.post(limitTarget(gpu, 200_000))).status).toBe(200);
    }
    // A driver that takes its time, as real ones do.
    rig.driver.fail(`${setter}=delay:100`);
    rig.daemon().signal(signal);
    expect(await rig.daemon().exit).toMatchObject({ code: 0 });
    expect(rig.driver.gpus()).toMatchObject([base, base, base, base]);
  });
});

it("a write that is all or nothing, and succeeds on one GPU long after it was given up, is undone there", async () => {
  const rig = await createLeaseRig({ args: ["--device-timeout-ms", "400"] });
  await rig.start();
  rig.driver.fail(`${setter}@1=hang`);
  const target = "/gpu/set_power_limit?gpu_ids=0,1&power_limit_mw=200000&block=true&atomic=true";
  expect((await rig.post(target)).status).toBe(504);
  await rig.daemon().logged("GPU 1 is stuck");
  rig.driver.fail();
  await rig.daemon().logged("GPU 1 works again");
  await whenSet(rig, 0, base);
  await whenSet(rig, 1, base);
});

it("a process that has a connection of one that ended is told to connect anew, and changes nothing", async () => {
  const rig = await createLeaseRig({ args: ["--restore-on-exit"] });
  await rig.start();
  // The shell connects nothing itself: python opens the connection, forks, and its child writes when it is gone.
  const script = `
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
parent = os.getpid()
if os.fork(): os._exit(0)
while os.getppid() == parent: time.sleep(0.01)
s.sendall(b"POST ${limitTarget(0, 200_000)} HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n")
text = b""
while True:
  part = s.recv(65536)
  if not part: break
  text += part
print(text.decode().split("\\r\\n")[0], text.decode().split("\\r\\n\\r\\n")[1])
`;
  const child = spawn("python3", ["-c", script, rig.path], { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
  await once(child.stdout, "close");
  expect(said).toMatch(/^HTTP\/1\.1 403 .*"The process that opened this connection has ended/);
  expect(rig.driver.gpus()[0]).toMatchObject(base);
});

it("an exclusive lease is given when what others had asked for before is done, and not on a GPU that does not get there", async () => {
  const rig = await createLeaseRig({ args: ["--device-timeout-ms", "1000"] });
  await rig.start();
  const [other, holder] = [await rig.clients.start(alice), await rig.clients.start(alice)];
  rig.driver.fail(`${setter}@0=delay:20`);
  for (let at = 0; at < 10; at += 1) {
    await other.post(`/gpu/set_power_limit?gpu_ids=0&power_limit_mw=${210_000 + at}&block=false`);
  }
  expect((await holder.post("/lease/acquire?gpu_ids=0&exclusive=true")).status).toBe(200);
  expect(rig.driver.gpus()[0]).toMatchObject(limit(210_009));
  expect((await holder.post(limitTarget(0, 250_000))).status).toBe(200);
  expect(rig.driver.gpus()[0]).toMatchObject(limit(250_000));
  rig.driver.fail(`${setter}@1=hang`);
  await other.post("/gpu/set_power_limit?gpu_ids=1&power_limit_mw=200000&block=false");
  expect((await holder.post("/lease/acquire?gpu_ids=1&exclusive=true")).status).toBeGreaterThanOrEqual(503);
  expect((await rig.leases()).map(({ gpu_ids }) => gpu_ids)).toEqual([[0]]);
  rig.driver.fail();
});

onlyRoot("a child that has become another user cannot release its ancestor's lease by its number", async () => {
  const rig = await createLeaseRig();
  await rig.start();
  const words = rig.clients.words("stranger", alice);
  const script = `
import http.client, json, os, socket, subprocess, sys
class C(http.client.HTTPConnection):
  def connect(self):
    self.sock = socket.socket(socket.AF_UNIX); self.sock.connect(sys.argv[1])
c = C("x"); c.request("POST", "/lease/acquire?exclusive=true"); print(json.loads(c.getresponse().read())["lease"], flush=True)
subprocess.run(json.loads(sys.argv[2]))
`;
  const child = spawn("python3", ["-c", script, rig.path, JSON.stringify(words)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const [first] = (await once(child.stdout, "data")) as [Buffer];
  const stranger = await rig.clients.arrival("stranger");
  expect((await stranger.post(`/lease/release?lease=${first.toString().trim()}`)).status).toBe(403);
  expect((await stranger.post(limitTarget(0, 210_000))).status).toBe(200);
  await stranger.kill();
});

describe("the state directory", () => {
  it("that somebody removes is missed: what could not be put back is refused until it is there again", async () => {
    const rig = await createLeaseRig({ args: ["--drift-check-s", "1"] });
    await rig.start();
    const holder = await rig.clients.start(alice);
    await holder.post("/lease/acquire");
    rmSync(rig.stateDir, { recursive: true });
    await rig.daemon().logged("The journal of leases was moved or removed");
    expect((await holder.post(limitTarget(0, 200_000))).status).toBe(503);
    expect(JSON.stringify(await rig.get("/healthz"))).toContain("journal");
    expect(rig.driver.gpus()[0]).toMatchObject(base);
  });

  it("with a damaged journal makes zeusd restore say so, and end with 1", async () => {
    const rig = await createLeaseRig();
    await rig.start();
    const holder = await rig.clients.start(alice);
    await holder.post("/lease/acquire");
    await holder.post(limitTarget(0, 200_000));
    await rig.killDaemon();
    await holder.kill();
    writeFileSync(rig.journalPath, "not a journal\nat all\n", { mode: 0o600 });
    const { code, stdout, stderr } = await rig.restore();
    expect([code, stdout]).toEqual([1, expect.stringContaining("set by hand what should be")]);
    expect(stderr).toContain("Cannot use the journal of leases");
    expect(rig.driver.gpus()[0]).toMatchObject(limit(200_000));
  });
});

it("a driver that says that it failed, and has set the value all the same, is told again what another lease wants", async () => {
  const rig = await createLeaseRig();
  await rig.start();
  const [one, other] = [await rig.clients.start(alice), await rig.clients.start(alice)];
  await one.post("/lease/acquire?gpu_ids=0");
  await other.post("/lease/acquire?gpu_ids=0");
  await one.post(limitTarget(0, 250_000));
  const before = rig.driver.calls().filter((call) => call.startsWith(`${setter} 0 250000`)).length;
  rig.driver.fail(`${setter}@0=code:999`);
  expect((await other.post(limitTarget(0, 350_000))).status).toBe(500);
  rig.driver.fail();
  await eventually(() => rig.driver.calls().filter((call) => call.startsWith(`${setter} 0 250000`)).length > before);
  await whenSet(rig, 0, limit(250_000));
});
