"""Key-value cache of the samples in progress, and the steps that feed them.

One copy of a prompt's keys and values serves all its samples: they attend to it together, as one
matrix product. The samples' own go into memory that was set aside.

Axes: P prompts, G samples per prompt, R = P * G slots, M tokens fed, n tokens per slot at most,
H query heads, K key-value heads, E = H / K, D head dimension, L cached tokens, C hidden channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from earl.sampling.native.decoder import Decoder, PromptCache, keep_units
from earl.sampling.native.graphs import RecordedStep

# On a CPU, of more rows than this: tokens of a step are rounded up to a multiple, because oneDNN keeps a
# compiled product of each weight for each number of rows that it has met (75 MiB with guesses of 32 edits).
_ROWS = 32
_PADDED_TOKENS = 2  # a drawn id and the end of its row; longer feeds are rare and go unpadded


class Slots:
    """R = P * G samples in progress: their own keys and values, and the step that feeds them."""

    def __init__(
        self,
        decoder: Decoder,
        prompts: PromptCache,
        group: int,
        capacity: int,
        *,
        padded: bool = False,
        record: bool = False,
        longest_padded: int = _PADDED_TOKENS,
    ) -> None:
        """Allocate the keys and values of all slots.

        Args:
            prompts: their cache; prompt p owns the slots p * group to (p + 1) * group - 1.
            capacity: own tokens per slot that there is to be `room` for.
            padded: feed fixed shapes (what a GPU prefers).
            record: replay padded steps as CUDA graphs.
            longest_padded: tokens of a slot in a padded step at most, a power of 2.
        """
        self.decoder, self.prompts, self.group = decoder, prompts, group
        self.padded, self.record, self.longest_padded = padded, record, longest_padded
        self._recorded: dict[int, RecordedStep] = {}
        self.capacity = capacity = capacity + longest_padded  # room for padding behind the last token
        rows = len(prompts.lengths) * group * decoder.kv_heads
        D = decoder.head_dim
        self.keys, self.values = decoder.zeros(rows, D, capacity), decoder.zeros(rows, capacity, D)
        self._measure_prompts()

    @property
    def count(self) -> int:
        return len(self.prompts.lengths) * self.group

    @property
    def room(self) -> int:
        """Own tokens that a slot can hold."""
        return self.capacity - self.longest_padded

    def grow(self, room: int) -> None:
        """Make room for completions of so many ids, keeping what is there."""
        self._recorded.clear()
        if room == self.room:
            return
        capacity = room + self.longest_padded
        more = capacity - self.capacity
        self.keys = [F.pad(t, (0, more)) for t in self.keys]
        self.values = [F.pad(t, (0, 0, 0, more)) for t in self.values]
        self.rope = self.decoder.rope_table(self.longest + capacity)
        self.capacity = capacity

    def keep(self, prompts: list[int]) -> None:
        """Drop the slots of all other prompts."""
        chosen = torch.tensor(prompts, device=self.decoder.device)
        self._keep(chosen, self.group * self.decoder.kv_heads, chosen)

    def ungroup(self, slots: list[int]) -> None:
        """Keep some slots, each with a copy of its prompt's keys and values."""
        chosen = torch.tensor(slots, device=self.decoder.device)
        self._keep(chosen, self.decoder.kv_heads, torch.div(chosen, self.group, rounding_mode="floor"))
        self.group = 1

    def _keep(self, units: Tensor, rows: int, prompts: Tensor) -> None:
        """Keep some units of so many rows of the cache each, and these prompts."""
        self._recorded.clear()
        self.keys = [keep_units(t, units, rows) for t in self.keys]
        self.values = [keep_units(t, units, rows) for t in self.values]
        self.prompts = self.prompts.keep(prompts, self.decoder.kv_heads)

    def merge(self, other: Slots, order: list[int]) -> None:
        """Take over another's slots; both have one slot a prompt.

        Args:
            order: of the slots afterwards, as indices into this one's followed by the other's.
        """
        room, longest_padded = max(self.room, other.room), max(self.longest_padded, other.longest_padded)
        for slots in (self, other):
            slots.longest_padded = longest_padded
            slots.grow(room)
        self.prompts = self.prompts.merge(other.prompts)
        self.keys = [torch.cat(pair) for pair in zip(self.keys, other.keys, strict=True)]
        self.values = [torch.cat(pair) for pair in zip(self.values, other.values, strict=True)]
        self.keep(order)
        self._measure_prompts()

    def _measure_prompts(self) -> None:
        self.longest = self.prompts.values[0].shape[1]
        self.rope = self.decoder.rope_table(self.longest + self.capacity)
        self._even = bool((self.prompts.lengths == self.longest).all())

    def holds(self, other: Slots) -> bool:
        """Whether another's prompts and completions are short enough for slots of this one."""
        return other.longest <= self.longest and other.room <= self.room

    def put(self, slots: list[int], other: Slots) -> None:
        """Write another's slots over some of this one's; both have one slot a prompt."""
        chosen = torch.tensor(slots, device=self.decoder.device)
        self.prompts.put(chosen, other.prompts, self.decoder.kv_heads)
        self._even = bool((self.prompts.lengths == self.longest).all())

    @torch.inference_mode()
    def feed(self, tokens: Sequence[Sequence[int]], starts: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Feed each slot its next tokens and give the hidden state after each.

        Args:
            tokens: per slot, ids to feed; none for a slot that rests.
            starts: per slot, how many of its completion's own tokens are cached. What was cached from
                there on, as of guesses that were wrong, is written over.

        Returns:
            hidden states after the final norm, (M, C), and by slot the row of its first token, the
            others being in the rows below; rows of padding, and of slots that rest, mean nothing.
        """
        n = max(len(ids) for ids in tokens)
        if self.padded and n <= self.longest_padded:
            n = 1 << (n - 1).bit_length()  # 1, 2, 4, ..: few shapes, as each is recorded
            return self._feed_padded(tokens, starts, n), [slot * n for slot in range(len(tokens))]
        ends = itertools.accumulate(map(len, tokens))
        firsts = [end - len(ids) for end, ids in zip(ends, tokens, strict=True)]
        return self._feed_exactly(tokens, starts, n), firsts

    def _feed_exactly(self, tokens: Sequence[Sequence[int]], starts: Sequence[int], n: int) -> Tensor:
        """Only the tokens that are there go through the layers, and queries look no further than needed."""
        device = self.decoder.device
        dense = all(len(ids) == n for ids in tokens)
        flat = [
            (token, slot, start + offset, slot * n + offset)
            for slot, (ids, start) in enumerate(zip(tokens, starts, strict=True))
            for offset, token in enumerate(ids)
        ]
        ids_M, slot_M, position_M, place_M = torch.tensor(flat, device=device).unbind(1)
        reach = max(start + len(ids) for ids, start in zip(tokens, starts, strict=True) if ids)
        start = starts[0] if dense and len(set(starts)) == 1 else None
        mask = None
        if not (self._even and n == 1 and start is not None):
            at_Rn = torch.full((self.count * n,), reach, device=device)
            at_Rn[place_M] = position_M
            mask = self.mask(at_Rn.view(-1, n), reach)
        return self.step(ids_M, slot_M, position_M, n, reach, mask, None if dense else place_M, start)

    def _feed_padded(self, tokens: Sequence[Sequence[int]], starts: Sequence[int], n: int) -> Tensor:
        """Fixed shapes, so that the step can be recorded: every slot feeds n tokens.

        Padding tokens write past their slot's real ones; the real token of each place is written
        over them before anything looks there.
        """
        device = self.decoder.device
        rows = [[*ids, *[0] * (n - len(ids))] for ids in tokens]
        ids_M = torch.tensor(rows, device=device).view(-1)
        start_R = torch.tensor(starts, device=device).clamp_max(self.capacity - n)
        position_M = (start_R[:, None] + torch.arange(n, device=device)).view(-1)
        if not self.record:
            return self._padded_step(ids_M, position_M)
        if (
            n not in self._recorded
        ):  # recording runs the step on these very tokens, so it writes nothing wrong
            self._recorded[n] = RecordedStep(self._padded_step, ids_M, position_M)
        return self._recorded[n](ids_M, position_M)

    def _padded_step(self, ids_M: Tensor, position_M: Tensor) -> Tensor:
        n = len(ids_M) // self.count
        slot_M = torch.arange(self.count, device=ids_M.device).repeat_interleave(n, output_size=len(ids_M))
        mask = self.mask(position_M.view(-1, n), self.capacity)
        return self.step(ids_M, slot_M, position_M, n, self.capacity, mask, None)

    def mask(self, at_Rn: Tensor, reach: int) -> Tensor:
        """0 where a query may look and -inf where not: (P, G, 1, n * E, longest prompt + reach)."""
        decoder = self.decoder
        P, E, n = len(self.prompts.lengths), decoder.heads // decoder.kv_heads, at_Rn.shape[1]
        column = torch.arange(self.longest + reach, device=decoder.device)
        prompt = column < self.prompts.lengths.view(P, 1, 1, 1)
        own = (column >= self.longest) & (column - self.longest <= at_Rn.view(P, self.group, n, 1))
        seen = (prompt | own).view(P, self.group, 1, n, 1, -1).expand(-1, -1, -1, -1, E, -1)
        mask = torch.zeros(seen.shape, dtype=decoder.dtype, device=decoder.device)
        return mask.masked_fill_(~seen, float("-inf")).flatten(3, 4)

    def step(
        self,
        ids_M: Tensor,
        slot_M: Tensor,
        position_M: Tensor,
        n: int,
        reach: int,
        mask: Tensor | None,
        place_M: Tensor | None,
        start: int | None = None,
    ) -> Tensor:
        """The layers for M tokens, on tensors alone (a CUDA graph can hold it): (M, C), normed.

        Args:
            ids_M, slot_M, position_M: token, its slot, its place in the slot's own cache.
            n: tokens per slot at most.
            reach: how far into the own cache queries look.
            mask: from `mask`, or None where every query sees everything up to `reach`.
            place_M: index of each token in (R, n); None where every slot feeds n tokens, in order.
            start: where all slots write from, if every slot feeds n tokens at the same place.
        """
        decoder = self.decoder
        K, D, M = decoder.kv_heads, decoder.head_dim, len(ids_M)
        where = self.prompts.lengths[torch.div(slot_M, self.group, rounding_mode="floor")] + position_M
        # Rows of padding, which nothing reads: see _ROWS.
        more = -M % _ROWS if M > _ROWS and ids_M.device.type == "cpu" else 0
        where, ids_M = F.pad(where, (0, more)), F.pad(ids_M, (0, more))
        rope = (self.rope[0][where], self.rope[1][where])
        x = decoder.embed(ids_M)
        for index, layer in enumerate(decoder.weights.layers):
            q, k, v = (rows[:M] for rows in decoder.qkv(x, layer, rope))
            keys = self.keys[index].view(-1, K, D, self.capacity)
            values = self.values[index].view(-1, K, self.capacity, D)
            if start is None:
                keys[slot_M, :, :, position_M] = k
                values[slot_M, :, position_M] = v
            else:
                keys[..., start : start + n] = k.view(-1, n, K, D).permute(0, 2, 3, 1)
                values[:, :, start : start + n] = v.view(-1, n, K, D).transpose(1, 2)
            if place_M is not None:
                q = q.new_zeros(self.count * n, *q.shape[1:]).index_copy_(0, place_M, q)
            mixed = self._attend(q, index, n, reach, mask)
            if place_M is not None:
                mixed = mixed[place_M]
            x = x + layer.out(F.pad(mixed, (0, 0, 0, more)))
            x = x + decoder.mlp(x, layer)
        return decoder.norm(x[:M], decoder.weights.norm)

    def _attend(self, q: Tensor, index: int, n: int, reach: int, mask: Tensor | None) -> Tensor:
        """Attention of (R * n, H, D) queries to their prompt and to their own tokens: (R * n, H * D)."""
        K, D, G = self.decoder.kv_heads, self.decoder.head_dim, self.group
        P, E = len(self.prompts.lengths), self.decoder.heads // K
        L, nE = self.longest, n * E
        q = q.view(P, G, n, K, E, D)
        own_q = q.transpose(2, 3).reshape(P * G * K, nE, D)
        prompt_q = q.permute(0, 3, 1, 2, 4, 5).reshape(P * K, G * nE, D)
        prompt_scores = torch.bmm(prompt_q, self.prompts.keys[index]).view(P, K, G, nE, L).transpose(1, 2)
        own_scores = torch.bmm(own_q, self.keys[index][:, :, :reach]).view(P, G, K, nE, reach)
        scores = torch.cat([prompt_scores, own_scores], dim=-1)
        if mask is not None:
            scores += mask
        weights = scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
        prompt_w = weights[..., :L].transpose(1, 2).reshape(P * K, G * nE, L)
        own_w = weights[..., L:].reshape(P * G * K, nE, reach)
        prompt_out = torch.bmm(prompt_w, self.prompts.values[index]).view(P, K, G, nE, D).transpose(1, 2)
        out = prompt_out + torch.bmm(own_w, self.values[index][:, :reach]).view(P, G, K, nE, D)
        return out.view(P, G, K, n, E * D).transpose(2, 3).reshape(P * G * n, K * E * D)
