"""Images, prompts and completions as ids: writing them and reading them back.

    image       BOI "H*W" IMG, then H times (W visual tokens EOL), then EOF EOI
    prompt      BOS image instruction
    completion  [reasoning text] image EOS

H W are latent rows and columns (pixels / 8). Writing raises on a caller's mistake;
`parse_completion` reads what a model wrote, so it never raises and reports the problem instead.

Source: Emu3's processor (`BAAI/Emu3-Stage1`), EARL's prompts (arXiv 2508.01119).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from earl.errors import InstructionError, SequenceError
from earl.records import Grid
from earl.sequence.instruction import trimmed
from earl.sequence.reasoning import OPENING, read_reasoning, reasoning_body
from earl.sequence.tokenizer import TextTokenizer

MAX_CELLS = 128 * 128
"""Most cells of one image, 1024 x 1024 pixels: the largest that Emu3's processor makes."""

MAX_SIZE_IDS = 16
"""A size `H*W` has fewer text ids than this; what is longer cannot be one."""

_SIZE = re.compile(r"([1-9][0-9]{0,4})\*([1-9][0-9]{0,4})")


@dataclass(frozen=True)
class ParsedCompletion:
    """A completion as read: codes, reasoning, or the problem.

    Args:
        codes: int32 (H, W) image codes, None where there is no whole image.
        reasoning: the text before the image without its markers, None where there is none.
        problem: what is wrong and where, None where the completion is as it should be. Codes
            together with a problem: the image is whole, but something else follows it.
    """

    codes: np.ndarray | None
    reasoning: str | None
    problem: str | None


