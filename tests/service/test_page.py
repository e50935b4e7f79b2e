"""The editing page in a browser: Chromium without a screen, driven as a person would, and its MCP tool."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

try:  # the HTTP library that the test needs anyway
    import httpx2 as httpx
except ImportError:
    import httpx

from earl.config import ModelSettings, VerifierSettings
from earl.config.service import ServiceSettings
from earl.service.edits import EditService
from earl.service.http import served
from earl.service.opening import open_service
from earl.service.page_edits import Asked, History, PageEdits, Shown, Variation
from earl.service.thumbs import Thumbs

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or not all(map(find_spec, ("gradio", "mcp", "playwright"))),
        reason="needs a browser: pip install 'gradio[mcp]' playwright, and Chromium (apt install chromium)",
    ),
]
PATIENCE = 180_000  # ms; an edit takes a second, where a machine is not shared


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("gradio"))
    service = open_service(ServiceSettings(), ModelSettings(device="cpu"), VerifierSettings(kind="scene"))
    yield PageEdits(service, thumbs=Thumbs(tmp_path_factory.mktemp("thumbs") / "choices.jsonl"))
    service.scheduler.stop()


@pytest.fixture(scope="module")
def url(work):
    from earl.service.page import mount_page

    with served(mount_page(work.service.app(), work)) as url:
        yield url.removesuffix("/v1")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, url):
    page = browser.new_page(viewport={"width": 1320, "height": 1100})
    page.set_default_timeout(PATIENCE)
    page.asked = set()
    page.on("request", lambda request: page.asked.add(request.url.split("/")[2]))
    page.goto(url, timeout=PATIENCE)
    page.wait_for_selector("#edit")
    yield page
    page.close()


def edit(page):
    page.click("#edit")
    page.wait_for_selector("#choices .caption-label:has-text('of 10')")
    page.wait_for_selector("#use:not([disabled])")


def captions(page, gallery):
    return [text.strip() for text in page.locator(f"#{gallery} .caption-label").all_inner_texts()]


def test_from_an_example_to_a_history_that_branches(page, work, tmp_path):
    page.click("#examples .thumbnail-item >> nth=0")
    page.wait_for_selector("#source img")
    instruction = page.locator("#instruction textarea, #instruction input").first
    page.wait_for_function("document.querySelector('#instruction textarea, #instruction input').value")
    assert instruction.input_value() == work.examples[0].instruction
    edit(page)
    labels = captions(page, "choices")
    assert len(labels) == 4 and all(re.fullmatch(r"seed \d+, \d+(\.\d)? of 10", label) for label in labels)
    assert page.locator("#compare img").count() == 2 and not page.is_visible("#note")
    with page.expect_download() as download:
        page.click("#download")
    assert Image.open(download.value.path()).text["Software"].startswith("edited by EARL")
    before = page.locator("#compare img").last.get_attribute("src")
    page.click("#changed input")
    page.wait_for_function(
        "before => [...document.querySelectorAll('#compare img')].at(-1).src != before", arg=before
    )
    page.click("#use")
    page.wait_for_selector("#steps .caption-label:has-text('▸ 2')")
    page.click("#choices .thumbnail-item >> nth=3")
    page.click("#use")  # another variation of the same image: a branch
    page.wait_for_selector("#steps .caption-label:has-text('▸ 3 (from 1)')")
    page.click("#steps .thumbnail-item >> nth=0")
    page.wait_for_selector("#steps .caption-label:has-text('▸ 1 start')")
    page.click("#steps .thumbnail-item >> nth=1")
    page.wait_for_selector("#steps .caption-label:has-text('▸ 2')")
    with page.expect_download() as download:
        page.click("#strip")
    strip = Image.open(download.value.path())
    assert strip.width > 1.5 * strip.height  # two images in a row
    assert page.asked == {page.url.split("/")[2]}, "nothing is fetched from elsewhere"


def test_thumbs_on_two_variations_are_a_pair(page, work, tmp_path):
    Image.effect_noise((64, 64), 90).convert("RGB").save(tmp_path / "noise.png")  # its draws differ
    assert page.is_disabled("#like")
    page.set_input_files("#source input[type=file]", tmp_path / "noise.png")
    page.wait_for_selector("#source img")
    page.fill("#instruction textarea, #instruction input", "make it night")
    page.click("#edit")
    page.wait_for_selector("#like:not([disabled])")
    page.click("#choices .thumbnail-item >> nth=0")
    page.click("#like")
    page.wait_for_selector("text=A pair needs another variation")
    page.click("#choices .thumbnail-item >> nth=1")
    page.click("#dislike")
    page.wait_for_selector("text=Pairs with it: 1, in all: 1")
    assert len(work.thumbs) == 1


def test_an_upload_that_the_model_cannot_know_is_warned_about(page, tmp_path):
    Image.effect_noise((200, 120), 90).convert("RGB").save(tmp_path / "photo.png")
    page.click("#edit")
    page.wait_for_selector("text=There is no image yet")
    page.wait_for_timeout(500)
    assert page.inner_text("#edit") == "Edit" and page.inner_text("#use") == "Use as input"
    page.fill("#instruction textarea, #instruction input", " ")
    page.set_input_files("#source input[type=file]", tmp_path / "photo.png")
    page.wait_for_selector("#source img")
    page.click("#edit")
    page.wait_for_selector("text=say what to change")  # nothing was asked
    page.fill("#instruction textarea, #instruction input", "make the sky stormy")
    page.click("#edit")
    page.wait_for_selector("#note:has-text('stormy')")
    page.wait_for_selector("#use:not([disabled])")
    assert captions(page, "choices")[0].endswith("not judged")
    page.click("#scene")
    page.wait_for_function(
        "document.querySelector('#instruction textarea, #instruction input').value != 'make the sky stormy'"
    )


def test_a_file_that_is_no_image_or_gone_is_refused_in_words(page, work, tmp_path):
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")  # as phones save them
    page.fill("#instruction textarea, #instruction input", "make it night")
    page.set_input_files("#source input[type=file]", tmp_path / "photo.heic")
    page.wait_for_selector("#source img", state="attached")
    page.click("#edit")
    page.wait_for_selector("text=not an image that can be read; send a PNG, JPEG or WebP")
    page.click("#examples .thumbnail-item >> nth=0")
    page.wait_for_function("document.querySelector('#source img')?.naturalWidth > 0")
    for file in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*.png"):  # as Gradio clears them after an hour
        file.unlink()
    page.click("#edit")
    page.wait_for_selector("text=upload it again")
    page.wait_for_selector("#edit:not([disabled])")


def test_leaving_the_page_ends_the_work(page, work, monkeypatch):
    session = work.service.session
    step, slow = session.step, lambda **how: (time.sleep(1), step(**how))[1]
    monkeypatch.setattr(session, "step", slow)
    page.click("#examples .thumbnail-item >> nth=1")
    page.wait_for_selector("#source img")
    page.click("#edit")
    wait_until(lambda: work.service.metrics.running._value.get() == 1)
    page.close()
    aborted = re.compile(rb'request_success_total\{finished_reason="abort".*\} 1\.0')
    wait_until(lambda: aborted.search(work.service.metrics.text()))
    assert work.service.metrics.held._value.get() == 0


def wait_until(condition):
    end = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def test_the_tool_of_the_mcp_server(url, work):
    import anyio
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    buffer = io.BytesIO()
    work.examples[0].source.save(buffer, "PNG")
    image = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

    async def call():
        async with (
            streamablehttp_client(f"{url}/ui/gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            given = {"image": image, "instruction": work.examples[0].instruction, "seed": 7}
            return tools, await session.call_tool(tools[0].name, given)

    with ThreadPoolExecutor() as apart:  # the browser's event loop runs in this thread
        tools, answer = apart.submit(anyio.run, call).result(PATIENCE / 1000)
    assert [tool.name for tool in tools] == ["edit_image"] and "make the red cube blue" in str(tools[0])
    (content,) = [part for part in answer.content if part.type == "image"]
    edited = Image.open(io.BytesIO(base64.b64decode(content.data)))
    alone = work.pipeline(work.examples[0].source, work.examples[0].instruction, seed=7).image
    assert edited.convert("RGB").tobytes() == alone.tobytes()


def test_an_edit_in_progress_is_not_used_as_input(work):
    from earl.service.page import Page, View

    image = work.examples[0].source
    half = Shown(Asked(b"", "make it night"), image, 1, (Variation(image, "seed 1, row 3 of 8"),))
    page, history = Page(work), History()
    with pytest.warns(UserWarning, match="not finished"):
        assert page._use(View(half, 0, None), history) == {page.history: history}
    assert history.steps == []


def test_with_keys_the_page_asks_for_one_and_there_is_no_tool(work):
    from earl.service.page import mount_page

    service = EditService(work.service.session, "world", keys=("first", "second"))
    try:
        with served(mount_page(service.app(), PageEdits(service))) as url:
            root = f"{url.removesuffix('/v1')}/ui"
            assert httpx.get(f"{root}/config", timeout=60).status_code == 401
            for password, status in (("third", 400), ("second", 200)):
                data = {"username": "me", "password": password}
                assert httpx.post(f"{root}/login", data=data, timeout=60).status_code == status
            assert httpx.post(f"{root}/gradio_api/mcp/", json={}, timeout=60).status_code in (404, 405)
    finally:
        service.scheduler.stop()


def test_a_phone_shows_the_result_and_scrolls_no_way_but_down(browser, url):
    page = browser.new_page(viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True)
    page.set_default_timeout(PATIENCE)
    page.goto(url, timeout=PATIENCE)
    page.click("#examples .thumbnail-item >> nth=0")
    page.wait_for_selector("#source img")
    edit(page)
    page.wait_for_timeout(1000)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    top, bottom = page.evaluate(
        "(r => [r.top, r.bottom])(document.querySelector('#compare').getBoundingClientRect())"
    )
    assert top >= 0 and bottom < 845
    page.close()
