/**
 * Pairing at work: this page comes into a mesh by digits that people carry between it and
 * the owner's machine, where `meshllm pair` runs (docs/protocol.md §3.3).
 */

import { Code, MeshError, NotAllowed, TrustError } from "./errors.ts";
import type { Home } from "./home.ts";
import type { Known } from "./known.ts";
import { LATE, LIFE_S, NewcomerSide } from "./protocol/pairing.ts";
import type { Grant } from "./protocol/pairingMessages.ts";
import { unixS } from "./transport/clock.ts";
import { Mailbox } from "./transport/mailbox.ts";
import { randomBytes } from "./transport/random.ts";
import type { Admission } from "./trust/admission.ts";
import { boxKey, type PeerId } from "./trust/keys.ts";

const LAST_WORD_MS = 2_000; // for telling the owner's machine that it is over

/** The person at this page. */
export interface Screen {
  /** Six digits, to be typed on the owner's machine by then (seconds since 1970). */
  showCode(code: string, until: number): void;
  /** The two digits that the owner's machine then shows. */
  askReceipt(): Promise<string>;
}

/**
 * Comes in, in that mailbox of the hub. A failure leaves nothing but this page's own keys.
 * It ends early with the reason of `signal`.
 *
 * `isSecure` is the page's `isSecureContext`: as with a link, only guests come in over
 * plain http.
 */
export async function comeIn(
  home: Home,
  hub: string,
  number: number,
  screen: Screen,
  isSecure: boolean,
  signal: AbortSignal,
): Promise<void> {
  const { identity } = home;
  const until = unixS() + LIFE_S;
  const side = new NewcomerSide({
    key: identity.signing,
    box: boxKey(randomBytes(32)),
    nonce: randomBytes(32),
    mailbox: number,
    until,
  });
  const mailbox = await Mailbox.join(hub, number, identity);
  const late = setTimeout(
    () => mailbox.end(new NotAllowed(LATE, Code.TIMEOUT)),
    LIFE_S * 1_000,
  );
  const onAbort = () => mailbox.end(signal.reason as Error);
  signal.addEventListener("abort", onAbort);
  if (signal.aborted) onAbort();
  try {
    const known = await exchanged(side, mailbox, screen, until, hub, isSecure);
    signal.throwIfAborted();
    await home.begin(known);
    // It is ours, whether or not they hear so.
    await mailbox.send(side.accept(), LAST_WORD_MS).catch(ignored);
  } catch (error) {
    const code = error instanceof NotAllowed ? error.code : Code.PROTOCOL;
    const last = side.stop(code);
    if (last !== null) await mailbox.send(last, LAST_WORD_MS).catch(ignored);
    throw error;
  } finally {
    clearTimeout(late);
    signal.removeEventListener("abort", onAbort);
    mailbox.close();
  }
}

/** All letters up to the membership; what we know then. */
async function exchanged(
  side: NewcomerSide,
  mailbox: Mailbox,
  screen: Screen,
  until: number,
  hub: string,
  isSecure: boolean,
): Promise<Known> {
  await mailbox.send(await side.offer());
  await mailbox.send(await side.answered(await mailbox.receive(), unixS()));
  screen.showCode(side.code, until);
  const next = mailbox.receive();
  next.catch(ignored); // also when nobody waits for it any more
  const first = await Promise.race([screen.askReceipt(), next]);
  if (typeof first !== "string") return side.interrupted(first, unixS());
  await mailbox.send(await side.typeReceipt(first, unixS()));
  const { grant, admission } = await side.granted(await next, unixS());
  return begun(grant, admission, { url: hub, key: mailbox.server }, isSecure);
}

/** What we know from now on. Throws TrustError when the mesh meets at another server, and
 * NotAllowed for a place that plain http may not have. */
export function begun(
  grant: Grant,
  admission: Admission,
  hub: { readonly url: string; readonly key: PeerId },
  isSecure: boolean,
): Known {
  if (grant.server !== hub.key) {
    throw new TrustError(
      `The server at ${hub.url} is not the one that this mesh meets at: somebody else ` +
        "may have its address now.",
    );
  }
  if (!isSecure && admission.role !== "guest") {
    throw new NotAllowed(
      "This page came over plain http, where only guests may join; the owner’s machine " +
        `offered the place of a ${admission.role}. Use https, or \`meshllm pair\` there ` +
        "without `--role`.",
      Code.FORBIDDEN,
    );
  }
  return {
    mesh: admission.mesh,
    id: admission.id,
    hub: hub.url,
    hubKey: hub.key,
    chain: [grant.statement, grant.membership],
    statement: grant.statement,
    revocations: null,
  };
}

function ignored(error: unknown): void {
  if (!(error instanceof MeshError)) throw error;
}
