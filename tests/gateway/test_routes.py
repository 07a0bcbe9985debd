from __future__ import annotations

import httpx
import pytest

from tests.fakes.memory_mesh import MemoryMesh


async def test_the_root_says_what_ollama_says(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.text == "Ollama is running"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Server"] == "meshllm"


@pytest.mark.parametrize("path", ["/", "/api/version", "/api/tags", "/health"])
async def test_head_has_the_length_of_get_and_no_body(
    client: httpx.AsyncClient, path: str
) -> None:
    head = await client.head(path)
    get = await client.get(path)
    assert head.status_code == 200
    assert head.content == b""
    assert head.headers["Content-Type"] == get.headers["Content-Type"]
    if path != "/health":  # which holds the uptime
        assert head.headers["Content-Length"] == get.headers["Content-Length"]


async def test_tags_are_the_roster_newest_first(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    tags = (await client.get("/api/tags")).json()
    assert [tag["name"] for tag in tags["models"]] == [
        "hf.co/org/qwen:latest",
        "llama3.2:1b",
    ]
    assert tags["models"][1] == {
        "name": "llama3.2:1b",
        "model": "llama3.2:1b",
        "modified_at": "2026-08-01T10:00:00.123456789+02:00",
        "size": 1321098329,
        "digest": "d" * 64,
        "details": {
            "parent_model": "",
            "format": "",
            "family": "llama",
            "families": None,
            "parameter_size": "1.2B",
            "quantization_level": "",
        },
        "capabilities": ["completion", "tools"],
    }
    assert mesh.asked == []


async def test_openai_models_of_an_empty_mesh_are_an_empty_list(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    mesh.listed = []
    answer = await client.get("/v1/models")
    assert answer.json() == {"object": "list", "data": []}
    assert (await client.get("/api/tags")).json() == {"models": []}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("llama3.2:1b", "llama3.2:1b"),
        ("llama3.2%3A1b", "llama3.2:1b"),
        ("hf.co/org/qwen:latest", "hf.co/org/qwen:latest"),
        ("hf.co%2Forg%2Fqwen%3Alatest", "hf.co/org/qwen:latest"),
        ("hf.co%2forg%2fqwen", "hf.co/org/qwen"),
        ("llama3.2:1b@bob", "llama3.2:1b@bob"),
        ("llama3.2:1b%40bobbbb", "llama3.2:1b@bobbbb"),
    ],
)
async def test_one_model_is_found_however_its_name_is_encoded(
    client: httpx.AsyncClient, path: str, name: str
) -> None:
    answer = await client.get(f"/v1/models/{path}")
    assert answer.status_code == 200, answer.text
    assert answer.json()["id"] == name
    assert answer.json()["object"] == "model"


@pytest.mark.parametrize(
    "path", ["llama9", "llama3.2:1b@carl", "hf.co/org/qwen@ann", "%ff", "a%00b", "@"]
)
async def test_an_unknown_model_is_404_in_openai_shape(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(f"/v1/models/{path}")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"
    assert answer.json()["error"]["code"] == "model_not_found"


async def test_an_unknown_path_is_plain_text_as_from_ollama(
    client: httpx.AsyncClient,
) -> None:
    for path in ("/nothing", "/api/nothing", "/api/chat/", "/v1"):
        answer = await client.get(path)
        assert (answer.status_code, answer.text) == (404, "404 page not found")
        assert answer.headers["Content-Type"].startswith("text/plain")


async def test_a_wrong_method_is_plain_text_as_from_ollama(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/api/chat")
    assert (answer.status_code, answer.text) == (405, "405 method not allowed")
    assert answer.headers["Allow"] == "POST"


async def test_below_v1_unknown_paths_and_methods_are_openai_errors(
    client: httpx.AsyncClient,
) -> None:
    unknown = await client.post("/v1/files", json={})
    assert unknown.status_code == 404
    assert unknown.json()["error"]["type"] == "not_found_error"
    wrong = await client.get("/v1/chat/completions")
    assert wrong.status_code == 405
    assert wrong.json()["error"]["message"] == "405 method not allowed"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/pull"),
        ("POST", "/api/push"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/blobs/sha256:00"),
    ],
)
async def test_admin_routes_are_refused_and_say_where_to_go(
    client: httpx.AsyncClient, mesh: MemoryMesh, method: str, path: str
) -> None:
    answer = await client.request(method, path, json={"model": "llama3.2:1b"})
    assert answer.status_code == 403
    assert "provider's own machine" in answer.json()["error"]
    assert mesh.asked == []


async def test_health_tells_about_the_node(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health")
    assert answer.json()["status"] == "healthy"
    assert answer.json()["peers"] == 2
    text = await client.get("/health", headers={"Accept": "text/plain"})
    assert text.text == "OK"
    assert text.headers["Server"] == "meshllm"


async def test_ready_is_503_until_the_mesh_can_answer(
    client: httpx.AsyncClient, mesh: MemoryMesh
) -> None:
    assert (await client.get("/ready")).status_code == 200
    mesh.is_ready = False
    answer = await client.get("/ready")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "why": "No provider is present."}


async def test_every_answer_has_an_id_of_its_own(client: httpx.AsyncClient) -> None:
    paths = ("/", "/api/tags", "/nothing", "/health", "/api/pull")
    ids = {(await client.get(path)).headers["Meshllm-Request-Id"] for path in paths}
    assert len(ids) == len(paths)
