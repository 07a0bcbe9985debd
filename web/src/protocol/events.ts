/** What a session tells its edge. */

import type { Bytes } from "../bytes.ts";
import type { Code } from "../errors.ts";

/** READY was said: streams flow on this path. */
export interface Activated {
  readonly type: "activated";
  readonly resumed: boolean;
}
/** Provider: the client began this stream. */
export interface Opened {
  readonly type: "opened";
  readonly stream: number;
}
export interface Received {
  readonly type: "received";
  readonly stream: number;
  readonly data: Bytes;
  readonly fin: boolean;
}
/**
 * Reset by the peer, or with the session. Nothing more comes of this stream. Not said of
 * a stream whose two ways have both had their FIN: that one is complete.
 */
export interface StreamEnded {
  readonly type: "ended";
  readonly stream: number;
  readonly code: Code;
  readonly text: string;
  readonly retryable: boolean;
}
/** A writer that was told to wait may go on. */
export interface Writable {
  readonly type: "writable";
  readonly stream: number;
}
export interface Informed {
  readonly type: "informed";
  readonly stream: number;
  readonly json: Bytes;
}
export interface GoingAway {
  readonly type: "goingAway";
  readonly lastStream: number;
  readonly code: Code;
  readonly text: string;
}
/** An envelope for a new path came through this one. */
export interface Signalled {
  readonly type: "signalled";
  readonly envelope: Bytes;
}
export interface SessionClosed {
  readonly type: "closed";
  readonly code: Code;
  readonly text: string;
}

export type Event =
  | Activated
  | Opened
  | Received
  | StreamEnded
  | Writable
  | Informed
  | GoingAway
  | Signalled
  | SessionClosed;
