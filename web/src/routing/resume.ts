/** Answers that a page which is gone had asked for: put on a shelf, and taken up again. */

import { EMPTY } from "../bytes.ts";
import type { Answer, Kept } from "../connection.ts";
import { Code, MeshError } from "../errors.ts";
import { Session } from "../protocol/session.ts";
import type { Stream } from "../transport/link.ts";
import { type Origin, StreamAnswer, WENT_AWAY } from "./answer.ts";
import type { Links } from "./links.ts";
import type { Roster } from "./roster.ts";
import {
  bySession,
  EPOCHS_A_PAGE,
  type Group,
  isOf,
  type Place,
  type Running,
  type Shelf,
} from "./running.ts";

const NEVER = new AbortController().signal;
type Wanted = Readonly<Record<string, Kept>>;

/** Where an answer runs. */
export function placeOf({ provider, link, stream }: Origin): Place {
  const { id, epoch } = link.session;
  const { conn } = provider.announcement;
  return { provider: provider.id, conn, session: id, epoch, stream: stream.id };
}

/** Puts what runs on the shelf; what is returned takes it away. */
export async function keep(
  shelf: Shelf,
  key: string | undefined,
  running: Running,
): Promise<() => void> {
  if (key === undefined) return () => {};
  await shelf.keep(key, running);
  return () => void shelf.drop(key);
}

/** By their keys; what is missing is lost. */
export async function takeUp(
  wanted: Wanted,
  roster: Roster,
  links: Links,
  shelf: Shelf,
): Promise<Readonly<Record<string, Answer>>> {
  const found = await shelf.take(Object.keys(wanted));
  const groups = bySession(found).map((group) => revived(group, wanted, roster, links));
  const origins = (await Promise.all(groups)).flat();
  const answers = origins.map(async ({ key, running, origin }) => {
    const signal = wanted[key]?.signal ?? NEVER;
    const onAbort = () => origin.stream.reset(Code.CANCELLED, WENT_AWAY);
    signal.addEventListener("abort", onAbort, { once: true });
    const end = await keep(shelf, key, { ...running, ...placeOf(origin) });
    const { status, contentType } = running;
    const told = { status, contentType, timing: {}, rest: EMPTY, signal, end };
    return [key, new StreamAnswer(origin, told)] as const;
  });
  return Object.fromEntries(await Promise.all(answers));
}

interface Revived {
  readonly key: string;
  readonly running: Running;
  readonly origin: Origin;
}

/** Those of one session; none when it is lost. */
async function revived(
  group: Group,
  wanted: Wanted,
  roster: Roster,
  links: Links,
): Promise<readonly Revived[]> {
  const entries = [...group];
  const [first] = group.values();
  const provider = roster.providers.find(
    (one) => first !== undefined && isOf(first, one),
  );
  if (first === undefined || provider === undefined) return [];
  const streams = entries.map(([key, { stream, sent, head }]) => {
    return { stream, sent, received: head + (wanted[key]?.received ?? 0) };
  });
  const epoch = Math.max(...entries.map(([, running]) => running.epoch));
  const session = Session.revive(first.session, epoch + EPOCHS_A_PAGE, streams);
  try {
    const { link, taken } = await links.revive(provider, session, streams);
    return entries.map(([key, running], at) => {
      const stream = taken[at] as Stream;
      return { key, running, origin: { provider, link, stream } };
    });
  } catch (error) {
    if (error instanceof MeshError) return [];
    throw error;
  }
}
