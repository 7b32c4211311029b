"""The hub, as a small server on this machine that notes what is asked of it: which files are fetched, and that none are
where they lie in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import cases
import pytest

SHA = "5" * 40
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = {"metadata": {}, "weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}
TEXTS = {
    "config.json": json.dumps(cases.TEXT["llama_linear"] | {"architectures": ["LlamaForCausalLM"]}),
    "tokenizer.json": "{}",
    "model.safetensors.index.json": json.dumps(INDEX),
}
REST = ("README.md", "original/model.safetensors", "consolidated.safetensors", "pytorch_model.bin", "onnx/model.onnx")
FILES = {name: text.encode() for name, text in TEXTS.items()} | {name: name.encode() for name in (*SHARDS, *REST)}


class Hub(ThreadingHTTPServer):
    """One repository, org/tiny, and the files that were asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """What huggingface_hub asks: the repository, its tree, its files."""

    server: Hub

    def log_message(self, *_: object) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path == "/":
            return self.answer(b"")
        if path.startswith("/api/models/org/tiny/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(body), "oid": SHA, "lfs": None}
                for name, body in FILES.items()
            ]
            return self.answer(json.dumps(tree).encode())
        if path.startswith("/api/models/org/tiny"):
            named = [{"rfilename": name} for name in FILES]
            return self.answer(json.dumps({"id": "org/tiny", "sha": SHA, "siblings": named, "tags": []}).encode())
        _, _, file = path.partition("/resolve/")
        name = file.partition("/")[2]
        if not path.startswith("/org/tiny/") or name not in FILES:
            missing = "EntryNotFound" if path.startswith("/org/tiny/") else "RepoNotFound"
            return self.answer(b"", 404, {"X-Error-Code": missing, "X-Repo-Commit": SHA})
        if self.command == "GET":
            self.server.asked.append(name)
        tag = hashlib.sha1(FILES[name], usedforsecurity=False).hexdigest()
        return self.answer(FILES[name], 200, {"ETag": f'"{tag}"', "X-Repo-Commit": SHA})

    def answer(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def python(code: str, home: Path, hub: Hub, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs it with the hub there and a cache of its own."""
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **own, **env},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


WEIGHTS = "from vitruvius.checkpoints.sources import weights\nprint(weights('org/tiny'))"
COST = "from vitruvius.cli import main\nmain(['cost', 'org/tiny', '-c', '64'])"


def test_only_what_the_index_names_is_fetched(hub: Hub, tmp_path: Path) -> None:
    done = python(WEIGHTS, tmp_path, hub)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert sorted(set(hub.asked)) == sorted((*TEXTS, *SHARDS))
    assert len(hub.asked) == len(set(hub.asked)), "none twice"
    assert sorted(file.name for file in folder.rglob("*")) == sorted((*TEXTS, *SHARDS))
    assert (folder / SHARDS[1]).read_bytes() == FILES[SHARDS[1]]
    hub.asked.clear()
    again = python(WEIGHTS, tmp_path, hub, HF_HUB_OFFLINE="1")
    assert (again.stdout, hub.asked) == (done.stdout, []), again.stderr


def test_figures_need_the_config_only(hub: Hub, tmp_path: Path) -> None:
    done = python(COST, tmp_path, hub)
    assert "parameters" in done.stdout, done.stderr
    assert hub.asked == ["config.json"]


def test_a_repository_that_is_not_there_is_one_line(hub: Hub, tmp_path: Path) -> None:
    done = python(COST.replace("org/tiny", "org/none"), tmp_path, hub)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "org/none is neither a catalog name nor a path, and the hub did not give it" in line