def parse_size(text: str, *, max_cells: int = MAX_CELLS) -> Grid:
    """Read `H*W`, as in `32*32`: rows, then columns, plain digits, no spaces.

    Raises:
        SequenceError: another form, or more than `max_cells` cells.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise SequenceError(f"an image size must read like 32*32, got {text[:40]!r}")
    grid = Grid(height=int(found[1]), width=int(found[2]))
    if grid.height * grid.width > max_cells:
        raise SequenceError(f"an image of {grid} has more than {max_cells} cells")
    return grid


def size_ids(grid: Grid, tokenizer: TextTokenizer) -> list[int]:
    """The head of an image: BOI "H*W" IMG."""
    vocabulary = tokenizer.vocabulary
    return [vocabulary.boi, *tokenizer.encode(str(grid)), vocabulary.img]


def body_length(grid: Grid) -> int:
    """Number of ids after IMG up to and with EOI: the rows with their EOL, EOF, EOI."""
    return grid.height * (grid.width + 1) + 2


def write_image(codes_HW: np.ndarray, tokenizer: TextTokenizer) -> list[int]:
    """Image codes -> BOI "H*W" IMG rows EOF EOI.

    Args:
        codes_HW: integers (H, W) in [0, codebook_size), H and W at least 1.

    Raises:
        SequenceError: not two axes, not integers, outside the codebook, or above `MAX_CELLS`.
    """
    codes_HW = np.asarray(codes_HW)
    if codes_HW.ndim != 2 or codes_HW.size == 0:
        raise SequenceError(f"image codes must be rows x columns, got an array of shape {codes_HW.shape}")
    vocabulary = tokenizer.vocabulary
    height, width = codes_HW.shape
    if codes_HW.size > MAX_CELLS:
        raise SequenceError(f"an image of {height}*{width} has more than {MAX_CELLS} cells")
    rows = np.empty((height, width + 1), dtype=np.int64)
    rows[:, :width] = vocabulary.visual_ids(codes_HW)
    rows[:, width] = vocabulary.eol
    head = size_ids(Grid(height, width), tokenizer)
    return [*head, *rows.ravel().tolist(), vocabulary.eof, vocabulary.eoi]


def write_prompt(source_codes_HW: np.ndarray, instruction: str, tokenizer: TextTokenizer) -> list[int]:
    """Source image and instruction -> BOS image instruction.

    Raises:
        InstructionError: the instruction is blank.
        SequenceError: the codes are no image (see `write_image`).
    """
    instruction = trimmed(instruction)
    if not instruction:
        raise InstructionError("the instruction is empty; say what to change in the image")
    image = write_image(source_codes_HW, tokenizer)
    return [tokenizer.vocabulary.bos, *image, *tokenizer.encode(instruction)]


def write_completion(
    target_codes_HW: np.ndarray, tokenizer: TextTokenizer, reasoning: str | None = None
) -> list[int]:
    """Target image -> [reasoning] image EOS.

    Args:
        target_codes_HW: integers (H, W) in [0, codebook_size).
        reasoning: None for the direct mode. Markers in it are dropped, and it is cut at 1,750
            characters; empty text still writes the two markers.

    Raises:
        SequenceError: the codes are no image (see `write_image`).
    """
    thought: list[int] = []
    if reasoning is not None:
        thought = [*opening_ids(tokenizer), *tokenizer.encode(reasoning_body(reasoning))]
    return [*thought, *write_image(target_codes_HW, tokenizer), tokenizer.vocabulary.eos]


def opening_ids(tokenizer: TextTokenizer) -> list[int]:
    """The ids every reasoning completion begins with; encoded apart, so that they can be forced."""
    return tokenizer.encode(OPENING)


def parse_completion(ids: Sequence[int], tokenizer: TextTokenizer) -> ParsedCompletion:
    """Read what a model wrote; any ids are accepted, and what is wrong is said in `problem`."""
    vocabulary = tokenizer.vocabulary
    try:
        found = np.asarray(list(ids), dtype=np.int64)
        starts = np.flatnonzero(found == vocabulary.boi)
        text_end = int(starts[0]) if len(starts) else len(found)
        reasoning = read_reasoning(tokenizer.decode(found[:text_end].tolist()))
    except (SequenceError, OverflowError, TypeError, ValueError) as error:
        return ParsedCompletion(None, None, str(error))
    try:
        _expect_text(found, 0, text_end, tokenizer)
        codes, end = _read_image(found, text_end, tokenizer)
    except SequenceError as error:
        return ParsedCompletion(None, reasoning, str(error))
    if end == len(found):
        return ParsedCompletion(codes, reasoning, f"position {end}: ended before eos ({vocabulary.eos})")
    rest = found[end:].tolist()
    if rest[0] != vocabulary.eos or any(token_id != vocabulary.pad for token_id in rest[1:]):
        problem = f"position {end}: expected eos ({vocabulary.eos}) and no more after the image"
        return ParsedCompletion(codes, reasoning, problem)
    return ParsedCompletion(codes, reasoning, None)


def _expect(ids: np.ndarray, position: int, wanted: int, tokenizer: TextTokenizer) -> None:
    describe = tokenizer.vocabulary.describe
    if position >= len(ids):
        raise SequenceError(f"position {position}: expected {describe(wanted)}, but the ids end")
    if ids[position] != wanted:
        raise SequenceError(
            f"position {position}: expected {describe(wanted)}, got {describe(int(ids[position]))}"
        )


def _expect_text(ids: np.ndarray, start: int, stop: int, tokenizer: TextTokenizer) -> None:
    wrong = np.flatnonzero((ids[start:stop] >= tokenizer.vocabulary.first_special) | (ids[start:stop] < 0))
    if len(wrong):
        position = start + int(wrong[0])
        found = tokenizer.vocabulary.describe(int(ids[position]))
        raise SequenceError(f"position {position}: expected text, got {found}")


def _read_image(ids: np.ndarray, start: int, tokenizer: TextTokenizer) -> tuple[np.ndarray, int]:
    """Read the image that begins at `start` -> its codes and the position after its EOI."""
    vocabulary = tokenizer.vocabulary
    _expect(ids, start, vocabulary.boi, tokenizer)
    window = ids[start + 1 : start + 1 + MAX_SIZE_IDS]
    marks = np.flatnonzero(window == vocabulary.img)
    if len(marks) == 0:
        raise SequenceError(f"position {start + 1}: expected an image size and img ({vocabulary.img})")
    mark = start + 1 + int(marks[0])
    _expect_text(ids, start + 1, mark, tokenizer)
    try:
        grid = parse_size(tokenizer.decode(ids[start + 1 : mark].tolist()))
    except SequenceError as error:
        raise SequenceError(f"position {start + 1}: {error}") from error
    first = mark + 1
    end = first + body_length(grid)
    wanted = image_pattern(grid, tokenizer)
    got = ids[first:end]
    visual = (got >= vocabulary.first_visual) & (got < vocabulary.first_visual + vocabulary.codebook_size)
    right = np.where(wanted[: len(got)] < 0, visual, got == wanted[: len(got)])
    wrong = np.flatnonzero(~right)
    if len(wrong) or len(got) < len(wanted):
        offset = int(wrong[0]) if len(wrong) else len(got)
        due = "a visual token" if wanted[offset] < 0 else vocabulary.describe(int(wanted[offset]))
        found = vocabulary.describe(int(got[offset])) if offset < len(got) else "the end"
        row = min(offset // (grid.width + 1), grid.height)
        where = f"row {row} of {grid}" if row < grid.height else f"after the rows of {grid}"
        raise SequenceError(f"position {first + offset}: expected {due}, got {found} ({where})")
    rows = got[: grid.height * (grid.width + 1)].reshape(grid.height, grid.width + 1)
    return (rows[:, : grid.width] - vocabulary.first_visual).astype(np.int32), end


def image_pattern(grid: Grid, tokenizer: TextTokenizer) -> np.ndarray:
    """The ids after IMG up to EOI: int64 (H * (W + 1) + 2,), -1 where a visual token is due."""
    vocabulary = tokenizer.vocabulary
    rows = np.full((grid.height, grid.width + 1), -1, dtype=np.int64)
    rows[:, grid.width] = vocabulary.eol
    return np.concatenate([rows.ravel(), [vocabulary.eof, vocabulary.eoi]])
