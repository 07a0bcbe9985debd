"""Pairing at work: the files, the clock, the carriers, and what people see and type.

The rules are in `protocol/pairing.py` (docs/protocol.md §3.3). `meet` is where two
machines come together, `talk` what they then say.
"""

from meshllm.pairing.meet import come_in, is_member, let_in
from meshllm.pairing.talk import Admitted, Paired, Screen

__all__ = ["Admitted", "Paired", "Screen", "come_in", "is_member", "let_in"]
