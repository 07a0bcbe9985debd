/** Above the conversation: which model answers, and by which way. */

import type { JSX } from "preact";
import { rtt, type Way, wayName, wayWord } from "../chat/words.ts";
import { isNarrow, useWorld } from "./context.ts";
import { Icon } from "./icons.tsx";
import { PathGlyph } from "./PathGlyph.tsx";
import { useConnectionState, useSeen } from "./paths.ts";

export function TopBar(): JSX.Element {
  const { chat, face } = useWorld();
  return (
    <header class="top">
      <button
        type="button"
        class="icon to-sidebar"
        aria-label="Conversations"
        title="Conversations"
        onClick={() => face.toggleSidebar()}
      >
        <Icon name="side" />
      </button>
      <ModelButton />
      <span class="gap" />
      <PathButton />
      <button
        type="button"
        class="icon to-settings"
        aria-label="Instructions and options"
        title="Instructions and options"
        onClick={() => face.show("settings")}
      >
        <Icon name="sliders" />
      </button>
      <button
        type="button"
        class="icon only-narrow"
        aria-label="New conversation"
        onClick={() => chat.begin()}
      >
        <Icon name="edit" />
      </button>
    </header>
  );
}

function ModelButton(): JSX.Element {
  const { chat, face } = useWorld();
  const model = chat.model.value;
  const { model: wanted, pin } = chat.current.value;
  const pinned = model?.providers.find(({ id }) => id === pin);
  const name = model?.name ?? wanted;
  return (
    <button
      type="button"
      class="model-button"
      aria-haspopup="dialog"
      title="Choose a model"
      onClick={() => face.show("models")}
    >
      <span class="visually-hidden">Model: </span>
      <strong>{name ? name.replace(/:latest$/, "") : "No model"}</strong>
      {pinned && <span class="at">at {pinned.name}</span>}
      {!model && wanted && <span class="at">away</span>}
      <Icon name="down" size={16} />
    </button>
  );
}

function PathButton(): JSX.Element {
  const { chat, face } = useWorld();
  const { provider, path, way } = useSeen();
  const state = useConnectionState();
  const isBusy =
    chat.active.value?.phase.value === "writing" ||
    chat.active.value?.phase.value === "thinking";
  const isAway = state.phase !== "ready";
  const name = (one: Way) => (isNarrow() ? wayWord(one) : wayName(one));
  const words = way !== null ? name(way) : isAway ? "Offline" : "Not connected yet";
  return (
    <button
      type="button"
      class={`path-button ${way ?? (isAway ? "away" : "none")}`}
      aria-haspopup="dialog"
      title="Who carries your words"
      onClick={() => face.show("path")}
    >
      <PathGlyph way={way} isBusy={isBusy} />
      <span class="way">{words}</span>
      {provider && way !== null && <span class="who">{provider.name}</span>}
      {path?.rttMs != null && <span class="rtt">{rtt(path.rttMs)}</span>}
    </button>
  );
}
