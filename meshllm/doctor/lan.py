"""The LAN: whether nodes of it can find this one by themselves."""

from __future__ import annotations

from dataclasses import asdict

from meshllm.doctor.check import Check, ok, warning
from meshllm.nearby import lan_report


async def check_lan() -> Check:
    report = await lan_report()
    facts = asdict(report)
    where = ", ".join(report.addresses)
    if report.problem is not None:
        text = f"{where}: {report.problem}" if where else report.problem
        return warning("lan", text, report.advice or "", facts)
    others = "1 other announcement" if report.heard == 1 else f"{report.heard} others"
    return ok("lan", f"{where}: multicast works, {others} heard", facts)
