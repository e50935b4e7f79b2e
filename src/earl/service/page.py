"""The editing page (Gradio 6), on the application that serves edits: its widgets and what they call."""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from PIL import Image

from earl.data.tasks import EditTask
from earl.errors import EarlError, ImageError
from earl.records import Box
from earl.service.page_edits import MOST_VARIATIONS, Asked, History, PageEdits, Shown, Step, Variation
from earl.service.wire import ApiError

PATH = "/ui"
_SMALLEST = 512  # px, longer side of a shown image: browsers blur what they enlarge
_KEPT = 3600  # seconds that files of the page stay on disk
_HELP = """
- **Nothing changed, or the wrong thing did.** Draw more variations and take the one that fits; every seed \
is another attempt. Name the object so that there is only one ("the small red cube on the left").
- **Two wishes at once came out as one.** Ask for one change at a time: *Use as input*, then ask for the next.
- **Something else changed too.** Turn on *Keep the source's pixels where nothing changed* (Settings), and \
*Show what changed* to see where.
- **The last step went wrong.** Click an earlier image of the history and go on from there; nothing is lost.
- **You liked an earlier one.** Its seed stands below it: choose *this one* (Settings) and type it.
- **The image looks coarse.** The model works at {side} × {side} pixels, whatever the size of yours.
"""
_DRAWN, _FIXED = "a new one each time", "this one"
_TO_RESULT = "() => document.querySelector('#compare').scrollIntoView({block: 'nearest', behavior: 'smooth'})"
_WAIT = "() => Array(4).fill({interactive: false, __type__: 'update'})"  # until the choice is at the server
Update = dict[Any, Any]  # new values, by widget


def mount_page(app: Any, work: PageEdits) -> Any:
    """Put the page on an application at `/ui`, and lead there from `/`.

    Where the service asks for keys, so does the page, as the password of any user; the MCP tool, which
    cannot ask, is then left out.
    """
    from fastapi.responses import RedirectResponse

    keys = work.service.keys

    def known(_: str, password: str) -> bool:
        fits = [hmac.compare_digest(password.encode(), key.encode()) for key in keys]  # all, in equal time
        return any(fits)

    app.add_route("/", lambda _: RedirectResponse(PATH))
    system = ["system-ui", "sans-serif"]  # no font is fetched from elsewhere
    return gr.mount_gradio_app(
        app,
        Page(work).blocks,
        PATH,
        auth=known if keys else None,
        auth_message="Any user name; an API key of this service as the password." if keys else None,
        max_file_size=work.service.settings.max_bytes,
        theme=gr.themes.Soft(font=system, font_mono=["ui-monospace", "monospace"]),
        css_paths=Path(__file__).with_name("page.css"),
        mcp_server=not keys,
        run_history=False,
        footer_links=["api"],
        show_error=True,
    )


@dataclass(frozen=True, slots=True)
class View:
    """The view of a session: an edit, the variation shown, and its place in the history."""

    shown: Shown
    chosen: int
    place: int | None

    @property
    def variation(self) -> Variation | None:
        """The chosen one; None where there is none yet."""
        there = self.chosen < len(self.shown.variations)
        return self.shown.variations[self.chosen] if there else None


