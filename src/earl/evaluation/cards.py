"""One edit on the page: its images, what was asked, its scores, and the verifier's own words."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from earl.errors import EarlError
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.scores import REASONS, SHORT, Scored
from earl.records import SCORE_PARTS

SIDE = 256  # px, of the longer side of an image on the page
SMALL = 128  # px; smaller ones are shown with their pixels, without loss
LOW, HIGH = 3.0, 7.0  # of 10, below and above which a score is coloured


def chosen_cards(edits: Sequence[Scored], most: int) -> list[Scored]:
    """Edits in the order of the page: worst first, those without a score last.

    Of more than `most`, the worst three quarters of that number, the best quarter, and up to an
    eighth of it without a score. Rows that could not be read have nothing to show.
    """
    judged = sorted((e for e in edits if e.counts), key=lambda e: (e.score("overall"), e.edit["number"]))
    without = [edit for edit in edits if not edit.counts and edit.edit["state"] != "unreadable"]
    if len(judged) + len(without) > most:
        without = without[: max(most // 8, most - len(judged))]
        room = most - len(without)
        worst = room - room // 4
        judged = judged[:worst] + judged[max(worst, len(judged) - room // 4) :]
    return judged + without


def card(
    run: EvaluationFolder, edit: Scored, second: EvaluationFolder | None = None, other: Scored | None = None
) -> str:
    """The HTML of one edit; with another run's edit of the same task beside it."""
    row = edit.edit
    figures = [_figure(run, row["source"], "source")]
    if second is None:
        figures.append(_figure(run, row["edited"], "edited", _missing(edit)))
    else:
        figures.append(_figure(run, row["edited"], f"A {_points(edit)}", _missing(edit)))
        if other is None:
            figures.append(_empty("B", "not in this run"))
        else:
            figures.append(_figure(second, other.edit["edited"], f"B {_points(other)}", _missing(other)))
    if row["target"]:
        figures.append(_figure(run, row["target"], "target"))
    gap = ""
    if other is not None and edit.counts and other.counts:
        gap = f"{edit.score('overall') - other.score('overall'):.4f}"
    width, height = row.get("size") or (1, 1)
    score = f"{edit.score('overall'):.4f}" if edit.counts else ""
    return (
        f'<article class="card" data-family="{escape(row["family"])}" data-score="{score}" data-gap="{gap}" '
        f'data-number="{row["number"]}" data-noimage="{int(edit.no_image)}" style="--shape:{width}/{height}">'
        f'<div class="images">{"".join(figures)}</div>'
        f'<p class="words">{escape(row["instruction"])}</p>'
        f'<div class="line">{_score_line(edit, "A " if second else "")}<span>{escape(row["family"])}</span>'
        f"<span>{escape(row['id'])}</span></div>{_words(edit, other)}</article>"
    )


def _score_line(edit: Scored, whose: str) -> str:
    if not edit.counts:
        why = f": {escape(edit.why[:160])}" if edit.why else ""
        return f'<span class="score">{whose}no score</span><span>{escape(REASONS[edit.reason])}{why}</span>'
    value = edit.score("overall")
    kind = " low" if value < LOW else " high" if value > HIGH else ""
    parts = "".join(f"<span>{SHORT[name]} {edit.score(name):.1f}</span>" for name in SCORE_PARTS)
    return f'<span class="score{kind}">{whose}{value:.2f}</span>{parts}'


def _words(edit: Scored, other: Scored | None) -> str:
    """The verifier's raw answers, or its reason."""
    said = [(name, _said(e)) for name, e in (("A", edit), ("B", other)) if e is not None]
    said = [(name, words) for name, words in said if words]
    if not said:
        return ""
    text = said[0][1] if other is None else "\n".join(f"{name}: {words}" for name, words in said)
    return f"<details><summary>what the verifier said</summary><pre>{escape(text)}</pre></details>"


def _said(edit: Scored) -> str:
    if edit.verdict is None:
        return ""
    return edit.verdict.raw or edit.verdict.why


def _points(edit: Scored) -> str:
    return f"{edit.score('overall'):.2f}" if edit.counts else "no score"


def _missing(edit: Scored) -> str:
    if edit.edit["state"] == "no_image":
        return "no image: " + (edit.edit.get("problem") or "the editor made none")
    return REASONS.get(edit.edit["state"], "no image")


def _figure(folder: EvaluationFolder, name: str | None, caption: str, missing: str = "") -> str:
    if name is None:
        return _empty(caption, missing or "none")
    try:
        image = folder.picture(name)
    except EarlError as error:
        return _empty(caption, str(error))
    assert image is not None
    small = ' class="small"' if max(image.size) <= SMALL else ""
    return (
        f'<figure><img{small} alt="{escape(caption)}" src="{image_url(image)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _empty(caption: str, why: str) -> str:
    inside = f'<div class="none">{escape(why[:160])}</div><figcaption>{escape(caption)}</figcaption>'
    return f"<figure>{inside}</figure>"


def image_url(image: Image.Image) -> str:
    """An image as a data URL: PNG where it is small, else WebP of at most 256 px a side."""
    buffer = io.BytesIO()
    if max(image.size) <= SMALL:
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        image.thumbnail((SIDE, SIDE))
        image.save(buffer, "WEBP", quality=82)
        kind = "webp"
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
