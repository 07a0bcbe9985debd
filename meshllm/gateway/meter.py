"""What the gateway counts: requests, how long they took, and their bytes."""

from __future__ import annotations

from aiohttp import web

from meshllm.dialects import NDJSON, SSE
from meshllm.gateway.call import Call
from meshllm.metrics import Facts, Metrics

HUNG_UP = 499


class Meter:
    """Told of each request once, at its end: nothing is counted for each token."""

    def __init__(self, facts: Facts) -> None:
        self._metrics = metrics = Metrics(facts)
        self.page = metrics.page
        self._requests = metrics.counter(
            "meshllm_requests",
            "Requests by how they ended: 2xx, 4xx, 5xx, broken (an answer that did not"
            " come to its end), left (the program hung up).",
            *("api", "status"),
        )
        self._first = metrics.seconds(
            "meshllm_first_byte_seconds",
            "From a request to the first byte of its streamed answer.",
            "api",
        )
        self._whole = metrics.seconds(
            "meshllm_answer_seconds",
            "From a request to the end of a provider's whole answer.",
            "api",
        )
        self._received = metrics.counter(
            "meshllm_request_bytes", "Bytes of requests' bodies.", "api"
        )
        self._sent = metrics.counter(
            "meshllm_answer_bytes",
            "Bytes of answers, with the heads of streams.",
            "api",
        )

    def note(self, call: Call, response: web.StreamResponse | None, now: float) -> None:
        """`response` is None when the handler was cancelled: the program hung up."""
        request, api = call.request, _api(call.path)
        self._requests.labels(api, _ending(call, response)).inc()
        self._received.labels(api).inc(request.content.total_bytes)
        self._sent.labels(api).inc(_sent(request, response))
        if response is None or "Meshllm-Provider" not in call.headers:
            return
        if response.content_type in (NDJSON, SSE) and call.first_at is not None:
            self._first.labels(api).observe(call.first_at - call.began_at)
        if response.status == 200 and not call.has_broken_off:
            self._whole.labels(api).observe(now - call.began_at)


def _api(path: str) -> str:
    if path.startswith("/api/"):
        return "ollama"
    return "openai" if path.startswith("/v1/") else "own"


def _ending(call: Call, response: web.StreamResponse | None) -> str:
    if response is None or response.status == HUNG_UP:
        return "left"
    return "broken" if call.has_broken_off else f"{response.status // 100}xx"


def _sent(request: web.BaseRequest, response: web.StreamResponse | None) -> int:
    """A response that is sent after this has its length."""
    if sent := request.writer.output_size:
        return sent
    return (response.content_length or 0) if response is not None else 0
