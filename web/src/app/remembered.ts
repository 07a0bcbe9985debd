/** Small things that this browser remembers: the last model, measured speeds, the theme. */

export interface Remembered {
  get(key: string): string | null;
  set(key: string, value: string): void;
}

/** localStorage, or nothing where the browser forbids it. */
export function browserMemory(): Remembered {
  return {
    get: (key) => {
      try {
        return localStorage.getItem(`meshllm.${key}`);
      } catch {
        return null;
      }
    },
    set: (key, value) => {
      try {
        localStorage.setItem(`meshllm.${key}`, value);
      } catch {
        // It works all the same, only forgetfully.
      }
    },
  };
}

/** Whether providers shall see no address of this browser's. */
export function isRelayOnly(memory: Remembered): boolean {
  return memory.get("relayOnly") === "yes";
}

/** For the paths of the pages that are opened from now on. */
export function setRelayOnly(memory: Remembered, is: boolean): void {
  memory.set("relayOnly", is ? "yes" : "no");
}

const KEPT_MAX = 200;
const WEIGHT = 0.4; // of the newest measurement

/** Tokens per second as this browser measured them, by provider and model. */
export class Speeds {
  readonly #memory: Remembered;
  readonly #known: Map<string, number>;

  constructor(memory: Remembered) {
    this.#memory = memory;
    this.#known = new Map(readPairs(memory.get("speeds")));
  }

  of(provider: string, model: string): number | null {
    return this.#known.get(keyOf(provider, model)) ?? null;
  }

  note(provider: string, model: string, perSecond: number): void {
    const key = keyOf(provider, model);
    const before = this.#known.get(key);
    const now =
      before === undefined ? perSecond : before + WEIGHT * (perSecond - before);
    this.#known.delete(key); // the newest comes last
    this.#known.set(key, Math.round(now * 10) / 10);
    const pairs = [...this.#known].slice(-KEPT_MAX);
    this.#memory.set("speeds", JSON.stringify(pairs));
  }
}

function keyOf(provider: string, model: string): string {
  return `${provider} ${model}`;
}

function readPairs(text: string | null): [string, number][] {
  try {
    const pairs: unknown = JSON.parse(text ?? "[]");
    return Array.isArray(pairs) ? pairs.filter(isPair) : [];
  } catch {
    return [];
  }
}

function isPair(pair: unknown): pair is [string, number] {
  return (
    Array.isArray(pair) && typeof pair[0] === "string" && typeof pair[1] === "number"
  );
}
