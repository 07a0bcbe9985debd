/**
 * Every error this page raises on purpose, and the codes that cross the wire.
 * The twin of meshllm/errors.py.
 *
 * MeshError                 one clear sentence for people
 * ├── ProtocolError         a frame, envelope or message broke docs/protocol.md
 * │   ├── RemoteProtocolError   the peer did it: the path or the request ends
 * │   └── LocalProtocolError    we did it: a bug
 * ├── TrustError            a signature, chain or ticket does not hold
 * ├── NotAllowed            valid, but not permitted here (carries a Code)
 * ├── PeerUnreachable       no path to a peer, or it went away
 * │   └── PeerGone              the signaling server says that it is not there
 * ├── StreamReset           one exchange ended early (carries a Code)
 * ├── NoRoute               nobody answers a question (carries an HTTP status)
 * └── ConfigError           something the user can mend
 */

/** Why a stream, path or session ended (docs/protocol.md §8). */
export const Code = {
  PROTOCOL: 1,
  VERSION: 2,
  AUTH: 3,
  REVOKED: 4,
  FORBIDDEN: 5,
  QUOTA: 6,
  BUSY: 7,
  NO_MODEL: 8,
  BACKEND: 9,
  TIMEOUT: 10,
  CANCELLED: 11,
  SLOW_READER: 12,
  GONE: 13,
  UNKNOWN_SESSION: 14,
  DRAINING: 15,
  TOO_LARGE: 16,
  CLOCK_SKEW: 17,
  INTERNAL: 18,
} as const;
export type Code = (typeof Code)[keyof typeof Code];

export function isCode(value: number): value is Code {
  return Number.isInteger(value) && value >= Code.PROTOCOL && value <= Code.INTERNAL;
}

/** A code of a later version means no more to us than that something failed. */
export function readCode(value: number): Code {
  return isCode(value) ? value : Code.INTERNAL;
}

/** Says what happened and what to do about it, in one sentence or two. */
export class MeshError extends Error {
  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

export class ProtocolError extends MeshError {}
export class RemoteProtocolError extends ProtocolError {}
export class LocalProtocolError extends ProtocolError {}
export class TrustError extends MeshError {}
export class PeerUnreachable extends MeshError {}
export class PeerGone extends PeerUnreachable {}
export class ConfigError extends MeshError {}

export class NotAllowed extends MeshError {
  readonly code: Code;

  constructor(message: string, code: Code = Code.FORBIDDEN) {
    super(message);
    this.code = code;
  }
}

/** One exchange ended before its FIN. */
export class StreamReset extends MeshError {
  readonly code: Code;
  readonly isRetryable: boolean;

  constructor(code: Code, text: string, isRetryable = false) {
    super(text);
    this.code = code;
    this.isRetryable = isRetryable;
  }
}

/**
 * No provider answers this question; `status` is the HTTP status that says why, and
 * `code` a word for programs: 404 unknown to the mesh · 503 known, but its providers are
 * away or busy · 502 the provider was lost · 504 it took too long · 403 not allowed · 413.
 */
export class NoRoute extends MeshError {
  readonly status: number;
  readonly code: string | null;
  readonly retryAfterS: number | null;

  constructor(
    status: number,
    message: string,
    code: string | null = null,
    retryAfterS: number | null = null,
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfterS = retryAfterS;
  }
}

/** The sentence of an error, whoever raised it. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
