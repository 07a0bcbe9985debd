/** A session that another page began goes on from what that page had kept. */

import fc from "fast-check";
import { expect, test } from "vitest";
import { concat, utf8 } from "../../src/bytes.ts";
import { RemoteProtocolError } from "../../src/errors.ts";
import type { Path } from "../../src/protocol/path.ts";
import { Session } from "../../src/protocol/session.ts";
import { greetedPaths, pattern, SESSION } from "../fakes/network.ts";

const QUESTION = utf8("question");

/** Everything both say to each other, until nothing is left to say. */
function talk(
  client: Session,
  one: Path,
  provider: Session,
  other: Path,
  reads = true,
) {
  const received: Uint8Array[] = [];
  const pass = (from: Path, to: Path, session: Session) => {
    const message = from.nextMessage(0);
    if (message === null) return false;
    for (const event of session.receive(to, to.receive(message, 0))) {
      if (event.type !== "received") continue;
      if (session === client) received.push(event.data);
      if (session !== client || reads) {
        session.mux.consume(event.stream, event.data.length);
      }
    }
    return true;
  };
  while (pass(one, other, provider) || pass(other, one, client));
  return concat(received);
}

/** A provider that has been asked and has answered `size` bytes of stream 1. */
function asked(size: number): Session {
  const [one, other] = greetedPaths();
  const [client, provider] = [new Session(SESSION, true), new Session(SESSION, false)];
  client.openOn(one);
  const stream = client.mux.open();
  client.mux.write(stream, QUESTION);
  client.mux.finish(stream);
  talk(client, one, provider, other);
  provider.mux.write(stream, pattern(1, "answer", size));
  talk(client, one, provider, other, false); // the client reads, and acknowledges nothing
  provider.detach(other, 0);
  return provider;
}

test("from any byte that was kept, however far the provider had come", () => {
  const sizes = fc.tuple(
    fc.nat(60_000),
    fc.nat(60_000),
    fc.double({ min: 0, max: 1, noNaN: true }),
  );
  fc.assert(
    fc.property(sizes, ([before, after, part]) => {
      const provider = asked(before);
      const kept = Math.floor(before * part);
      const whole = concat([pattern(1, "answer", before), pattern(1, "more", after)]);
      provider.mux.write(1, whole.slice(before));
      provider.mux.finish(1);
      const streams = [{ stream: 1, sent: QUESTION.length, received: kept }];
      const revived = Session.revive(SESSION, 65_537, streams);
      const [one, other] = greetedPaths();
      revived.resumeOn(one);
      const rest = talk(revived, one, provider, other);
      expect(Buffer.compare(rest, whole.slice(kept))).toBe(0);
      expect([revived.mux.size, provider.mux.size]).toEqual([0, 0]);
      expect(provider.epoch).toBe(65_538);
    }),
  );
});

test("a question that was not sent whole is not taken for one", () => {
  const provider = asked(10);
  const streams = [{ stream: 1, sent: QUESTION.length + 1, received: 0 }];
  const revived = Session.revive(SESSION, 65_537, streams);
  const [one, other] = greetedPaths();
  revived.resumeOn(one);
  expect(() => talk(revived, one, provider, other)).toThrow(RemoteProtocolError);
});
