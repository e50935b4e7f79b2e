"""The edit service over HTTP, with the official client and a session whose edits are inverted sources."""

from __future__ import annotations

import base64
import io
import json
import re
import time
from pathlib import Path

import openai
import pytest
from edit_session import Inverter, client, png, serving
from PIL import Image

from earl.records import Verdict
from earl.vision.images import target_size

JSON = {"content-type": "application/json"}

try:  # the HTTP library that the installed client brings
    import httpx2 as httpx
except ImportError:
    import httpx


@pytest.fixture(scope="module")
def running():
    with serving() as (service, url):
        yield service, url


def opened(b64):
    return Image.open(io.BytesIO(base64.b64decode(b64)))


def test_the_official_client_edits(running):
    _, url = running
    answer = client(url).images.edit(image=png(), prompt="invert it", n=3, extra_body={"seed": 7})
    assert [item.seed for item in answer.data] == [7, 8, 9]
    for item in answer.data:
        image = opened(item.b64_json)
        assert image.format == "PNG" and image.size == (40, 24)
        assert image.getpixel((3, 3)) == (245, 55, 225)
    assert answer.size == "40x24" and answer.output_format == "png" and answer.background == "opaque"
    assert answer.usage.input_tokens == 71 and answer.usage.output_tokens == 30
    assert answer.usage.total_tokens == 101 and answer.usage.input_tokens_details.image_tokens == 66


def test_a_list_of_one_image_and_other_formats(running):
    _, url = running
    for fmt in ("jpeg", "webp"):
        answer = client(url).images.edit(
            image=[png(fmt="JPEG")], prompt="invert", output_format=fmt, output_compression=80
        )
        assert opened(answer.data[0].b64_json).format == fmt.upper()
    with pytest.raises(openai.BadRequestError, match="exactly one") as caught:
        client(url).images.edit(image=[png(), png()], prompt="invert")
    assert caught.value.param == "image" and caught.value.code == "invalid_number_of_images"


def test_images_carry_their_provenance_unless_told_not_to(running):
    def stored(url, fmt):
        answer = client(url).images.edit(
            image=png(), prompt="invert", n=2, output_format=fmt, extra_body={"seed": 7}
        )
        image = opened(answer.data[1].b64_json)
        return image.text.get("Description") if fmt == "png" else image.getexif().get(0x010E)

    for fmt in ("png", "jpeg", "webp"):
        made = json.loads(stored(running[1], fmt))
        assert made["model"] == "tiny" and made["seed"] == 8 and len(made["instruction_sha256"]) == 64
    with serving(settings={"provenance": False}) as (_, url):
        assert [stored(url, fmt) for fmt in ("png", "jpeg", "webp")] == [None] * 3


def test_json_with_data_urls(running):
    _, url = running
    data = "data:image/png;base64," + base64.b64encode(png()).decode()
    for body in ({"image": data}, {"image": [data]}, {"images": [{"image_url": data}]}):
        answer = httpx.post(f"{url}/images/edits", json={"prompt": "invert", "seed": 1, **body})
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"][0]["seed"] == 1
    answer = httpx.post(f"{url}/images/edits", json={"prompt": "x", "image": "http://localhost/x.png"})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_image_url"


def test_what_the_model_lacks_is_a_warning_in_the_answer(running):
    _, url = running
    for prompt, warnings in (("invert the dragon", ["it never saw a dragon"]), ("invert it", [])):
        answer = client(url).images.edit(image=png(), prompt=prompt)
        assert answer.warnings == warnings
        *_, last = client(url).images.edit(image=png(), prompt=prompt, stream=True)
        assert last.warnings == warnings


def test_an_image_that_was_given_back_is_told(running):
    _, url = running
    for prompt, same in (("invert it", False), ("leave it", True)):
        answer = client(url).images.edit(image=png(), prompt=prompt, n=2, extra_body={"seed": 7})
        assert [item.unchanged for item in answer.data] == [same, same]
        assert [told[:31] for told in answer.warnings] == ["nothing was changed (seed 7, 8)"] * same
        *_, last = client(url).images.edit(image=png(), prompt=prompt, stream=True)
        assert last.unchanged is same and len(last.warnings) == same


def test_partial_images_are_streamed(running):
    _, url = running
    events = list(client(url).images.edit(image=png(), prompt="invert", stream=True, partial_images=2))
    kinds = [event.type for event in events]
    assert kinds == ["image_edit.partial_image"] * 2 + ["image_edit.completed"]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert [event.rows for event in events[:2]] == [3, 6]
    assert events[-1].usage.output_tokens == 10
    assert all(time.time() - event.created_at < 600 for event in events)
    assert opened(events[-1].b64_json).getpixel((0, 0)) == (245, 55, 225)


