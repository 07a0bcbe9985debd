"""`meshllm doctor`: finds out why a connection fails, step by step."""

from meshllm.doctor.check import Check, State
from meshllm.doctor.examination import Examination

__all__ = ["Check", "Examination", "State"]
