/** The mesh itself as a `Connection`: this page is a peer of it. */

import type {
  Answer,
  Ask,
  Connection,
  ConnectionEvent,
  ConnectionState,
  Kept,
  ListedModel,
  Me,
  PathView,
} from "./connection.ts";
import { MeshError, reason } from "./errors.ts";
import type { Home } from "./home.ts";
import {
  decideProvider,
  type Known,
  ownAdmission,
  withMembership,
  withRevocations,
  withStatement,
} from "./known.ts";
import type { Welcome } from "./protocol/signals.ts";
import { Links } from "./routing/links.ts";
import { MeshRouter } from "./routing/mesh.ts";
import { Roster } from "./routing/roster.ts";
import { unixS } from "./transport/clock.ts";
import { Introducer } from "./transport/introduce.ts";
import { randomBytes } from "./transport/random.ts";
import { isLasting, SignalingClient } from "./transport/signaling.ts";
import type { News } from "./transport/signalingSocket.ts";
import type { Admission } from "./trust/admission.ts";
import { b64decode, type PeerId } from "./trust/keys.ts";

const TICK_MS = 5_000; // round trips and paths are looked at so often

export interface MeshOptions {
  /** The peer sees no address of ours. */
  readonly isRelayOnly: boolean;
}

/** Begins to connect; `state` tells how that goes. ConfigError is the caller's to avoid:
 * `known` is what `home.known()` gave. */
export function connectMesh(
  home: Home,
  known: Known,
  options: MeshOptions = { isRelayOnly: false },
): Connection {
  return new MeshConnection(home, known, options);
}

class MeshConnection implements Connection {
  readonly kind = "mesh";
  readonly url: string;
  readonly #home: Home;
  readonly #conn = randomBytes(16);
  readonly #roster: Roster;
  readonly #links: Links;
  readonly #router: MeshRouter;
  readonly #introducer: Introducer;
  readonly #signaling: SignalingClient;
  readonly #listeners = new Set<(event: ConnectionEvent) => void>();
  readonly #tick = setInterval(() => void this.#onTick(), TICK_MS);
  #known: Known;
  #state: ConnectionState = { phase: "connecting", problem: null };