@pytest.mark.parametrize(
    "field,value,param",
    [
        ("background", "transparent", "background"),
        ("size", "1024x1024", "size"),
        ("quality", "high", "quality"),
        ("input_fidelity", "high", "input_fidelity"),
        ("n", "0", "n"),
        ("n", "11", "n"),
        ("response_format", "url", "response_format"),
        ("temperature", "nan", "temperature"),
        ("temperature", "1e-38", "temperature"),
        ("seed", "-1", "seed"),
        ("best_of", "3", "best_of"),
        ("output_compression", "50", "output_compression"),
        ("partial_images", "2", "partial_images"),
        ("prompt", "  ", "prompt"),
        ("prompt", "x" * 2001, "prompt"),
        ("styel", "vivid", "styel"),
    ],
)
def test_what_cannot_be_honoured_is_a_400_with_its_name(running, field, value, param):
    _, url = running
    data = {"prompt": "invert", field: value}
    answer = httpx.post(f"{url}/images/edits", data=data, files={"image": png()})
    assert answer.status_code == 400, answer.text
    said = answer.json()["error"]
    assert said["param"] == param and said["type"] == "invalid_request_error" and said["code"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "data,files,status,code",
    [
        ({"prompt": "x"}, {}, 415, "unsupported_content_type"),
        ({"prompt": "x"}, {"image": b"no image"}, 400, "invalid_image"),
        ({"prompt": "x"}, {"image": b"%!PS-Adobe-3.0 EPSF-3.0\n{ } loop"}, 400, "invalid_image"),
        ({"prompt": "x"}, {"image": png()[:60]}, 400, "invalid_image"),
        ({"prompt": "x"}, {"picture": png()}, 400, "unknown_parameter"),
        ({}, {"image": png()}, 400, "missing_required_parameter"),
        ({"prompt": "x", "model": "other"}, {"image": png()}, 404, "model_not_found"),
        ({"prompt": "x"}, {"image": png(), "mask": png()}, 400, "invalid_mask"),
        ({"prompt": "unreadable"}, {"image": png()}, 400, "invalid_request"),
    ],
)
def test_requests_that_cannot_be_served(running, data, files, status, code):
    _, url = running
    answer = httpx.post(f"{url}/images/edits", data=data, files=files)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


def test_an_image_of_a_shape_that_the_model_cannot_take():
    class Snapping(Inverter):
        def size_of(self, image):
            return target_size(*image.size, 4096, "snap")

    with serving(Snapping()) as (_, url):
        files = {"image": png(size=(600, 100))}
        answer = httpx.post(f"{url}/images/edits", data={"prompt": "x"}, files=files)
    said = answer.json()["error"]
    assert (answer.status_code, said["code"], said["param"]) == (400, "invalid_image", "image"), answer.text
    assert "600x100" in said["message"] and "more than 5 times" in said["message"]


def test_limits_on_bytes_and_pixels():
    with serving(settings={"max_bytes": 20_000, "max_pixels": 10_000}) as (_, url):
        answer = httpx.post(f"{url}/images/edits", data={"prompt": "x"}, files={"image": b"0" * 30_000})
        assert answer.status_code == 413 and answer.json()["error"]["code"] == "request_too_large"
        answer = httpx.post(f"{url}/images/edits", data={"prompt": "x"}, files={"image": png((200, 100))})
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "image_too_large"


def test_routes_that_are_not_there_answer_in_the_same_shape(running):
    _, url = running
    assert httpx.get(f"{url}/nothing").json()["error"]["type"] == "not_found_error"
    answer = httpx.get(f"{url}/images/edits")
    assert answer.status_code == 405 and answer.json()["error"]["message"]


def test_models_health_and_metrics(running):
    _, url = running
    assert [model.id for model in client(url).models.list()] == ["tiny"]
    assert client(url).models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client(url).models.retrieve("other")
    root = url.removesuffix("/v1")
    assert httpx.get(f"{root}/health").status_code == httpx.get(f"{root}/ready").status_code == 200
    client(url).images.edit(image=png(), prompt="invert")
    text = httpx.get(f"{root}/metrics").text
    for name in ("num_requests_running", "num_requests_waiting", "e2e_request_latency_seconds_bucket"):
        assert f"earl:{name}{{" in text
    assert 'earl:request_success_total{finished_reason="stop",model_name="tiny"}' in text
    assert "/v1/images/edits" in httpx.get(f"{root}/openapi.json").json()["paths"]


def test_prompts_are_counted_as_answers_count_them():
    with serving() as (_, url):
        used = [client(url).images.edit(image=png(), prompt="invert", n=n).usage for n in (1, 2)]
        text = httpx.get(f"{url.removesuffix('/v1')}/metrics").text
    for name, count in (("prompt", "input"), ("generation", "output")):
        total = float(re.search(rf"^earl:{name}_tokens_total.* (\S+)$", text, re.M)[1])
        assert total == sum(getattr(usage, f"{count}_tokens") for usage in used) > 0


