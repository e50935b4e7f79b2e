"""Text and images as ids: vocabulary, tokenizer, layout, grammar, reasoning text. No torch here."""
