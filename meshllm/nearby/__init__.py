"""The LAN as one node uses it: who is there, proven; what is answered to whom."""

from meshllm.nearby.meeting import meet_owner
from meshllm.nearby.nearby import Nearby
from meshllm.nearby.report import LanReport, lan_report
from meshllm.nearby.ties import Ties

__all__ = ["LanReport", "Nearby", "Ties", "lan_report", "meet_owner"]
