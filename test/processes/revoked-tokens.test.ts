// Tokens that are revoked while a real daemon runs.
import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { issueToken, type Claims } from "../../src/access/token.ts";
import { actAs, type UserAnswer } from "./as-user.ts";
import { goesOn, start } from "./driven.ts";
import { countOf, createFile, createNames, health, isWell, reload, rule, startWith } from "./governed.ts";

describe("revoked tokens", () => {
  const key = "k".repeat(32);
  const bearer = async (claims: Omit<Claims, "scopes">): Promise<Record<string, string>> => {
    const token = await issueToken(Buffer.from(key), { scopes: ["gpu-read"], ...claims });
    return { authorization: `Bearer ${token}` };
  };

  it("are refused from SIGHUP on, though they were known to be good, and their streams end; others' go on", async () => {
    const revoked = createFile("revoked", "# none\n");
    const args = ["--signing-key-path", createFile("key", key), "--revoked-tokens", revoked];
    const { daemon, path } = await start({ args, settings: { NVML_STUB_POWER: "changing" } });
    const lost = await bearer({ sub: "alice", jti: "1" });
    const kept = await bearer({ sub: "alice", jti: "2" });
    const user = await actAs();
    const read = (headers: Record<string, string>): Promise<UserAnswer> =>
      user.ask(path, { target: "/gpu/get_power", headers });
    const streams = await Promise.all(
      [lost, kept].map((headers) => user.stream(path, { target: "/gpu/stream_power?gpu_ids=0", headers })),
    );
    const [lostStream, keptStream] = streams;
    await Promise.all(streams.map((stream) => stream.received(1)));
    expect([await read(lost), await read(kept)]).toMatchObject([{ status: 200 }, { status: 200 }]);

    writeFileSync(revoked, "jti 1\n");
    await reload(daemon, "revocations");
    const refused = await read(lost);
    expect(refused).toMatchObject({ status: 401, reused: true });
    expect(JSON.parse(refused.body)).toEqual({ error: "Token has been revoked.", code: "unauthenticated" });
    expect(await read(kept)).toMatchObject({ status: 200, reused: true });
    expect(await lostStream?.end).toBe("complete");
    if (keptStream) await goesOn(keptStream, 0);

    writeFileSync(revoked, "jti 1\njti 2\nsomething else\n");
    await reload(daemon, "revocations");
    expect(daemon.stderr()).toMatch(/ERROR Keeping the revocations .*line 3: 'something' is no kind of revocation/);
    expect([await read(lost), await read(kept)]).toMatchObject([{ status: 401 }, { status: 200 }]);
    expect(await health(daemon)).toEqual({
      status: "degraded",
      problems: { revocations: "The revocations file could not be read again; what it said before is in force." },
    });

    writeFileSync(revoked, "sub alice\n");
    await reload(daemon, "revocations");
    expect([await read(lost), await read(kept)]).toMatchObject([{ status: 401 }, { status: 401 }]);
    expect(await keptStream?.end).toBe("complete");
    expect(await health(daemon)).toEqual(isWell);
  });

  it("end their streams though the policy that is read again at the same time waits for the name service", async () => {
    const [names, revoked] = [createNames(), createFile("revoked", "# none\n")];
    const args = ["--signing-key-path", createFile("key", key), "--revoked-tokens", revoked];
    const forAnyone = rule("anyone", "anyone = true", ["gpu-read"]);
    const { daemon, policy, path } = await startWith(forAnyone, args, names.settings);
    const headers = await bearer({ sub: "alice", jti: "1" });
    const stream = await (await actAs()).stream(path, { target: "/gpu/stream_power?gpu_ids=0", headers });
    await stream.received(1);
    names.hang();
    writeFileSync(policy, forAnyone + rule("by name", 'users = ["slow"]', ["gpu-read"]));
    writeFileSync(revoked, "jti 1\n");
    daemon.signal("SIGHUP");
    await names.asked();
    expect(await stream.end).toBe("complete");
    expect(countOf(daemon, /Read the policy file .* it is in force/)).toBe(0);
    names.answer();
    await daemon.logged("Read the policy file");
  });
});
