"""What is counted, as it is read."""

from __future__ import annotations

from meshllm import __version__
from meshllm.metrics import Fact, Metrics
from tests.fakes.scraped import scraped


def page(metrics: Metrics) -> str:
    response = metrics.page()
    assert response.content_type == "text/plain"
    assert isinstance(response.body, bytes)
    return response.body.decode()


def test_facts_of_one_name_are_one_family() -> None:
    metrics = Metrics(
        lambda: [
            Fact("meshllm_sessions", "Sessions.", 2, {"path": "host"}),
            Fact("meshllm_sessions", "Sessions.", 0, {"path": "relay"}),
            Fact("meshllm_dials_total", "Dials.", 7),
        ]
    )
    text = page(metrics)
    assert text.count("# TYPE meshllm_sessions gauge") == 1
    assert "# TYPE meshllm_dials_total counter" in text
    found = scraped(text)
    assert found["meshllm_sessions{path=host}"] == 2
    assert found["meshllm_sessions{path=relay}"] == 0
    assert found["meshllm_dials_total"] == 7
    assert found[f"meshllm_info{{version={__version__}}}"] == 1


def test_counters_and_times_are_kept() -> None:
    metrics = Metrics(tuple)
    metrics.counter("meshllm_requests", "Requests.", "api").labels("ollama").inc()
    metrics.seconds("meshllm_first_byte_seconds", "Time.").observe(0.2)
    found = scraped(page(metrics))
    assert found["meshllm_requests_total{api=ollama}"] == 1
    assert found["meshllm_first_byte_seconds_bucket{le=0.1}"] == 0
    assert found["meshllm_first_byte_seconds_bucket{le=0.25}"] == 1
    assert found["meshllm_first_byte_seconds_count"] == 1
    assert not [name for name in found if "_created" in name]


def test_two_servers_of_one_process_count_for_themselves() -> None:
    one, other = Metrics(tuple), Metrics(tuple)
    one.counter("meshllm_requests", "Requests.").inc()
    other.counter("meshllm_requests", "Requests.")
    assert scraped(page(one))["meshllm_requests_total"] == 1
    assert scraped(page(other))["meshllm_requests_total"] == 0


def test_memory_and_open_files_of_the_process_are_told() -> None:
    found = scraped(page(Metrics(tuple)))
    assert found["process_resident_memory_bytes"] > 1_000_000
    assert found["process_open_fds"] > 0
