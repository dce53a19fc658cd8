// Numbers of processes that are used again: whoever gets the number of a holder that has ended inherits nothing.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { describe, expect, it } from "vitest";
import { createFolder } from "../folder.ts";
import { alice, bob } from "./governed.ts";
import { eventually } from "./http-client.ts";
import type { LeaseClient } from "./lease-clients.ts";
import { base, createLeaseRig, limit, limitTarget, mostMs, whenSet, type LeaseRig } from "./lease-rig.ts";
import { canChoosePids, createPidNamespace, type PidNamespace } from "./pid-namespace.ts";
import { repository } from "./zeusd.ts";

async function expectOk(answer: Promise<{ readonly status: number; readonly body: string }>): Promise<void> {
  expect(await answer).toMatchObject({ status: 200 });
}

describe("in the journal, a number with another start than that of the process which has it now", () => {
  async function forged(): Promise<{ readonly rig: LeaseRig; readonly holder: LeaseClient }> {
    const rig = await createLeaseRig();
    await rig.start();
    const holder = await rig.clients.start(alice);
    await expectOk(holder.post("/lease/acquire?exclusive=true"));
    await expectOk(holder.post(limitTarget(0, 200_000)));
    await rig.killDaemon();
    const lines = readFileSync(rig.journalPath, "utf8").split("\n").slice(0, -1);
    const changed = lines.map((line) => {
      const json = line
        .slice("01234567 ".length)
        .replace(/"started":(\d+)/, (_, ticks) => `"started":${Number(ticks) - 1}`);
      return `${crc32(json).toString(16).padStart(8, "0")} ${json}\n`;
    });
    expect(changed.join("")).not.toBe(`${lines.join("\n")}\n`);
    writeFileSync(rig.journalPath, changed.join(""));
    return { rig, holder };
  }

  it("is a holder that has ended: a start puts back what it had changed", async () => {
    const { rig, holder } = await forged();
    await rig.start();
    expect(await whenSet(rig, 0, base)).toBeLessThan(mostMs);
    expect(await rig.leases()).toEqual([]);
    await expectOk(holder.post(limitTarget(0, 210_000)));
    await holder.kill();
    await rig.get("/time");
    expect(rig.driver.gpus()[0]).toMatchObject(limit(210_000));
  });

  it("is a holder that has ended: zeusd restore puts back what it had changed", async () => {
    const { rig } = await forged();
    expect(await rig.restore()).toMatchObject({ code: 0 });
    expect(rig.driver.gpus()[0]).toMatchObject(base);
  });
});

/** A daemon in a pid namespace, with a holder of this number. */
interface Numbered {
  readonly rig: LeaseRig;
  readonly namespace: PidNamespace;
  readonly pid: number;
  /** Starts a client of another user that has this number. */
  successor(): Promise<LeaseClient>;
  startDaemon(...words: readonly string[]): Promise<number>;
}

async function startNumbered(): Promise<Numbered> {
  const rig = await createLeaseRig();
  const namespace = createPidNamespace();
  const pid = 5_000;
  const output = join(createFolder(), "output");
  const words = [process.execPath, join(repository, "dist/zeusd.cjs")];
  const flags = ["--socket-path", rig.path, "--powercap-root", createFolder()];
  const env = { ...rig.driver.env };
  return {
    rig,
    namespace,
    pid,
    async successor() {
      await namespace.start({ words: rig.clients.words("successor", bob), pid });
      return rig.clients.arrival("successor");
    },
    async startDaemon(...form) {
      const before = answered(output);
      const daemon = await namespace.start({ words: [...words, ...form, ...flags], env, output });
      if (form[0] === "--allow-unprivileged") await eventually(() => answered(output) > before);
      return daemon;
    },
  };
}

function answered(output: string): number {
  try {
    return readFileSync(output, "utf8").split("Listening on ").length;
  } catch {
    return 1;
  }
}

/** A holder of that number, which has changed a GPU. */
async function hold({ rig, namespace, pid }: Numbered): Promise<LeaseClient> {
  await namespace.start({ words: rig.clients.words("holder", alice), pid });
  const holder = await rig.clients.arrival("holder");
  expect(holder.pid).toBe(pid);
  await expectOk(holder.post("/lease/acquire"));
  await expectOk(holder.post(limitTarget(0, 200_000)));
  return holder;
}

/** Nothing that this client writes is anybody's but its own, and no lease is its. */
async function expectNothingInherited({ rig, namespace, pid }: Numbered, successor: LeaseClient): Promise<void> {
  expect(successor.pid).toBe(pid);
  await expectOk(successor.post(limitTarget(1, 220_000)));
  expect(await rig.leases()).toEqual([]);
  await namespace.signal(pid, "SIGKILL");
  for (let time = 0; time < 5; time += 1) await rig.get("/time");
  expect(rig.driver.gpus()[1]).toMatchObject(limit(220_000));
}

// Where no numbers can be chosen, the journal above has to do.
if (canChoosePids()) {
  describe("in a pid namespace, a process with the number of a holder that has ended", () => {
    it("inherits nothing, even if it comes before the daemon has noticed the end", async () => {
      const numbered = await startNumbered();
      const { rig, namespace, pid } = numbered;
      const daemon = await numbered.startDaemon("--allow-unprivileged");
      await hold(numbered);
      await namespace.signal(daemon, "SIGSTOP");
      await namespace.signal(pid, "SIGKILL");
      const successor = await numbered.successor();
      await successor.send(limitTarget(0, 210_000));
      await namespace.signal(daemon, "SIGCONT");
      // It is no layer of the lease that ends now: it stays.
      await whenSet(rig, 0, limit(210_000));
      await eventually(async () => (await rig.leases()).length === 0);
      for (let time = 0; time < 5; time += 1) await rig.get("/time");
      expect(rig.driver.gpus()[0]).toMatchObject(limit(210_000));
      await expectNothingInherited(numbered, successor);
    });

    it("inherits nothing over a connection that it opens when the daemon has noticed the end", async () => {
      const numbered = await startNumbered();
      await numbered.startDaemon("--allow-unprivileged");
      await hold(numbered);
      await numbered.namespace.signal(numbered.pid, "SIGKILL");
      expect(await whenSet(numbered.rig, 0, base)).toBeLessThan(mostMs);
      await expectNothingInherited(numbered, await numbered.successor());
    });

    it.each(["a start", "zeusd restore and a start"])(
      "inherits nothing when the daemon was killed before, and there is %s afterwards",
      async (how) => {
        const numbered = await startNumbered();
        const { rig, namespace, pid } = numbered;
        const daemon = await numbered.startDaemon("--allow-unprivileged");
        await hold(numbered);
        await namespace.signal(daemon, "SIGKILL");
        await namespace.signal(pid, "SIGKILL");
        const successor = await numbered.successor();
        if (how !== "a start") {
          await numbered.startDaemon("restore");
          expect(await whenSet(rig, 0, base)).toBeLessThan(mostMs);
        }
        await numbered.startDaemon("--allow-unprivileged");
        expect(await whenSet(rig, 0, base)).toBeLessThan(mostMs);
        await expectNothingInherited(numbered, successor);
      },
    );
  });
}
