"""`earl verifier serve` and `earl verifier check` as a person runs them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from earl.cli import main

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")


def test_serve_then_check(capsys):
    command = [sys.executable, "-m", "earl", "verifier", "serve", "--verifier", "scene", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        url = re.search(r"http://\S+/v1", line)[0]
        assert line.startswith("earl-scene at ")
        assert main(["verifier", "check", "--judge-url", url]) == 0
        assert capsys.readouterr().out.startswith(f"earl-scene at {url}, questions v1 (")
        assert main(["verifier", "check", "--judge-url", url, "--judge-model", "other"]) == 2
        assert "'other' is not served" in capsys.readouterr().err
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=30)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["serve", "--verifier", "judge"], "--judge-url"),
        (["serve", "--verifier", "scene", "--judge-url", "http://x/v1"], "--judge-url"),
        (["serve", "--keys-env", "EARL_NO_SUCH_KEY"], "holds none"),
        (["serve", "--prompts", "no/such/folder"], "no/such/folder"),
        (["serve", "--host", ""], "--host : expected address to listen at"),
        (["check", "--judge-url", "localhost:1"], "http://"),
        (["check", "--judge-url", "http://127.0.0.1:9/v1", "--judge-retries", "0"], "not ready"),
    ],
)
def test_mistakes_are_one_sentence(words, what, capsys):
    os.environ.pop("EARL_NO_SUCH_KEY", None)
    assert main(["verifier", *words]) == 2
    said = capsys.readouterr().err
    assert what in said and said.count("\n") == 1


def _heed_interrupts():
    """A shell's background jobs ignore SIGINT, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_endpoint_that_never_answers_can_be_left(sent):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        command = [sys.executable, "-m", "earl", "verifier", "check", "--judge-url", url]
        waiting = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts
        )
        silent.settimeout(120)
        link, _ = silent.accept()
        with link:
            waiting.send_signal(sent)
            _, said = waiting.communicate(timeout=60)
    assert waiting.returncode == (130 if sent == signal.SIGINT else -signal.SIGTERM)
    assert "Traceback" not in said


def test_a_page_that_is_ended_leaves_no_folder_of_uploads(tmp_path):
    pytest.importorskip("gradio")
    environment = {k: v for k, v in os.environ.items() if k != "GRADIO_TEMP_DIR"} | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "earl", "ui", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert "/ui;" in server.stdout.readline() and list(tmp_path.glob("earl-ui-*"))
    server.send_signal(signal.SIGTERM)
    server.communicate(timeout=60)
    assert server.returncode == 143 and not list(tmp_path.glob("earl-ui-*"))
