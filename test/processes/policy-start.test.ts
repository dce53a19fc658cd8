// What a real daemon refuses to start with: policies, revocations and audit logs that it cannot use or trust.
import { chownSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { alice, rule, everything, forAlice, createFile, createPolicy, words } from "./governed.ts";
import { isRoot } from "./ordinary-user.ts";
import { refusal, startZeusd } from "./zeusd.ts";

describe("at the start", () => {
  it.each([
    ["what is no TOML", "[[rule]]\nname = = 1\n", 0o600, "line 2: "],
    ["an unknown right", rule("a", "uids = [1]", ["all"]), 0o600, 'line 4, rule.allow: there is no "all"'],
    ["nobody whom it is for", '[[rule]]\nname = "a"\nallow = ["gpu-read"]\n', 0o600, "it does not say who is meant"],
    ["nothing", "", 0o600, "there is no [[rule]]"],
    ["write access for everyone", forAlice, 0o602, "everyone can write to it; chmod o-w it"],
  ])("a policy with %s is refused in one sentence", async (_, text, mode, reason) => {
    const path = createFile("policy.toml", text, mode);
    const sentence = await refusal(words("--policy", path));
    expect(sentence).toContain(`Cannot use the policy file '${path}'`);
    expect(sentence).toContain(reason);
  });

  it("a policy that is not there is refused", async () => {
    expect(await refusal(words("--policy", "/nowhere/policy.toml"))).toContain(
      "No such file or directory (os error 2)",
    );
  });

  it("whose a policy is matters (as root: nobody else's is taken; else: root's is looked into)", async () => {
    if (isRoot) {
      for (const [flag, text] of [
        ["--policy", forAlice],
        ["--revoked-tokens", "jti x\n"],
      ] as const) {
        const path = createFile("file", text);
        chownSync(path, alice.uid, alice.gid);
        const more = ["--signing-key-path", createFile("key", "k".repeat(32)), flag, path];
        expect(await refusal(words(...more))).toContain(`it belongs to uid ${alice.uid}, who could change it`);
      }
    } else {
      expect(await refusal(words("--policy", "/etc/passwd"))).toMatch(/'\/etc\/passwd': line 1/);
    }
  });

  it.each([
    ["a kind that is none", "token abc\n", 0o600, "line 1: 'token' is no kind of revocation"],
    ["write access for everyone", "jti x\n", 0o666, "everyone can write to it"],
  ])("revoked tokens with %s are refused in one sentence", async (_, text, mode, reason) => {
    const key = createFile("key", "k".repeat(32));
    const path = createFile("revoked", text, mode);
    const sentence = await refusal(words("--signing-key-path", key, "--revoked-tokens", path));
    expect(sentence).toContain(`Cannot use the revocations file '${path}': ${reason}`);
  });

  it.each([
    [["--revoked-tokens", "/nowhere"], "give --signing-key-path as well"],
    [["--audit-required"], "give --audit-log a path, or journal"],
    [["--audit-log", "/nowhere/audit"], "Cannot write the audit log '/nowhere/audit': No such file or directory"],
    [["--audit-log", "/dev/null"], "Cannot write the audit log '/dev/null': it is no regular file"],
  ])("%j is refused in one sentence", async (args, reason) => {
    expect(await refusal(words(...args))).toContain(reason);
  });

  it("warns of rules that are for nobody", async () => {
    const policy = createPolicy(`${rule("by token", 'tokens = ["a"]', everything)}${forAlice}`);
    const args = ["--mode", "tcp", "--tcp-bind-address", "127.0.0.1:0", "--policy", policy];
    const daemon = startZeusd(["serve", "--sim", "1xh100", ...args]);
    await daemon.listening();
    expect(daemon.stderr()).toMatch(
      / WARN Rule "by token" of the policy names tokens, which nobody has without --signing-key-path/,
    );
    expect(daemon.stderr()).toMatch(/ WARN Rule "for alice" of the policy names users or groups, .* over TCP/);
  });
});