def test_scripts_of_the_named_pages_may_ask():
    """A browser asks first, without the key, and shows the answer to the page that the header names."""
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    form = {"files": {"image": png()}, "data": {"prompt": "invert"}}
    with serving(settings={"origins": ("https://a.example",)}, keys=("first",)) as (_, url):
        for origin, allowed in (("https://a.example", "https://a.example"), ("https://b.example", None)):
            first = httpx.options(f"{url}/images/edits", headers={"Origin": origin, **asked})
            headers = {"Origin": origin, "Authorization": "Bearer first"}
            then = httpx.post(f"{url}/images/edits", headers=headers, **form)
            refused = httpx.post(f"{url}/images/edits", headers={"Origin": origin}, **form)
            assert (then.status_code, refused.status_code) == (200, 401)
            for answer in (first, then, refused):
                assert answer.headers.get("access-control-allow-origin") == allowed
    with serving() as (_, url):
        answer = httpx.post(f"{url}/images/edits", headers={"Origin": "https://a.example"}, **form)
        assert "access-control-allow-origin" not in answer.headers


def test_best_of_gives_the_highest_scores():
    async def judge(result):
        return [
            Verdict("ok", edit_success=s, over_editing=s, naturalness=s, artifacts=s)
            for s in (float(seed) for seed in result.seeds)
        ]

    async def alike(result):
        return [Verdict("ok", 5.0, 5.0, 5.0, 5.0)] * len(result.seeds)

    async def away(result):
        return [Verdict("ok", 5.0, 5.0, 5.0, 5.0), Verdict("unreachable", why="no answer")]

    with serving(judge=alike) as (_, url):
        answer = client(url).images.edit(image=png(), prompt="x", extra_body={"best_of": 3, "seed": 3})
        assert [item.seed for item in answer.data] == [3], "of equals the first"
    with serving(judge=away) as (_, url), pytest.raises(openai.InternalServerError, match="1 of 2 edits"):
        client(url).images.edit(image=png(), prompt="x", extra_body={"best_of": 2})
    with serving(judge=judge) as (_, url):
        answer = client(url).images.edit(image=png(), prompt="x", n=2, extra_body={"best_of": 4, "seed": 3})
        assert [(item.seed, item.score) for item in answer.data] == [(6, 6.0), (5, 5.0)]
        with pytest.raises(openai.BadRequestError, match="best_of is 1 and n is 2"):
            client(url).images.edit(image=png(), prompt="x", n=2, extra_body={"best_of": 1})


def test_a_mask_of_the_sources_size_is_taken():
    mask = Image.new("RGBA", (40, 24), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 10, 10))
    buffer = io.BytesIO()
    turned = Image.Exif()
    turned[0x0112] = 3  # by 180 degrees
    mask.rotate(180).save(buffer, "PNG", exif=turned)
    seen = []
    session = Inverter()
    inner = session.insert
    session.insert = lambda edits: (seen.extend(request.mask for request, _, _ in edits), inner(edits))[1]
    with serving(session) as (_, url):
        assert client(url).images.edit(image=png(), mask=buffer.getvalue(), prompt="x").data
        assert seen[0].getpixel((5, 5)) and not seen[0].getpixel((20, 20))
        small = io.BytesIO()
        mask.resize((20, 12)).save(small, "PNG")
        with pytest.raises(openai.BadRequestError, match="one size"):
            client(url).images.edit(image=png(), mask=small.getvalue(), prompt="x")


def test_the_body_is_json_or_a_sentence_says_so(running):
    _, url = running
    for body in (b"[" * 5000, b"{", b"[]", b'"x"', b"\xff\xfe", b'{"prompt": 1, "image": 2}'):
        answer = httpx.post(f"{url}/images/edits", content=body, headers=JSON)
        assert answer.status_code == 400 and json.loads(answer.text)["error"]["message"]
    twice = httpx.post(
        f"{url}/images/edits", content=b'{"prompt": "a", "image": [], "prompt": "b"}', headers=JSON
    )
    assert twice.status_code == 400 and "'prompt' is given twice" in twice.text


def test_the_dashboard_asks_for_figures_that_there_are(running):
    service, _ = running
    page = (Path(__file__).parents[2] / "examples" / "serving" / "grafana.json").read_text()
    asked = set(re.findall(r"earl:\w+", page))
    have = {line.split()[2] for line in service.metrics.text().decode().splitlines() if line[:6] == "# TYPE"}
    assert asked and {name.removesuffix("_bucket").removesuffix("_total") for name in asked} <= {
        name.removesuffix("_total") for name in have
    }
