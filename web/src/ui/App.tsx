/** The whole page. */

import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { Announcer } from "./Announcer.tsx";
import { Composer } from "./Composer.tsx";
import { useWorld, type World, WorldContext } from "./context.ts";
import { DataPanel } from "./DataPanel.tsx";
import { KeysPanel } from "./KeysPanel.tsx";
import { listenToKeys } from "./keys.ts";
import { ModelPicker } from "./ModelPicker.tsx";
import { PathPanel } from "./PathPanel.tsx";
import { SettingsPanel } from "./SettingsPanel.tsx";
import { Sidebar } from "./Sidebar.tsx";
import { Thread } from "./Thread.tsx";
import { TopBar } from "./TopBar.tsx";

export function App({ world }: { world: World }): JSX.Element {
  useEffect(() => listenToKeys(world), [world]);
  const { face } = world;
  return (
    <WorldContext.Provider value={world}>
      <a class="skip" href="#thread" onClick={skip}>
        To the conversation
      </a>
      <div class={face.isSidebarShut.value ? "page shut" : "page"}>
        <Sidebar />
        <div class="desk">
          <TopBar />
          <Thread />
          <footer class="foot">
            <Composer />
            <p class="fine">Models make mistakes. Check what matters.</p>
          </footer>
        </div>
      </div>
      <Panels />
      <ToastView />
      <Announcer />
    </WorldContext.Provider>
  );
}

function skip(event: Event): void {
  event.preventDefault(); // the address's fragment names the conversation
  document.getElementById("thread")?.focus();
}

function Panels(): JSX.Element | null {
  const { face } = useWorld();
  switch (face.panel.value) {
    case "models":
      return <ModelPicker />;
    case "path":
      return <PathPanel />;
    case "settings":
      return <SettingsPanel />;
    case "keys":
      return <KeysPanel />;
    case "data":
      return <DataPanel />;
    case null:
      return null;
  }
}

function ToastView(): JSX.Element {
  const { face } = useWorld();
  const toast = face.toast.value;
  return (
    <div class="toasts" role="status">
      {toast && (
        <p class="toast">
          {toast.text}
          {toast.action && (
            <button
              type="button"
              onClick={() => {
                toast.action?.run();
                face.quiet();
              }}
            >
              {toast.action.name}
            </button>
          )}
        </p>
      )}
    </div>
  );
}