class Page:
    """The page's widgets. Each session has a `History` and the edit that it shows.

    Args:
        work: what is done when a button is pressed.
    """

    def __init__(self, work: PageEdits) -> None:
        self.work = work
        with gr.Blocks(title="earl", analytics_enabled=False, delete_cache=(_KEPT, _KEPT)) as self.blocks:
            self.history, self.shown = gr.State(History()), gr.State(None)
            gr.Markdown(self._heading())
            with gr.Row():
                with gr.Column(scale=4, min_width=340):
                    self._input()
                    self._examples()
                with gr.Column(scale=5, min_width=380):
                    self._output()
                    self._history()
            with gr.Accordion("Not what you wanted?", open=False):
                gr.Markdown(_HELP.format(side=work.side))
            self._wire()
            self._offer_tool()
        self.blocks.queue(default_concurrency_limit=None)  # the service's own queue is the bound

    def _heading(self) -> str:
        work = self.work
        about = work.domain.about if work.domain else "Say what to change in an image."
        return f"# Edit an image with `{work.service.name}`\n{about}"

    def _input(self) -> None:
        work = self.work
        self.source = gr.Image(
            label="Your image", type="filepath", image_mode=None, format="png", height=300, elem_id="source",
            sources=["upload", "clipboard"],
        )  # fmt: skip
        # ours to open, and to refuse in words
        vars(self.source)["preprocess"] = lambda given: given and given.path
        if work.tasks:
            self.scene = gr.Button("New random scene", size="sm", elem_id="scene")
        self.instruction = gr.Textbox(
            label="What should change?", placeholder="make it night", elem_id="instruction",
            max_length=work.service.settings.max_prompt,
        )  # fmt: skip
        with gr.Row():
            self.edit = gr.Button("Edit", variant="primary", scale=3, elem_id="edit")
            self.stop = gr.Button("Stop", scale=1, interactive=False)
        with gr.Accordion("Settings", open=False):
            number = MOST_VARIATIONS if work.tasks else 1
            self.variations = gr.Slider(1, MOST_VARIATIONS, number, step=1, label="Variations")
            with gr.Row():
                self.seeding = gr.Radio([_DRAWN, _FIXED], value=_DRAWN, label="Seed", scale=2)
                self.seed = gr.Number(0, precision=0, minimum=0, label="Seed of the first", scale=1)
            self.keep = gr.Checkbox(False, label="Keep the source's pixels where nothing changed")
            thinks = work.pipeline.reasons is not False
            self.reasoning = gr.Checkbox(
                bool(work.pipeline.reasons), label="Let the model reason first", visible=thinks
            )

    def _output(self) -> None:
        self.note = gr.Markdown(visible=False, elem_classes="note", elem_id="note")
        self.compare = gr.ImageSlider(
            label="Before and after", format="png", interactive=False, height=400, max_height=400,
            buttons=["fullscreen"], slider_position=30, elem_id="compare",
        )  # fmt: skip
        self.choices = _tiles("Variations: click one", "choices", MOST_VARIATIONS)
        self.changed = gr.Checkbox(False, label="Show what changed", elem_id="changed")
        with gr.Row():
            self.use = gr.Button("Use as input", interactive=False, elem_id="use")
            self.download = gr.DownloadButton("Download", interactive=False, elem_id="download")
            kept = self.work.thumbs is not None
            self.like = gr.Button("👍", visible=kept, interactive=False, min_width=60, elem_id="like")
            self.dislike = gr.Button("👎", visible=kept, interactive=False, min_width=60, elem_id="dislike")
        with gr.Accordion("Reasoning", visible=False) as self.thoughts:
            self.text = gr.Markdown()
            self.boxes = gr.AnnotatedImage(label="Boxes that it names", format="png", height=340)

    def _history(self) -> None:
        with gr.Column(visible=False) as self.past:
            self.steps = _tiles("History: click an image to go back to it", "steps")
            self.strip = gr.DownloadButton("Download as a strip", size="sm", elem_id="strip")

    def _examples(self) -> None:
        examples = [(_large(task.source), task.instruction) for task in self.work.examples]
        with gr.Column(visible=bool(examples)):
            self.examples = _tiles("Examples: click one", "examples", value=examples)

    def _wire(self) -> None:
        """Connect events to their handlers; none of it is part of the page's API."""
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        asked = [self.source, self.instruction, self.variations, self.seeding, self.seed]
        asked += [self.reasoning, self.keep, self.changed, self.history]
        result = [self.shown, self.compare, self.choices, self.note, self.text, self.boxes, self.thoughts]
        result += [self.use, self.download, self.like, self.dislike, self.seed]
        past = [self.history, self.steps, self.strip, self.past]
        given = [self.source, self.instruction, self.history]
        lock = [self.edit, self.stop]
        pressed = [self.edit.click, self.instruction.submit]
        gr.on(pressed, None, js=_TO_RESULT, **quiet)
        running = gr.on(pressed, self._edit, asked, [*lock, *result, *past], **quiet)
        self.stop.click(lambda: self._lock(False), None, lock, cancels=[running], **quiet)
        self.choices.select(None, None, [self.use, self.download, self.like, self.dislike], js=_WAIT, **quiet)
        self.choices.select(self._choose, [self.shown, self.changed], result, **quiet)
        self.changed.change(self._overlay, [self.shown, self.changed], [self.compare], **quiet)
        self.use.click(self._use, [self.shown, self.history], [self.source, *past], **quiet)
        for button, liked in ((self.like, True), (self.dislike, False)):
            button.click(partial(self._vote, liked), [self.shown], None, **quiet)
        self.steps.select(self._back, [self.history], [self.source, *past], **quiet)
        self.source.input(self._given, [self.history], past, **quiet)
        self.examples.select(self._example, [self.history], [*given, *past], **quiet)
        if self.work.tasks:
            self.scene.click(self._scene, [self.history], [*given, *past], **quiet)

    def _offer_tool(self) -> None:
        """The one endpoint of the page's API, which is also the MCP tool."""
        made = gr.Image(visible=False, format="png")
        inputs = [self.source, self.instruction, self.seed]
        gr.Button(visible=False).click(self.edit_image, inputs, made, api_name="edit_image")

    async def edit_image(self, image: str, instruction: str, seed: int = 0) -> Image.Image:
        """Edit an image as an instruction says.

        Args:
            image: the image to edit.
            instruction: what to change, such as "make the red cube blue" or "make it night".
            seed: another seed gives another attempt.
        """
        try:
            asked = Asked(_read(image), instruction, seed=int(seed))
            async for shown in self.work.edit(asked):
                last = shown
        except (ApiError, EarlError) as error:
            raise gr.Error(str(error), print_exception=False) from error
        return last.variations[0].image

    async def _edit(
        self,
        path: str | None,
        instruction: str,
        variations: int,
        seeding: str,
        seed: float,
        reasoning: bool,
        keep: bool,
        changed: bool,
        history: History,
    ) -> AsyncIterator[Update]:
        if not path:
            gr.Warning("There is no image yet: upload one, or click an example.")
            yield self._lock(False)  # Gradio empties the outputs of a generator that gives nothing
            return
        first = int(seed) if seeding == _FIXED else None
        yield self._lock(True)
        try:
            asked = Asked(_read(path), instruction, int(variations), first, reasoning, keep)
            place = None
            async for shown in self.work.edit(asked):
                if place is None:
                    history.root(shown.source)
                    place = history.place
                    yield self._past(history)
                yield self._result(View(shown, shown.best, place), changed)
        except (ApiError, EarlError) as error:
            gr.Warning(str(error))
        yield self._lock(False)

    def _lock(self, working: bool) -> Update:
        return {self.edit: gr.Button(interactive=not working), self.stop: gr.Button(interactive=working)}

    def _result(self, view: View, changed: bool) -> Update:
        shown, made = view.shown, view.variation
        done = shown.done and made is not None
        text, boxes = (made.reasoning, made.boxes) if made else ("", ())
        return {
            self.shown: view,
            self.compare: self._overlay(view, changed),
            self.choices: gr.Gallery(
                [(_large(one.image), one.label) for one in shown.variations], selected_index=view.chosen
            ),
            self.note: gr.Markdown(shown.note, visible=bool(shown.note)),
            self.thoughts: gr.Accordion(visible=bool(text)),
            self.text: text,
            self.boxes: gr.AnnotatedImage(_marked(shown.source, boxes), visible=bool(boxes)),
            **{button: gr.Button(interactive=done) for button in (self.use, self.like, self.dislike)},
            self.download: gr.DownloadButton(
                value=self._file(made.file, "edit.png") if done and made else None, interactive=done
            ),
            self.seed: shown.seed,
        }

    def _past(self, history: History) -> Update:
        captioned = [
            (_large(step.image), caption)
            for step, caption in zip(history.steps, history.captions(), strict=True)
        ]
        return {
            self.history: history,
            self.steps: gr.Gallery(captioned, selected_index=history.index),
            self.strip: gr.DownloadButton(
                value=self._file(history.strip(), "history.png") if history.place is not None else None,
                interactive=history.place is not None,
            ),
            self.past: gr.Column(visible=bool(history.steps)),
        }

    def _file(self, content: bytes, name: str) -> str:
        """A file in the cache that Gradio serves from and clears."""
        return str(save_bytes_to_cache(content, name, self.download.GRADIO_CACHE))

    def _overlay(self, view: View | None, changed: bool) -> tuple[Image.Image, Image.Image] | None:
        """Before and after; the latter with what changed tinted, where that is asked for and known."""
        if view is None:
            return None
        after = view.variation.image if view.variation else view.shown.source
        if changed and view.variation and view.variation.changes:
            after = view.variation.changes
        return _large(view.shown.source.resize(after.size, Image.Resampling.LANCZOS)), _large(after)

    def _choose(self, view: View, changed: bool, event: gr.SelectData) -> Update:
        return self._result(View(view.shown, int(event.index), view.place), changed)

    def _use(self, view: View, history: History) -> Update:
        if not view.shown.done or view.variation is None:  # pressed just after another edit began
            gr.Warning("The edit is not finished yet.")
            return {self.history: history}
        history.add(Step(view.variation.image, view.place, view.shown.asked.instruction))
        return {self.source: view.variation.image, **self._past(history)}

    def _vote(self, liked: bool, view: View) -> None:
        thumbs, made = self.work.thumbs, view.variation
        assert thumbs is not None and made is not None, "the buttons are there with an image"
        try:
            pairs = thumbs.vote(view.shown.source, view.shown.asked.instruction, made.image, liked=liked)
        except EarlError as error:
            raise gr.Error(str(error), print_exception=False) from error
        missing = "A pair needs another variation with the other thumb."
        gr.Info(f"{made.label}. Pairs with it: {pairs}, in all: {len(thumbs)}" if pairs else missing)

    def _back(self, history: History, event: gr.SelectData) -> Update:
        history.back(int(event.index))
        return {self.source: history.steps[int(event.index)].image, **self._past(history)}

    def _given(self, history: History) -> Update:
        history.place = None
        return self._past(history)

    def _task(self, task: EditTask, history: History) -> Update:
        return {self.source: task.source, self.instruction: task.instruction, **self._given(history)}

    def _example(self, history: History, event: gr.SelectData) -> Update:
        return self._task(self.work.examples[int(event.index)], history)

    def _scene(self, history: History) -> Update:
        return self._task(self.work.scene(), history)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(
            "the image is kept no longer; upload it again, or click one of the history"
        ) from error


def _tiles(label: str, name: str, columns: int | None = None, value: Any = None) -> Any:
    """Images to choose from, captions below them; as many in a row as fit where no number is given."""
    return gr.Gallery(
        value, label=label, format="png", columns=columns or MOST_VARIATIONS, height="auto", buttons=[],
        allow_preview=False, object_fit="contain", interactive=False, elem_id=name,
        elem_classes=["tiles"] if columns else ["tiles", "small"],
    )  # fmt: skip


def _large(image: Image.Image) -> Image.Image:
    scale = max(1.0, _SMALLEST / max(image.size))
    size = round(image.width * scale), round(image.height * scale)
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def _marked(image: Image.Image, boxes: tuple[Box, ...]) -> Any:
    """An image with numbered boxes, as Gradio takes them."""
    large = _large(image)
    scale = large.width / image.width
    marks = [
        (tuple(round(side * scale) for side in (box.left, box.top, box.right, box.bottom)), str(number))
        for number, box in enumerate(boxes, 1)
    ]
    return large, marks
