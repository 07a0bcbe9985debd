"""The LAN: whether nodes of it can find this one by themselves."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from meshllm.doctor.check import Check, State, ok, warning
from meshllm.nearby import LanReport, lan_report

BY_HUB: Final = "the signaling server introduces peers all the same"


async def check_lan(*, has_hub: bool) -> Check:
    return judge_lan(await lan_report(), has_hub=has_hub)


def judge_lan(report: LanReport, *, has_hub: bool) -> Check:
    """With a signaling server the LAN is a shorter way, which nobody depends on."""
    facts = asdict(report)
    where = ", ".join(report.addresses)
    if report.works and (report.heard or has_hub):
        others = "1 other" if report.heard == 1 else f"{report.heard or 'no'} others"
        return ok("lan", f"{where}: multicast works, {others} heard", facts)
    text = f"{where}: {report.problem}" if where else str(report.problem)
    if has_hub:
        return Check("lan", State.SKIPPED, f"{text}; {BY_HUB}", facts=facts)
    return warning("lan", text, report.advice or "", facts)
