"""What is said of the LAN: all there is without a signaling server, else a remark."""

from __future__ import annotations

import pytest

from meshllm.doctor.check import State
from meshllm.doctor.lan import judge_lan
from meshllm.nearby import LanReport
from meshllm.nearby.nearby import NO_ADDRESS
from meshllm.nearby.report import ALONE, BY_HAND, NOT_HEARD

HOSTS = ("192.168.1.7", "fe80::7")
FOUND = LanReport(HOSTS, works=True, heard=1)
NOBODY = LanReport(HOSTS, True, 0, ALONE, BY_HAND)
DEAF = LanReport(HOSTS, False, 0, NOT_HEARD, BY_HAND)
NOWHERE = LanReport((), False, 0, NO_ADDRESS, "connect this machine to a network")


@pytest.mark.parametrize("has_hub", [True, False])
def test_others_that_are_heard_are_well(has_hub: bool) -> None:
    check = judge_lan(FOUND, has_hub=has_hub)
    assert check.state is State.OK
    assert check.text == "192.168.1.7, fe80::7: multicast works, 1 other heard"
    assert check.facts["heard"] == 1


@pytest.mark.parametrize("report", [NOBODY, DEAF, NOWHERE])
def test_without_a_server_whatever_fails_has_an_advice(report: LanReport) -> None:
    check = judge_lan(report, has_hub=False)
    assert (check.state, check.do) == (State.WARNING, report.advice)
    assert report.problem is not None and report.problem in check.text


def test_with_a_server_nobody_else_is_no_fault() -> None:
    check = judge_lan(NOBODY, has_hub=True)
    assert check.state is State.OK
    assert check.text.endswith("multicast works, no others heard")


@pytest.mark.parametrize("report", [DEAF, NOWHERE])
def test_with_a_server_a_lan_that_does_not_work_is_a_remark(report: LanReport) -> None:
    check = judge_lan(report, has_hub=True)
    assert (check.state, check.do) == (State.SKIPPED, None)
    assert check.text.endswith("the signaling server introduces peers all the same")
    assert check.facts["works"] is False
