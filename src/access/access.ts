// Builds everything that says who may do what, from the configuration, and reads it again on request.
import type { Clock } from "../contract/clock.ts";
import type { Config } from "../contract/config.ts";
import { messageOf, StartError } from "../contract/errors.ts";
import type { Health } from "../contract/health.ts";
import type { LeaseBook } from "../contract/lease.ts";
import type { Log } from "../contract/log.ts";
import { Audit } from "./audit.ts";
import { openAuditFile } from "./audit-file.ts";
import { JournalSink, type Journal } from "./audit-journal.ts";
import { Gate } from "./gate.ts";
import type { Access } from "./guard.ts";
import { KeptFile } from "./kept-file.ts";
import type { Policy } from "./policy.ts";
import type { Names } from "./policy-file.ts";
import { parseRevocations, type Revocations } from "./revocations.ts";
import { readSigningKey } from "./signing-key.ts";
import { createTokenVerifier } from "./token.ts";

export interface AccessParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly health: Health;
  /** Who else than root may own the files. */
  readonly euid: number;
  readonly names: Names;
  /** Throws an Error if there is no journal. */
  readonly openJournal: () => Journal;
  readonly leases: LeaseBook;
}

export interface OpenAccess {
  readonly access: Access;
  /** Reads the policy and the revocations again, and opens the audit's file anew. `changed` hears when one of them is in force. */
  reload(changed: () => Promise<void>): Promise<void>;
  /** Writes down what the audit has not written yet. */
  close(): void;
}

/** Throws a StartError for a file that cannot be used. */
export async function openAccess(config: Config, parts: AccessParts): Promise<OpenAccess> {
  const { clock } = parts;
  const { tokens, revocations } = await openTokens(config, parts);
  const policyFile = await openPolicy(config, parts);
  const audit = openAudit(config, parts);
  const policy = policyFile && { policy: () => policyFile.content };
  const shared = { ...policy, ...(audit ? { audit } : {}) };
  const { leases } = parts;
  const gate = new Gate({ clock, leases, restoreOnExit: config.restoreOnExit, ...shared });
  return {
    access: { enabledGroups: config.enabledGroups, ...(tokens ? { tokens } : {}), ...shared, gate },
    async reload(changed) {
      audit?.reopen();
      // One may take its time, and the other must not wait for it.
      await Promise.all([policyFile?.reload().then(changed), revocations?.reload().then(changed)]);
    },
    close: () => audit?.close(),
  };
}

async function openTokens(
  { signingKeyPath, allowShortSigningKey, revokedTokensPath: path }: Config,
  { clock, log, health, euid }: AccessParts,
): Promise<Pick<Access, "tokens"> & { readonly revocations?: KeptFile<Revocations> }> {
  if (signingKeyPath === undefined) return {};
  const key = await readSigningKey(signingKeyPath, log, allowShortSigningKey);
  if (path === undefined) return { tokens: createTokenVerifier(key, clock) };
  const parts = { what: "revocations", path, euid, parse: parseRevocations, log, health };
  const revocations = await KeptFile.open(parts);
  return { tokens: createTokenVerifier(key, clock, () => revocations.content), revocations };
}

async function openPolicy(
  { policyPath: path, signingKeyPath, listener }: Config,
  { log, health, euid, names }: AccessParts,
): Promise<KeptFile<Policy> | undefined> {
  if (path === undefined) return undefined;
  // Only who has a policy pays for the library that reads it.
  const { readPolicy } = await import("./policy-file.ts");
  const parse = async (text: string): Promise<Policy> => {
    const policy = await readPolicy(text, names);
    for (const { name, who } of policy.rules) {
      if (who.subjects.length > 0 && signingKeyPath === undefined)
        log.warn(`Rule "${name}" of the policy names tokens, which nobody has without --signing-key-path`);
      const local = who.uids.size + who.gids.size > 0;
      if (local && listener.mode === "tcp")
        log.warn(`Rule "${name}" of the policy names users or groups, which nobody can be told by over TCP`);
    }
    return policy;
  };
  return KeptFile.open({ what: "policy", path, euid, parse, log, health });
}

function openAudit(
  { auditLog, auditRequired: required }: Config,
  { clock, log, health, euid, openJournal }: AccessParts,
): Audit | undefined {
  if (auditLog === undefined) return undefined;
  try {
    const sink = auditLog === "journal" ? new JournalSink(openJournal(), clock) : openAuditFile(auditLog, euid);
    return new Audit({ sink, clock, log, health, required });
  } catch (error) {
    const text = `Cannot write the audit log '${auditLog}': ${messageOf(error)}; give --audit-log another path, or start without it`;
    throw new StartError(text, { cause: error });
  }
}
