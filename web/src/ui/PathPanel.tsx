/** Who carries the words: the path as it is now, and in plain words who can see what. */

import type { JSX } from "preact";
import { isRelayOnly, setRelayOnly } from "../app/remembered.ts";
import { rtt, shortKey, wayName, wayOf } from "../chat/words.ts";
import type { PathView } from "../connection.ts";
import { useWorld } from "./context.ts";
import { Dialog } from "./Dialog.tsx";
import { useConnectionState, useSeen } from "./paths.ts";

export function PathPanel(): JSX.Element {
  const { chat, face } = useWorld();
  const { provider, path, way } = useSeen();
  const { phase, problem } = useConnectionState();
  const isGateway = chat.connection.kind === "gateway";
  const me = chat.connection.me();
  const others = chat.connection
    .paths()
    .filter((other) => other.provider.id !== provider?.id);
  return (
    <Dialog
      name="path-panel"
      title="Who carries your words"
      onClose={() => (face.panel.value = null)}
    >
      <div class={`chain ${way ?? "none"}`}>
        <div class="stop">
          <b>You</b>
          <span>
            {isGateway ? `this machine${me ? `, ${me.name}` : ""}` : "this browser"}
          </span>
        </div>
        {way === "relay" && (
          <div class="stop relay">
            <b>Relay</b>
            <span>passes on sealed packets</span>
          </div>
        )}
        <div class="stop">
          <b>{provider?.name ?? "No provider yet"}</b>
          <span>{provider ? `key ${shortKey(provider.id)}` : "nobody is asked"}</span>
        </div>
      </div>

      <dl class="facts">
        <Fact name="Path" value={way === null ? "not connected yet" : wayName(way)} />
        {path?.rttMs != null && <Fact name="There and back" value={rtt(path.rttMs)} />}
        {path?.candidates && <Fact name="Your end" value={path.candidates.local} />}
        {path?.candidates && <Fact name="Their end" value={path.candidates.remote} />}
        {path && (
          <Fact
            name="Certificate"
            value={
              path.isObserved
                ? "seen, and proved by both keys"
                : "the one in the signed answer"
            }
          />
        )}
        {provider && <Fact name="Whole key" value={provider.id} isKey={true} />}
        <Fact
          name={isGateway ? "Gateway" : "Signaling"}
          value={`${chat.connection.url} · ${phase === "ready" ? "answers" : (problem ?? phase)}`}
        />
      </dl>

      {others.length > 0 && (
        <>
          <h3>Also connected</h3>
          <ul class="also">
            {others.map((other) => (
              <li key={other.provider.id}>
                <b>{other.provider.name}</b>{" "}
                <span class="key">{shortKey(other.provider.id)}</span> {alsoLine(other)}
              </li>
            ))}
          </ul>
        </>
      )}

      <h3>Who can see what</h3>
      <div class="sees">
        <See who={provider?.name ?? "The provider"} what="reads">
          Everything you write and everything the model answers: its machine runs the
          model. It also sees the address your packets come from. Choose providers as
          you choose whom to talk to.
        </See>
        <See who="The signaling server" what="reads nothing">
          That your key and a provider’s key wanted to meet, when, and from which
          address. The offers themselves are sealed: no prompt, no answer and no network
          address inside them can be read there.
        </See>
        <See
          who="A relay"
          what={way === "relay" ? "passes on, reads nothing" : "is not used now"}
        >
          If no direct way exists, or you hide your address: both addresses, how much
          and when. The packets stay encrypted from end to end; it has no key to open
          them.
        </See>
        {!isGateway && <HideAddress />}
        {isGateway && (
          <See who="Your gateway" what="is this machine">
            It holds your key, and passes your words on from memory. It writes none of
            them down.
          </See>
        )}
        <See who="This page" what="keeps for you">
          Your conversations are stored in this browser only.{" "}
          {isGateway
            ? "It came from your own gateway, on your own machine."
            : "It came from the signaling server: whoever runs that could send you another page, one that tells. If you would rather not rely on that, run meshllm gateway: it serves this page from your own machine."}
        </See>
      </div>
    </Dialog>
  );
}

/** For those who trust the server's relay with their address, and a provider not. */
function HideAddress(): JSX.Element {
  const { memory } = useWorld().face;
  const isHidden = isRelayOnly(memory);
  const change = () => {
    setRelayOnly(memory, !isHidden);
    location.reload(); // paths that are there end; answers go on by new ones
  };
  return (
    <button type="button" class="button" onClick={change}>
      {isHidden ? "Show my address to providers" : "Hide my address from providers"}
    </button>
  );
}

function alsoLine(path: PathView): string {
  const way = wayOf(path.kind, path.candidates?.remote ?? null);
  const parts = [wayName(way).toLowerCase()];
  if (path.rttMs !== null) parts.push(rtt(path.rttMs));
  return parts.join(" · ");
}

function Fact({
  name,
  value,
  isKey,
}: {
  name: string;
  value: string;
  isKey?: boolean;
}): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd class={isKey ? "key" : ""}>{value}</dd>
    </div>
  );
}

function See({
  who,
  what,
  children,
}: {
  who: string;
  what: string;
  children: JSX.Element | (string | JSX.Element)[] | string;
}): JSX.Element {
  return (
    <section>
      <h4>
        {who} <em>{what}</em>
      </h4>
      <p>{children}</p>
    </section>
  );
}
