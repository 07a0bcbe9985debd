/** The keyboard's combinations, to read. */

import type { JSX } from "preact";
import { useWorld } from "./context.ts";
import { Dialog } from "./Dialog.tsx";
import { KEYS } from "./keys.ts";

export function KeysPanel(): JSX.Element {
  const { face } = useWorld();
  return (
    <Dialog name="keys" title="Keyboard" onClose={() => (face.panel.value = null)}>
      <dl>
        {KEYS.map(([keys, does]) => (
          <div key={does}>
            <dt>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
