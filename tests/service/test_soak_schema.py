"""What the OpenAPI description allows, generated with real images: no 5xx, every error in OpenAI's shape."""

from __future__ import annotations

import base64
import io
from collections import Counter

import pytest
from edit_session import Inverter
from PIL import Image

from earl.config.service import ServiceSettings
from earl.service.edits import EditService

pytestmark = pytest.mark.long
schemathesis = pytest.importorskip("schemathesis")
hypothesis = pytest.importorskip("hypothesis")
strategies = hypothesis.strategies


@strategies.composite
def images(draw, kind: str) -> bytes:
    width, height = draw(strategies.tuples(*[strategies.integers(1, 80)] * 2))
    mode = draw(strategies.sampled_from(["RGB", "L"] if kind == "JPEG" else ["RGB", "RGBA", "L", "P"]))
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 50).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def data_url(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


schemathesis.openapi.media_type("image/png", images("PNG"))
schemathesis.openapi.media_type("image/jpeg", images("JPEG"))
schemathesis.openapi.format("data-url", images("PNG").map(data_url))


def test_whatever_is_described_is_answered(capsys):
    service = EditService(Inverter(), "tiny", ServiceSettings())
    seen: Counter[tuple[str, int]] = Counter()
    for found in schemathesis.openapi.from_asgi("/openapi.json", service.app()).get_all_operations():
        operation = found.ok()

        @hypothesis.given(case=operation.as_strategy())
        @hypothesis.settings(
            max_examples=400 if operation.method == "post" else 40,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            database=None,
            derandomize=True,
        )
        def answered(case):
            answer = case.call()
            seen[f"{case.method.lower()} {case.path}", answer.status_code] += 1
            assert answer.status_code < 500, answer.text
            if answer.status_code >= 400:
                error = answer.json()["error"]
                assert error["message"] and error["type"]

        answered()
    service.scheduler.stop()
    with capsys.disabled():
        print("\n", dict(seen))
    assert seen["post /v1/images/edits", 200] > 10, "otherwise refusals alone were tested"
