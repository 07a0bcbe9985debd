/**
 * Who is there: providers whose announcements were verified, and what they offer.
 * Pure but for `decide`, which knows the mesh's newest statement and revocations.
 */

import { Code, NotAllowed } from "../errors.ts";
import type { Admission } from "../trust/admission.ts";
import {
  type Announcement,
  type ModelCard,
  readAnnouncement,
} from "../trust/announcement.ts";
import type { PeerId } from "../trust/keys.ts";
import { fullName, isSameName } from "./names.ts";

export const PROVIDERS_MAX = 256;

/** One provider as its verified announcement describes it. */
export interface Provider {
  readonly id: PeerId;
  readonly name: string;
  readonly announcement: Announcement;
  readonly admission: Admission;
}

export type Decide = (chain: readonly string[], id: PeerId) => Admission;

/** Announcements by provider; an older one never replaces a newer. */
export class Roster {
  readonly #decide: Decide;
  readonly #isConnected: (id: PeerId) => boolean;
  #providers = new Map<PeerId, Provider>();
  #unlisted = new Set<PeerId>();
  readonly #names = new Set<string>(); // of models seen since this page was loaded

  constructor(decide: Decide, isConnected: (id: PeerId) => boolean) {
    this.#decide = decide;
    this.#isConnected = isConnected;
  }

  get providers(): readonly Provider[] {
    return [...this.#providers.values()].filter((one) => this.#isThere(one.id));
  }

  get(id: PeerId): Provider | undefined {
    return this.#isThere(id) ? this.#providers.get(id) : undefined;
  }

  /** Whether a model was offered, though it may be by nobody now. */
  knows(model: string): boolean {
    return this.#names.has(fullName(model));
  }

  /** MeshError: it does not hold. */
  put(token: string): void {
    const announcement = readAnnouncement(token);
    const admission = this.#decide(announcement.chain, announcement.id);
    if (announcement.mesh !== admission.mesh) {
      throw new NotAllowed("an announcement for another mesh", Code.AUTH);
    }
    const { id } = announcement;
    const known = this.#providers.get(id);
    if (known !== undefined && known.announcement.ts > announcement.ts) return;
    if (known === undefined && this.#providers.size >= PROVIDERS_MAX) {
      throw new NotAllowed(`More than ${PROVIDERS_MAX} providers in this mesh.`);
    }
    this.#providers.set(id, { id, name: admission.name, announcement, admission });
    this.#unlisted.delete(id);
    for (const { name } of announcement.models) {
      this.#names.add(fullName(name));
    }
  }

  remove(id: PeerId): void {
    this.#providers.delete(id);
    this.#unlisted.delete(id);
  }

  /** A new list will be put. A signaling server that was restarted may not know everybody
   * yet: whoever we are connected with stays until that ends. */
  beginAgain(): void {
    const kept = [...this.#providers].filter(([id]) => this.#isConnected(id));
    this.#providers = new Map(kept);
    this.#unlisted = new Set(this.#providers.keys());
  }

  /** Something was revoked, or has ended: whom `decide` refuses now is taken out. */
  recheck(): void {
    for (const { id, announcement } of [...this.#providers.values()]) {
      try {
        this.#decide(announcement.chain, id);
      } catch {
        this.remove(id);
      }
    }
  }

  #isThere(id: PeerId): boolean {
    return !this.#unlisted.has(id) || this.#isConnected(id);
  }
}

/** The provider's entry for a name: exact, else without regard to case and tag. */
export function findModel(provider: Provider, name: string): ModelCard | undefined {
  const { models } = provider.announcement;
  return (
    models.find((model) => model.name === name) ??
    models.find((model) => isSameName(model.name, name))
  );
}

/** Those a pin means: the exact name first, then the start of an id. */
export function pinned(
  providers: readonly Provider[],
  pin: string,
): readonly Provider[] {
  const low = pin.toLowerCase();
  const named = providers.filter((one) => one.name.toLowerCase() === low);
  return named.length > 0 ? named : providers.filter((one) => one.id.startsWith(low));
}
