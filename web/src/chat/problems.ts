/** Pure: what went wrong, as a sentence and as something that can be done about it. */

import type { Holder, ListedModel } from "../connection.ts";
import {
  Code,
  NoRoute,
  NotAllowed,
  PeerUnreachable,
  reason,
  StreamReset,
} from "../errors.ts";
import type { Problem, ProblemCode } from "./types.ts";

/** Of anything that `Connection.ask` or an answer of it may throw. */
export function problemOf(error: unknown): Problem {
  const text = reason(error);
  if (error instanceof NoRoute) {
    const code = byWay(text) ?? byWord(error.code) ?? byStatus(error.status);
    return { code, text, retryAfterS: error.retryAfterS };
  }
  if (error instanceof StreamReset) return plain(byWireCode(error.code), text);
  if (error instanceof NotAllowed) return plain(byWireCode(error.code), text);
  if (error instanceof PeerUnreachable)
    return plain(byWay(text) ?? "unreachable", text);
  return plain("other", text);
}

/** A provider's own refusal: an answer with an error's status. */
export function refusal(
  status: number,
  text: string,
  retryAfterS: number | null,
): Problem {
  const said = text || `The provider answered with status ${status}.`;
  if (status === 403 && /expired|ended|no longer/i.test(said))
    return plain("expired", said);
  const code = byStatus(status);
  return {
    code: code === "other" || code === "provider_lost" ? "model" : code,
    text: said,
    retryAfterS,
  };
}

function plain(code: ProblemCode, text: string): Problem {
  return { code, text, retryAfterS: null };
}

/** A provider that is there and cannot be reached: the sentence says what stands between. */
function byWay(text: string): ProblemCode | null {
  if (!text.includes("No connection")) return null;
  return /UDP\b.*\bblocked/.test(text) ? "udp_blocked" : "unreachable";
}

function byWord(code: string | null): ProblemCode | null {
  switch (code) {
    case "model_not_found":
    case "no_provider":
    case "provider_lost":
    case "timeout":
    case "too_large":
    case "forbidden":
    case "quota":
    case "expired":
    case "udp_blocked":
      return code;
    case "provider_not_found":
      return "no_provider";
    case "unavailable":
    case "busy":
      return "busy";
    case "rate_limited":
    case "quota_exceeded":
      return "quota";
    default:
      return null;
  }
}

function byStatus(status: number): ProblemCode {
  switch (status) {
    case 401:
    case 403:
      return "forbidden";
    case 404:
      return "model_not_found";
    case 413:
      return "too_large";
    case 429:
      return "quota";
    case 502:
      return "provider_lost";
    case 503:
      return "busy";
    case 504:
      return "timeout";
    default:
      return "other";
  }
}

function byWireCode(code: Code): ProblemCode {
  switch (code) {
    case Code.GONE:
    case Code.UNKNOWN_SESSION:
      return "provider_lost";
    case Code.BUSY:
    case Code.DRAINING:
      return "busy";
    case Code.FORBIDDEN:
    case Code.AUTH:
      return "forbidden";
    case Code.REVOKED:
      return "expired";
    case Code.QUOTA:
      return "quota";
    case Code.NO_MODEL:
      return "model_not_found";
    case Code.BACKEND:
      return "model";
    case Code.TIMEOUT:
      return "timeout";
    case Code.TOO_LARGE:
      return "too_large";
    default:
      return "other";
  }
}

const TITLES: Record<ProblemCode, string> = {
  provider_lost: "The provider went away",
  no_provider: "Nobody with this model is here now",
  busy: "The provider is busy",
  model_not_found: "This model is not in the mesh",
  forbidden: "Not allowed",
  quota: "Your quota is used up",
  expired: "Your invitation has ended",
  too_large: "Too much at once",
  timeout: "It took too long",
  udp_blocked: "This network blocks the way",
  unreachable: "No connection",
  model: "The model server could not answer",
  other: "That did not work",
};

const ADVICE: Partial<Record<ProblemCode, string>> = {
  no_provider:
    "It comes back by itself when its machine is on again. Another model may be there now.",
  busy: "Try again in a moment, or ask another provider.",
  model_not_found: "Choose one of the models that are there now.",
  quota: "The provider's owner sets how much you may ask for.",
  expired: "Ask whoever invited you for a new link.",
  too_large: "Leave out some files or pictures, or start a new conversation.",
  udp_blocked:
    "A relay over TCP or TLS gets through: whoever runs the signaling server can add one. Until then another network, or a phone's hotspot, will do.",
};

export function problemTitle(code: ProblemCode): string {
  return TITLES[code];
}

/** What to do, when the sentence itself does not say it; else empty. */
export function problemAdvice(code: ProblemCode): string {
  return ADVICE[code] ?? "";
}

/** Whether somebody else might answer. */
function mayAskAnother(code: ProblemCode): boolean {
  return [
    "provider_lost",
    "no_provider",
    "model_not_found",
    "busy",
    "quota",
    "timeout",
    "unreachable",
    "model",
    "other",
  ].includes(code);
}

/** Another way to an answer. */
export interface Alternative {
  readonly model: string;
  readonly provider: { readonly id: string; readonly name: string };
}

const OTHERS_MAX = 3;

/** The same model at others; where nobody else has it, another model of each of them.
 * `failed` is the provider that was asked, as far as that is known. */
export function alternatives(
  { code, text }: Problem,
  model: string,
  failed: string | null,
  models: readonly ListedModel[],
): Alternative[] {
  if (!mayAskAnother(code)) return [];
  const hasFailed = ({ id, name }: Holder) =>
    id === failed || ` ${text}`.includes(` ${name}`); // the sentence names who failed
  const at = (one: ListedModel) =>
    one.providers
      .filter((holder) => !hasFailed(holder))
      .map(({ id, name }) => ({ model: one.name, provider: { id, name } }));
  const same = models.filter(({ name }) => name === model).flatMap(at);
  if (same.length > 0) return same.slice(0, OTHERS_MAX);
  const byProvider = new Map<string, Alternative>();
  for (const one of models.flatMap(at)) {
    if (!byProvider.has(one.provider.id)) byProvider.set(one.provider.id, one);
  }
  return [...byProvider.values()].slice(0, OTHERS_MAX);
}
