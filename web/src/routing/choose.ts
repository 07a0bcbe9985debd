/** Which provider answers: a pure choice over what is known now. */

import type { PeerId } from "../trust/keys.ts";
import type { Provider } from "./roster.ts";

/** What we know of a provider from our own session with it. */
export interface Warmth {
  readonly isWarm: boolean;
  readonly openStreams: number;
  readonly rttS: number;
  readonly hasFailedLately: boolean;
}

/** Best first: not failing, a slot free as far as we know, connected, near. */
export function order(
  providers: readonly Provider[],
  warmth: (id: PeerId) => Warmth,
): readonly Provider[] {
  const ranked = providers.map((provider) => ({
    provider,
    rank: rank(provider, warmth),
  }));
  ranked.sort((one, other) => compare(one.rank, other.rank));
  return ranked.map(({ provider }) => provider);
}

type Rank = readonly (number | string)[];

function rank(provider: Provider, warmth: (id: PeerId) => Warmth): Rank {
  const known = warmth(provider.id);
  const parallel = Math.max(1, provider.announcement.parallel);
  return [
    Number(known.hasFailedLately),
    Math.max(0, known.openStreams - parallel + 1), // those who would wait
    Number(!known.isWarm),
    known.openStreams,
    known.rttS,
    provider.id,
  ];
}

function compare(one: Rank, other: Rank): number {
  for (const [at, mine] of one.entries()) {
    const theirs = other[at] as typeof mine;
    if (mine !== theirs) return mine < theirs ? -1 : 1;
  }
  return 0;
}
