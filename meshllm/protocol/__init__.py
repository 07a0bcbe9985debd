"""Pure: frames, session, envelopes, HELLO, signaling messages."""
