"""The image grammar for a batch of completions, computed on their device.

What the automaton allows is always one range of ids: text columns, visual columns, or one forced id.
A fixed number of tensor operations gives the ranges of a whole batch from the ids written so far. So no
state has to follow vLLM's preemption, resumption or drafts, and the host does not wait for the device.
`earl.sequence.grammar.Grammar` is the plain twin that it is tested against.

Axes: S slots, R rows of logits, W ids of a completion that are looked at, C characters, V vocabulary.
"""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor

from earl.errors import TokenizerError
from earl.sequence.grammar import Grammar
from earl.sequence.layout import MAX_CELLS, MAX_SIZE_IDS, opening_ids
from earl.sequence.tokenizer import TextTokenizer

NO_LIMIT = 2**31 - 1
_STAR = 10
_DIGITS = 5  # of a side, at most, as `parse_size` reads it
_CHARACTERS = 2 * _DIGITS + 1
_FIELDS = ("active", "opening", "thought", "size", "height", "width", "max_text")


class GrammarTable:
    """The grammars of the requests in a batch, one slot each, in memory of the device.

    Args:
        tokenizer: of the model.
        slots: how many requests there may be at once.
        device: where the ids and the logits are.

    Raises:
        TokenizerError: the text tokenizer is not byte-level, so a size cannot be read id by id.
    """

    def __init__(self, tokenizer: TextTokenizer, slots: int, device: torch.device | str) -> None:
        self.tokenizer, self.vocabulary = tokenizer, tokenizer.vocabulary
        self.device = torch.device(device)
        self._opening = max(1, len(opening_ids(tokenizer)))
        self._size = MAX_SIZE_IDS + 1
        columns = len(_FIELDS) + self._opening + self._size
        self._host_SN = np.zeros((slots, columns), dtype=np.int32)
        self._device_SN = torch.zeros((slots, columns), dtype=torch.int32, device=self.device)
        self._changed: set[int] = set()
        self.active_S = np.zeros(slots, dtype=bool)
        self._window_S = np.zeros(slots, dtype=np.int64)
        characters_VC, lengths_V = size_characters(tokenizer)
        self._characters_VC = characters_VC.to(self.device)
        self._lengths_V = lengths_V.to(self.device)

    def put(self, slot: int, grammar: Grammar | None) -> None:
        """Give a slot to a request; None for one that is not ours. Takes effect with `flush`."""
        row = self._host_SN[slot]
        row[:] = 0
        self.active_S[slot], self._window_S[slot] = grammar is not None, 0
        self._changed.add(slot)
        if grammar is None:
            return
        opening, size = grammar.start().forced_ahead(), grammar.forced_size
        opening = opening[: len(opening) - len(size)] if grammar.starts_in_size else opening
        grid = grammar.grid
        row[: len(_FIELDS)] = (
            1,
            len(opening),
            not grammar.starts_in_size,
            len(size),
            grid.height if grid else 0,
            grid.width if grid else 0,
            grammar.max_text_tokens,
        )
        row[len(_FIELDS) : len(_FIELDS) + len(opening)] = opening
        row[len(_FIELDS) + self._opening :][: len(size)] = size
        window = len(opening)
        window += 0 if grammar.starts_in_size else grammar.max_text_tokens + 1
        window += 0 if size else MAX_SIZE_IDS + 1
        self._window_S[slot] = window if not (size and grammar.starts_in_size) else 0

    def flush(self) -> None:
        """Write the slots that changed to the device, without waiting for it."""
        if not self._changed:
            return
        slots = sorted(self._changed)
        self._changed.clear()
        rows, at = torch.from_numpy(self._host_SN[slots]), torch.tensor(slots)
        if self.device.type == "cuda":
            rows, at = rows.pin_memory(), at.pin_memory()
        self._device_SN.index_copy_(
            0, at.to(self.device, non_blocking=True), rows.to(self.device, non_blocking=True)
        )

    def window(self, slots: np.ndarray) -> int:
        """Number of ids from the start of each completion that `ranges` needs for these slots."""
        return int(self._window_S[slots].max(initial=0))

    def ranges(self, slots_R: Tensor, written_R: Tensor, ids_RW: Tensor) -> tuple[Tensor, Tensor]:
        """What may come next.

        Args:
            slots_R: int, the slot of each row.
            written_R: int, ids that the row's completion holds so far.
            ids_RW: int, its first W ids; W at least `window`, entries from `written_R` on are not read.

        Returns:
            lowest id allowed and the first above that is not, both int64 (R,). Rows of slots that
            are not ours allow everything. After the end, or where no image can follow any more
            (the automaton's "done"), EOS is forced, so that the request ends.
        """
        table_RN = self._device_SN[slots_R.long()].long()
        active_R, n_opening, thought, n_size, height, width, max_text = table_RN[:, : len(_FIELDS)].unbind(1)
        opening_RO = table_RN[:, len(_FIELDS) : len(_FIELDS) + self._opening]
        size_RO = table_RN[:, len(_FIELDS) + self._opening :]
        v, written, thought = self.vocabulary, written_R.long(), thought.bool()
        ids_RW = torch.nn.functional.pad(ids_RW.long(), (0, 1))  # a column to look at where W is 0
        at_W = torch.arange(ids_RW.shape[1], device=ids_RW.device)
        special_RW = (ids_RW >= v.first_special) & (at_W < written[:, None])

        # Text before the image: up to the first id that is no text, which must be BOI.
        mark, id_at_mark = self._first_special(special_RW, ids_RW, n_opening)
        found = mark < NO_LIMIT
        too_long = torch.minimum(mark, written) - n_opening >= max_text
        failed = thought & (too_long | (found & (id_at_mark != v.boi)))
        opened = ~thought | (found & ~failed)
        start = torch.where(thought, mark + 1, n_opening)

        # The size: given, or text up to IMG.
        given = n_size > 0
        mark, id_at_mark = self._first_special(special_RW, ids_RW, start)
        found = opened & ~given & (mark < NO_LIMIT)
        pieces = torch.minimum(mark, written) - start
        wrong = (pieces >= MAX_SIZE_IDS) | (found & (id_at_mark != v.img))
        read_height, read_width, readable = self._read_size(ids_RW, start, pieces)
        failed = failed | (opened & ~given & (wrong | (found & ~readable)))
        height = torch.where(given, height, read_height)
        width = torch.where(given, width, read_width)
        in_body = opened & ~failed & (given | found)

        # The image: H rows of W and EOL, then EOF EOI EOS.
        body = torch.where(given, start + n_size, mark + 1)
        offset = written - body
        rows = height * (width + 1)
        in_size = opened & given & (offset < 0)
        in_rows = in_body & (offset >= 0) & (offset < rows)
        row_ends = (offset + 1) % (width + 1).clamp_min(1) == 0

        forced = torch.full_like(written, v.eos)  # after the end, and where no image can follow
        forced = torch.where(in_body & (offset == rows), v.eof, forced)
        forced = torch.where(in_body & (offset == rows + 1), v.eoi, forced)
        forced = torch.where(in_rows, v.eol, forced)
        forced = torch.where(in_size, _pick(size_RO, written - start), forced)
        in_opening = written < n_opening
        forced = torch.where(in_opening, _pick(opening_RO, written), forced)

        text = ~in_opening & ~failed & ~in_body & ~in_size
        visual = ~in_opening & ~in_size & in_rows & ~row_ends
        low = torch.where(text, 0, torch.where(visual, v.first_visual, forced))
        high = torch.where(visual, v.first_visual + v.codebook_size, forced + 1)
        high = torch.where(text, v.first_visual, high)
        ours = active_R.bool()
        return torch.where(ours, low, 0), torch.where(ours, high, NO_LIMIT)

    def _first_special(self, special_RW: Tensor, ids_RW: Tensor, start_R: Tensor) -> tuple[Tensor, Tensor]:
        """Place of the first id from `start_R` on that is no text (NO_LIMIT: none), and that id."""
        at_W = torch.arange(ids_RW.shape[1], device=ids_RW.device)
        here_RW = special_RW & (at_W >= start_R[:, None])
        mark_R = torch.where(here_RW, at_W, NO_LIMIT).amin(1)
        return mark_R, _pick(ids_RW, mark_R)

    def _read_size(self, ids_RW: Tensor, start_R: Tensor, count_R: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, columns, and whether `count_R` ids from `start_R` on read like `H*W` and fit."""
        at_K = torch.arange(MAX_SIZE_IDS - 1, device=ids_RW.device)
        ids_RK = ids_RW.gather(1, (start_R[:, None] + at_K).clamp(0, ids_RW.shape[1] - 1))
        here_RK = at_K < count_R[:, None]
        ids_RK = torch.where(here_RK, ids_RK, 0).clamp(0, len(self._lengths_V) - 1)
        lengths_RK = torch.where(here_RK, self._lengths_V[ids_RK], 0)
        strange_R = (lengths_RK < 0).any(1)
        signs_RC = self._characters_VC[ids_RK].long()
        signs_RC = torch.where(here_RK[:, :, None], signs_RC, -1).flatten(1)
        there_RC = signs_RC >= 0
        place_RC = there_RC.cumsum(1) - 1
        total_R = there_RC.sum(1)
        star_RC = signs_RC == _STAR
        star_R = torch.where(star_RC, place_RC, 0).sum(1)
        digit_RC = there_RC & ~star_RC
        before_RC = digit_RC & (place_RC < star_R[:, None])
        after_RC = digit_RC & (place_RC > star_R[:, None])
        height_R = _number(signs_RC, before_RC, star_R[:, None] - 1 - place_RC)
        width_R = _number(signs_RC, after_RC, total_R[:, None] - 1 - place_RC)
        first_RC = (place_RC == 0) | (place_RC == star_R[:, None] + 1)
        zero_R = (first_RC & digit_RC & (signs_RC == 0)).any(1)
        high, wide = star_R, total_R - 1 - star_R
        readable = (star_RC.sum(1) == 1) & ~strange_R & ~zero_R
        readable &= (high >= 1) & (high <= _DIGITS) & (wide >= 1) & (wide <= _DIGITS)
        return height_R, width_R, readable & (height_R * width_R <= MAX_CELLS)


def keep_within_(logits_RV: Tensor, low_R: Tensor, high_R: Tensor) -> Tensor:
    """Set all columns outside [low, high) to -inf, in place."""
    at_V = torch.arange(logits_RV.shape[1], device=logits_RV.device)
    return logits_RV.masked_fill_((at_V < low_R[:, None]) | (at_V >= high_R[:, None]), float("-inf"))


def size_characters(tokenizer: TextTokenizer) -> tuple[Tensor, Tensor]:
    """By text id, the digits and stars it stands for: int8 (V, C), 10 for a star, -1 for none, and how
    many, int8 (V,); -1 where the id stands for something else.

    Raises:
        TokenizerError: the tokenizer is not byte-level.
    """
    if type(tokenizer.tokenizer.decoder).__name__ != "ByteLevel":
        raise TokenizerError(
            f"vLLM's grammar reads sizes id by id, which needs a byte-level text tokenizer; this one "
            f"decodes with {type(tokenizer.tokenizer.decoder).__name__}"
        )
    count = tokenizer.vocabulary.first_special
    characters = np.full((count, _CHARACTERS), -1, dtype=np.int8)
    lengths = np.zeros(count, dtype=np.int8)  # an id that no text has decodes to nothing
    readable = re.compile(r"[0-9*]{0,11}")
    for text, token_id in tokenizer.tokenizer.get_vocab(with_added_tokens=False).items():
        if readable.fullmatch(text) is None:
            lengths[token_id] = -1
            continue
        signs = [_STAR if sign == "*" else int(sign) for sign in text]
        lengths[token_id] = len(signs)
        characters[token_id, : len(signs)] = signs
    return torch.from_numpy(characters), torch.from_numpy(lengths)


def _number(signs_RC: Tensor, where_RC: Tensor, power_RC: Tensor) -> Tensor:
    """The decimal number that some digits make; of more digits than a side has, any large one."""
    worth_RC = torch.pow(10, power_RC.clamp(0, _DIGITS))
    return torch.where(where_RC, signs_RC * worth_RC, 0).sum(1)


def _pick(table_RK: Tensor, at_R: Tensor) -> Tensor:
    return table_RK.gather(1, at_R.clamp(0, table_RK.shape[1] - 1)[:, None])[:, 0]
