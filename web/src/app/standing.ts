/** How things are at a provider now: what is loaded there, and how many ask. */

import { asRecord } from "../chat/lines.ts";
import type { Connection, Load } from "../connection.ts";

export interface Standing {
  /** Names of models that answer without being loaded first. */
  readonly loaded: ReadonlySet<string>;
  /** Null: it does not say. */
  readonly load: Load | null;
}

const ANSWER_MAX = 256 * 1024;

/** Makes the way to it where there is none; costs its models nothing. Throws what `ask`
 * does, and SyntaxError. */
export async function lookAt(
  connection: Connection,
  provider: string,
  signal?: AbortSignal,
): Promise<Standing> {
  let load: Load | null = null;
  const answer = await connection.ask({
    method: "GET",
    path: "/api/ps",
    model: null,
    provider,
    body: new Uint8Array(),
    onLoad: (said) => {
      load = said;
    },
    ...(signal === undefined ? {} : { signal }),
  });
  let text = "";
  const decoder = new TextDecoder();
  for await (const bytes of answer) {
    text += decoder.decode(bytes, { stream: true });
    if (text.length > ANSWER_MAX) break;
  }
  const { models } = asRecord(JSON.parse(text));
  const names = (Array.isArray(models) ? models : []).map(
    (one) => asRecord(one)["name"],
  );
  return { loaded: new Set(names.map(String)), load };
}
