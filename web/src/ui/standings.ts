/** How things are at each provider, while somebody compares them. */

import { useEffect, useMemo, useState } from "preact/hooks";
import type { Chat } from "../app/chat.ts";
import { lookAt, type Standing } from "../app/standing.ts";
import type { ListedModel } from "../connection.ts";

const AGAIN_MS = 4_000;
const ASKED_MAX = 8; // ways are made to so many; of the others only those that have one

/** By the providers' ids. `silent`: there is no way to it, or it does not say. */
export type Standings = ReadonlyMap<string, Standing | "silent">;

export function useStandings(chat: Chat, models: readonly ListedModel[]): Standings {
  const [standings, set] = useState<Standings>(new Map());
  const asked = toAsk(models).join();
  const ids = useMemo(() => asked.split(",").filter(Boolean), [asked]);
  useEffect(() => {
    const abort = new AbortController();
    const timers = new Set<ReturnType<typeof setTimeout>>();
    const look = async (id: string): Promise<void> => {
      const { signal } = abort;
      const found = await lookAt(chat.connection, id, signal).catch(
        () => "silent" as const,
      );
      if (signal.aborted) return;
      set((before) => new Map(before).set(id, found));
      if (found !== "silent") timers.add(setTimeout(() => void look(id), AGAIN_MS));
    };
    // The first time a way may have been made for it: a gateway has to be asked for that.
    for (const id of ids) void look(id).then(() => chat.connection.probe());
    return () => {
      abort.abort();
      for (const timer of timers) clearTimeout(timer);
    };
  }, [ids, chat]);
  return standings;
}

function toAsk(models: readonly ListedModel[]): string[] {
  const holders = models.flatMap(({ providers }) => providers);
  const paths = new Map(holders.map(({ id, path }) => [id, path]));
  const ids = [...paths.keys()].sort();
  return ids.filter((id, index) => index < ASKED_MAX || paths.get(id) !== null);
}
