"""Gives the world's policy whole-word ids for the language of instructions, function kept.

    python recipes/world/new_words.py START OUT SHARDS... [--count 1600]

The words are those that wordings of the shards' requests use most. The embedding of a new word starts at
that of the old word that means the same ("scarlet" at "red"), else at the mean of the old words, with a
little noise. Everything that the policy could write and read before it writes and reads as before.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from earl.config.stages import load_stage
from earl.data.shards import load_shards
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.trained import add_words
from earl.sequence.vocabulary import Vocabulary
from earl.training.parts import assemble_policy, save_model
from earl.world.language.drawing import draw_wording
from earl.world.language.tables import WORDS

LIKE = {
    "remove": "delete erase eliminate discard vanish disappear gone removed deleted erased eliminated "
    "cleared rid lose hide without cut thrown throw wipe leave away removing deleting erasing "
    "taking taken",
    "add": "insert include create introduce appear added inserted included created adding show draw "
    "drawn need missing",
    "replace": "exchange substitute replaced exchanged transform convert morph instead become "
    "transformed converted replacing",
    "paint": "dye tint spray recolor colour recolour painted colored coloured dyed tinted repaint "
    "painting coat",
    "smaller": "shrink reduce decrease downsize minimize minimise small little tiny mini miniature "
    "shrunk reduced less",
    "bigger": "enlarge expand magnify grow increase large big huge giant enormous larger enlarged "
    "expanded magnified",
    "stripes": "stripe striped stripy stripey banded",
    "plain": "unstriped unpatterned",
    "night": "nighttime midnight dark darkness",
    "daytime": "day daylight midday noon sunny",
    "sunset": "dusk sundown evening",
    "sepia": "vintage old antique",
    "pencil": "sketch drawing drawn",
    "meadow": "grass grassy lawn grassland",
    "desert": "sand sandy dunes",
    "snowy": "snow winter",
    "studio": "indoor",
    "background": "backdrop setting",
    "swap": "switch interchange trade places positions swapped switched swapping",
    "move": "shift bring push slide drag position moved placed moving shifted",
    "stack": "balance pile atop onto stacked balanced",
    "roll": "rolled rolling rolls nudge kick",
    "topple": "tip knock overturn upset fall toppled tipped knocked overturned lie lying falls",
    "open": "unlock flip opened unlocked lift raise inside",
    "gather": "line arrange align organize organise collect row lined arranged aligned everything",
    "exactly": "total",
    "object": "thing item shape one",
    "first": "1st",
    "second": "2nd",
    "third": "3rd",
    "left": "leftmost",
    "right": "rightmost",
    "front": "foreground nearest closest",
    "back": "rear farthest furthest",
}
"""Old words and new ones that begin at their embedding, beside the tables of `earl.world.language.tables`."""


def meanings() -> dict[str, str]:
    """New word -> old word of the same meaning."""
    found = {new: old for old, new_words in LIKE.items() for new in new_words.split()}
    for table in (WORDS["shape"], WORDS["color"]):
        for old, texts in table.items():
            found |= {text.split()[0]: old for text in texts if text != old}
            found |= {text.split()[0] + "s": old + "s" for text in texts if text != old}
    return found


def start_of(word: str, old: TextTokenizer, like: dict[str, str]) -> int | None:
    """The old id whose embedding a new word starts with."""
    bare = word.replace("Ġ", "").lower()
    for text in (f" {bare}", bare, f" {like.get(bare, '')}", like.get(bare, "")):
        ids = old.encode(text) if text.strip() else []
        if len(ids) == 1:
            return ids[0]
    return None


def grown_embeddings(
    weight: torch.Tensor, old: TextTokenizer, new: TextTokenizer
) -> tuple[torch.Tensor, int]:
    """The embeddings under the new ids, and how many new words start at an old word's."""
    before, after = old.vocabulary, new.vocabulary
    torch.manual_seed(0)
    text = weight[: before.first_special]
    known = [i for token, i in old.tokenizer.get_vocab().items() if token.startswith("Ġ") and len(token) > 3]
    middle, spread = text[known].mean(0), text[known].std(0)
    grown = torch.empty(after.size, weight.shape[1])
    grown[: before.first_special] = text
    like, placed = meanings(), 0
    for token, index in new.tokenizer.get_vocab().items():
        if index >= before.first_special:
            start = start_of(token, old, like)
            placed += start is not None
            base = text[start] if start is not None else middle
            grown[index] = base + (0.1 if start is not None else 0.5) * spread * torch.randn_like(middle)
    rest = slice(before.first_special, before.first_visual + before.codebook_size)
    grown[after.first_special : after.size] = weight[rest]
    return grown, placed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("start")
    parser.add_argument("out")
    parser.add_argument("shards", nargs="+")
    parser.add_argument("--count", type=int, default=1600, help="most new words")
    parser.add_argument("--draws", type=int, default=40_000, help="wordings in which words are counted")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    requests = [
        r for folder in options.shards for r in load_shards(folder).dataset.with_format(None)["request"]
    ]
    texts = [draw_wording(requests[int(i)], rng) for i in rng.integers(len(requests), size=options.draws)]
    recipe = load_stage(
        Path(__file__).parent / "language.toml", [f"model.start={options.start}", f"run.folder={options.out}"]
    )
    parts = assemble_policy(recipe, torch.device("cpu"))  # type: ignore[arg-type]
    tokenizer = add_words(parts.tokenizer, texts, count=options.count, least=options.draws // 4000)
    grown, placed = grown_embeddings(
        parts.policy.model.embed_tokens.weight.detach(), parts.tokenizer, tokenizer
    )
    _set_embeddings(parts.policy, grown, tokenizer.vocabulary)
    save_model(replace(parts, tokenizer=tokenizer), options.out, recipe, step=0)
    before, after = ([len(t.encode(x)) for x in texts[:4000]] for t in (parts.tokenizer, tokenizer))
    new = tokenizer.vocabulary.first_special - parts.tokenizer.vocabulary.first_special
    print(f"{new} new words, {placed} of them at an old word's embedding")
    print(f"ids of an instruction, mean: {np.mean(before):.1f} before, {np.mean(after):.1f} after")


def _set_embeddings(policy, grown: torch.Tensor, vocabulary: Vocabulary) -> None:
    policy.model.embed_tokens.weight = torch.nn.Parameter(grown)
    policy.model.embed_tokens.num_embeddings = vocabulary.size
    policy.lm_head.out_features = vocabulary.size
    policy.tie_weights()
    config = policy.config
    config.vocab_size = vocabulary.size
    config.pad_token_id, config.bos_token_id, config.eos_token_id = (
        vocabulary.pad,
        vocabulary.bos,
        vocabulary.eos,
    )


if __name__ == "__main__":
    main()
