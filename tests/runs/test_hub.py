"""`push_to_hub` against a server on this machine that answers commits as the hub does; no hub is reached."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from aligntune import ConfigError, Trainer

hub = pytest.importorskip("huggingface_hub")


class Hub(ThreadingHTTPServer):
    """A server that keeps what is committed to it.

    Attributes:
        public: whether the repository is there already, for all to see.
        refusing: the status of every answer, to one who may not write.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.public = False
        self.refusing = 0
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 - the library's name

    def _answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(self.server.refusing or status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def do_GET(self) -> None:
        self._answer({"id": "me/model", "private": not self.server.public, "siblings": [], "tags": []})

    def do_POST(self) -> None:
        address, body = f"http://127.0.0.1:{self.server.server_port}/me/model", self._body()
        if self.path.endswith("/repos/create"):
            self.server.created.append(json.loads(body))
            self._answer({"url": address, "name": "me/model"}, 409 if self.server.public else 200)
        elif self.path.endswith("/validate-yaml"):
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked]
            self._answer({"files": modes})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._answer({"commitUrl": address, "commitOid": "0" * 40, "success": True})
        else:
            self._answer({}, 404)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The library's address for the hub is this server's."""
    found = Hub()
    threading.Thread(target=found.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{found.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    hub.close_session()
    yield found
    found.shutdown()
    found.server_close()
    hub.close_session()


@pytest.fixture
def trainer(start: Any) -> Trainer:
    found: Trainer = start()
    found.train()
    return found


def test_the_model_and_its_card_are_committed_at_once(server: Hub, trainer: Trainer) -> None:
    assert trainer.push_to_hub("me/model").endswith("/me/model")
    created = server.created[0]
    assert created["name"] == "model"
    assert created.get("visibility") == "private" or created.get("private") is True
    card = server.files.pop("README.md").decode()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "| trained on | rows.jsonl | 8 | " in card
    assert server.files == {p.name: p.read_bytes() for p in (trainer.run_dir / "model").iterdir()}


def test_where_an_adapters_base_lies_here_is_not_uploaded_and_that_is_told(
    server: Hub, trainer: Trainer, caplog: pytest.LogCaptureFixture
) -> None:
    config = trainer.run_dir / "model" / "adapter_config.json"
    for base, uploaded in (("/home/me/my acme/base-1", "base-1"), ("acme/base-2", "acme/base-2")):
        config.write_text(json.dumps({"base_model_name_or_path": base, "r": 8}), "utf-8")
        trainer.push_to_hub("me/model")
        assert json.loads(server.files["adapter_config.json"]) == {"base_model_name_or_path": uploaded, "r": 8}
        assert f"| base model | {uploaded} |" in server.files["README.md"].decode()
        assert json.loads(config.read_text("utf-8"))["base_model_name_or_path"] == base
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        "the adapter's base is local, and uploaded as 'base-1' without its folder: say where it is"
    ]


def test_a_private_model_is_never_put_where_all_can_see_it(server: Hub, trainer: Trainer) -> None:
    server.public = True
    with pytest.raises(ConfigError, match="this repository is there already, and is public; give another name"):
        trainer.push_to_hub("me/model")
    assert not server.files
    trainer.push_to_hub("me/model", private=False)
    assert "README.md" in server.files


def test_a_refusal_of_the_hub_is_told_with_the_remedy(server: Hub, trainer: Trainer) -> None:
    server.refusing = 401
    with pytest.raises(ConfigError, match=r"repo_id = 'me/model': the hub refuses it: .*; log in with 'hf auth login'"):
        trainer.push_to_hub("me/model")


def test_without_a_connection_that_is_said(server: Hub, trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="repo_id = 'me/model': the hub cannot be reached: "):
        trainer.push_to_hub("me/model")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.close_session()
    with pytest.raises(ConfigError, match="the hub is switched off; unset HF_HUB_OFFLINE"):
        trainer.push_to_hub("me/model")


def test_a_wrong_name_and_a_run_without_a_model_are_refused(server: Hub, trainer: Trainer, start: Any) -> None:
    with pytest.raises(ConfigError, match=r"repo_id = 'no/such/name': is no name of a repository"):
        trainer.push_to_hub("no/such/name")
    with pytest.raises(ConfigError, match="there is no saved model yet; train first"):
        start(output_dir="untrained").push_to_hub("me/model")
    assert not Path("untrained").exists()