  constructor(home: Home, known: Known, options: MeshOptions) {
    this.#home = home;
    this.#known = known;
    this.url = known.hub;
    const { identity } = home;
    const conn = this.#conn;
    const decide = (chain: readonly string[], id: PeerId): Admission =>
      decideProvider(this.#known, chain, id, unixS());
    this.#roster = new Roster(decide, (id) => this.#links.peek(id) !== undefined);
    this.#introducer = new Introducer({
      identity,
      conn,
      deliver: (to, at, envelope) => this.#signaling.send(to, at, envelope),
      chain: () => this.#known.chain,
      servers: () => this.#signaling.iceServers,
      decide,
      isRelayOnly: options.isRelayOnly,
    });
    this.#links = new Links(
      (provider, signal) => this.#introducer.dial(provider.announcement, signal),
      (id) => this.#roster.get(id),
    );
    this.#links.onChange = () => {
      this.#tell("paths");
      this.#tell("models"); // each says by which path its holders are reached
    };
    this.#router = new MeshRouter(this.#roster, this.#links, home.running);
    this.#signaling = new SignalingClient({
      url: known.hub,
      server: known.hubKey,
      identity,
      conn,
      chain: () => this.#known.chain,
      handlers: {
        onWelcome: (welcome) => this.#onWelcome(welcome),
        onNews: (news) => this.#onNews(news),
        onState: (problem) => this.#onState(problem),
      },
    });
    void this.#signaling.run();
  }

  state(): ConnectionState {
    return this.#state;
  }

  me(): Me | null {
    try {
      const { id, mesh, name, role, ticket, until } = ownAdmission(
        this.#known,
        unixS(),
      );
      return { id, mesh, name, role, isProvisional: ticket !== null, until };
    } catch (error) {
      if (error instanceof MeshError) return null; // expired or revoked: state tells
      throw error;
    }
  }

  models(): readonly ListedModel[] {
    return this.#router.models();
  }

  paths(): readonly PathView[] {
    return this.#links.all.flatMap(({ provider: { id, name }, link }) => {
      const { wire } = link;
      if (wire === null) return [];
      const { kind, candidates, isObserved } = wire.carrier;
      const { rttS } = wire.path;
      const rttMs = rttS === null ? null : rttS * 1_000;
      const streams = link.load;
      return [{ provider: { id, name }, kind, rttMs, candidates, isObserved, streams }];
    });
  }

  ask(ask: Ask): Promise<Answer> {
    return this.#router.ask(ask);
  }

  async resume(
    kept: Readonly<Record<string, Kept>>,
  ): Promise<Readonly<Record<string, Answer>>> {
    await this.#untilSettled();
    return this.#router.resume(kept);
  }

  probe(): void {
    void this.#signaling.probe();
    this.#links.probe();
  }

  subscribe(listener: (event: ConnectionEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {
    clearInterval(this.#tick);
    this.#setState({ phase: "closed", problem: null });
    await this.#links.close();
    this.#signaling.close();
  }

  /** Until we are connected, or know why not. */
  #untilSettled(): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        const { phase, problem } = this.#state;
        if (phase === "connecting" && problem === null) return;
        end();
        resolve();
      };
      const end = this.subscribe(look);
      look();
    });
  }

  // What the hub tells; nothing of it is trusted before it verified

  #onWelcome(welcome: Welcome): void {
    const { statement, revocations, roster } = welcome;
    if (statement !== null) this.#learn((known) => withStatement(known, statement));
    if (revocations !== null)
      this.#learn((known) => withRevocations(known, revocations));
    this.#roster.beginAgain();
    this.#put(roster);
  }

  #onNews(news: News): void {
    switch (news.t) {
      case "roster":
        for (const id of news.left) this.#roster.remove(id);
        this.#put(news.joined);
        break;
      case "signal":
        void this.#onSignal(news.sender, news.sealed);
        break;
      case "membership": {
        const { membership, statement } = news;
        this.#learn((known) => withMembership(known, membership, statement, unixS()));
        break;
      }
      case "statement":
        this.#learn((known) => withStatement(known, news.statement));
        break;
      case "revoked":
        this.#learn((known) => withRevocations(known, news.revocations));
        break;
      case "card":
        break; // for owners' nodes, which answer it with a membership
    }
  }

  async #onSignal(sender: PeerId, sealed: string): Promise<void> {
    await ignoring(() => this.#introducer.receive(sender, b64decode(sealed)));
  }

  #put(tokens: readonly string[]): void {
    for (const token of tokens) {
      try {
        this.#roster.put(token);
      } catch (error) {
        if (!(error instanceof MeshError)) throw error; // else it is no provider of ours
      }
    }
    this.#links.onRoster();
    this.#tell("models");
  }

  /** At once here, and then in what is stored, from what other tabs have stored. */
  #learn(change: (known: Known) => Known): void {
    void ignoring(async () => {
      this.#take(change(this.#known));
      const after = await this.#home.learn(change);
      if (after !== null) this.#take(after);
    });
  }

  #take(known: Known): void {
    if (JSON.stringify(known) === JSON.stringify(this.#known)) return;
    this.#known = known;
    this.#roster.recheck();
    this.#links.closeUnless(({ id, announcement }) => {
      try {
        decideProvider(known, announcement.chain, id, unixS());
        return true;
      } catch {
        return false;
      }
    });
    this.#tell("me");
    this.#tell("models");
  }

  #onState(why: Error | null): void {
    if (this.#state.phase === "closed") return;
    if (why === null) this.#setState({ phase: "ready", problem: null });
    else {
      const phase = isLasting(why) ? "refused" : "connecting";
      this.#setState({ phase, problem: reason(why) });
    }
  }

  #setState(state: ConnectionState): void {
    this.#state = state;
    this.#tell("state");
  }

  async #onTick(): Promise<void> {
    await Promise.all(this.#links.all.map(({ link }) => link.wire?.carrier.refresh()));
    this.#tell("paths");
  }

  #tell(event: ConnectionEvent): void {
    for (const listener of [...this.#listeners]) listener(event);
  }
}

/** Strangers' rubbish is dropped, never raised. */
async function ignoring(act: () => Promise<unknown>): Promise<void> {
  try {
    await act();
  } catch (error) {
    if (!(error instanceof MeshError)) throw error;
  }
}
