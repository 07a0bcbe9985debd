"""A request id runs once, for ten minutes, within bounds."""

from __future__ import annotations

import pytest

from meshllm.errors import Code, StreamReset
from meshllm.provider.runs import KEPT_S, PEER_MAX, TOTAL_MAX, Runs
from meshllm.trust.keys import peer_id

ANN = peer_id(bytes(32))
BOB = peer_id(bytes([1]) * 32)


def run(runs: Runs, id: str, now: float = 0.0, peer: object = ANN) -> None:
    runs.begin(peer, id, now)  # type: ignore[arg-type]
    runs.end(peer, id, now, has_answered=True)  # type: ignore[arg-type]


def test_a_request_that_has_run_does_not_run_again() -> None:
    runs = Runs()
    run(runs, "r")
    with pytest.raises(StreamReset, match="not run twice") as refused:
        runs.begin(ANN, "r", 1.0)
    assert refused.value.code is Code.GONE
    assert not refused.value.retryable


def test_nor_while_it_runs() -> None:
    runs = Runs()
    runs.begin(ANN, "r", 0.0)
    with pytest.raises(StreamReset):
        runs.begin(ANN, "r", KEPT_S * 2)


def test_one_that_was_cancelled_before_its_first_byte_may() -> None:
    runs = Runs()
    runs.begin(ANN, "r", 0.0)
    runs.end(ANN, "r", 1.0, has_answered=False)
    runs.begin(ANN, "r", 2.0)


def test_ids_are_each_peers_own() -> None:
    runs = Runs()
    run(runs, "r")
    runs.begin(BOB, "r", 0.0)


def test_it_is_forgotten_ten_minutes_after_its_end() -> None:
    runs = Runs()
    runs.begin(ANN, "r", 0.0)
    runs.end(ANN, "r", 100.0, has_answered=True)
    with pytest.raises(StreamReset):
        runs.begin(ANN, "r", 100.0 + KEPT_S)
    runs.begin(ANN, "r", 100.1 + KEPT_S)
    assert len(runs) == 0


def test_a_peer_with_very_many_forgets_its_own_oldest() -> None:
    runs = Runs()
    run(runs, "bob's", peer=BOB)
    for n in range(PEER_MAX + 1):
        run(runs, str(n))
    assert len(runs) == PEER_MAX + 1
    runs.begin(ANN, "0", 0.0)
    for peer, id in ((ANN, "1"), (BOB, "bob's")):
        with pytest.raises(StreamReset):
            runs.begin(peer, id, 0.0)


def test_memory_is_bounded_whoever_asks() -> None:
    runs = Runs()
    run(runs, "bob's", peer=BOB)
    for who in range(2, 8):
        for n in range(PEER_MAX):
            run(runs, str(n), peer=peer_id(bytes([who]) * 32))
    assert len(runs) == TOTAL_MAX
    with pytest.raises(StreamReset):
        runs.begin(BOB, "bob's", 0.0)
