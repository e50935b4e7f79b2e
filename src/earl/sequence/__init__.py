"""How text and images are written as ids: vocabulary, tokenizer, layout, grammar, reasoning text.

The one place that knows. No torch here.
"""

from earl.sequence.grammar import MAX_TEXT_TOKENS, Allowed, Grammar, GrammarState, Prefill
from earl.sequence.instruction import NEGATIVE_INSTRUCTION, check_instruction
from earl.sequence.kinds import Kind, completion_kinds
from earl.sequence.layout import (
    MAX_CELLS,
    ParsedCompletion,
    parse_completion,
    parse_image,
    parse_size,
    size_ids,
    write_completion,
    write_image,
    write_prompt,
)
from earl.sequence.reasoning import (
    CLOSING,
    MAX_REASONING_CHARACTERS,
    OPENING,
    clean_reasoning,
    format_box,
    join_chains,
    scale_box,
    scale_boxes,
)
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.trained import add_words, train_text_tokenizer
from earl.sequence.vocabulary import Vocabulary

__all__ = [
    "CLOSING",
    "MAX_CELLS",
    "MAX_REASONING_CHARACTERS",
    "MAX_TEXT_TOKENS",
    "NEGATIVE_INSTRUCTION",
    "OPENING",
    "Allowed",
    "Grammar",
    "GrammarState",
    "Kind",
    "ParsedCompletion",
    "Prefill",
    "TextTokenizer",
    "Vocabulary",
    "add_words",
    "check_instruction",
    "clean_reasoning",
    "completion_kinds",
    "format_box",
    "join_chains",
    "parse_completion",
    "parse_image",
    "parse_size",
    "scale_box",
    "scale_boxes",
    "size_ids",
    "train_text_tokenizer",
    "write_completion",
    "write_image",
    "write_prompt",
]
