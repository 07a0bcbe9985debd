/** What this conversation asks of its model: instructions, thinking, and numbers. */

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { Settings, Think } from "../chat/types.ts";
import { NO_SETTINGS } from "../chat/types.ts";
import { useWorld } from "./context.ts";
import { Dialog } from "./Dialog.tsx";

const THINK: readonly (readonly [Think, string])[] = [
  ["auto", "Model’s own way"],
  ["off", "No"],
  ["on", "Yes"],
  ["low", "A little"],
  ["medium", "Some"],
  ["high", "A lot"],
];

interface NumberOption {
  readonly name: string;
  readonly hint: string;
  readonly step: number;
  readonly max?: number;
}

type NumberName = "temperature" | "topP" | "maxTokens" | "contextTokens" | "seed";

const NUMBERS: readonly (NumberOption & { readonly field: NumberName })[] = [
  {
    field: "temperature",
    name: "Temperature",
    hint: "0 is sober, 1 and more is bold",
    step: 0.1,
    max: 2,
  },
  {
    field: "topP",
    name: "Top-p",
    hint: "Leaves out unlikely words",
    step: 0.05,
    max: 1,
  },
  { field: "maxTokens", name: "Longest answer", hint: "Tokens", step: 1 },
  {
    field: "contextTokens",
    name: "Context",
    hint: "Tokens; the provider may allow less",
    step: 256,
  },
  { field: "seed", name: "Seed", hint: "The same seed, the same answer", step: 1 },
];

export function SettingsPanel(): JSX.Element {
  const { chat, face } = useWorld();
  const [settings, set] = useState<Settings>(chat.current.value.settings);
  const change = (by: Partial<Settings>) => {
    const next = { ...settings, ...by };
    set(next);
    void chat.set(next);
  };
  const canThink = chat.model.value?.capabilities.includes("thinking") ?? false;
  return (
    <Dialog
      name="settings"
      title="This conversation"
      onClose={() => (face.panel.value = null)}
    >
      <label class="block">
        <span>Instructions</span>
        <textarea
          rows={5}
          placeholder="Who the model shall be, what it shall know, how it shall answer"
          value={settings.system}
          onInput={(event) => change({ system: event.currentTarget.value })}
        />
        <small>
          Goes before the conversation each time. Also called the system prompt.
        </small>
      </label>
      {canThink && (
        <label class="line">
          <span>Think first</span>
          <select
            value={settings.think}
            onChange={(event) => change({ think: event.currentTarget.value as Think })}
          >
            {THINK.map(([value, name]) => (
              <option key={value} value={value}>
                {name}
              </option>
            ))}
          </select>
        </label>
      )}
      {NUMBERS.map(({ field, ...number }) => (
        <NumberField
          key={field}
          {...number}
          value={settings[field]}
          onChange={(value) => change({ [field]: value })}
        />
      ))}
      <div class="row">
        <button type="button" class="button" onClick={() => change(NO_SETTINGS)}>
          Back to the model’s own
        </button>
      </div>
    </Dialog>
  );
}

interface NumberProps extends NumberOption {
  readonly value: number | null;
  readonly onChange: (value: number | null) => void;
}

function NumberField({
  name,
  hint,
  value,
  step,
  max,
  onChange,
}: NumberProps): JSX.Element {
  return (
    <label class="line">
      <span>
        {name}
        <small>{hint}</small>
      </span>
      <input
        type="number"
        inputMode="decimal"
        min={0}
        max={max}
        step={step}
        placeholder="model’s own"
        value={value ?? ""}
        onInput={(event) => {
          const number = event.currentTarget.valueAsNumber;
          onChange(Number.isFinite(number) && number >= 0 ? number : null);
        }}
      />
    </label>
  );
}
