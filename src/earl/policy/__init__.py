"""The policy: `transformers.Emu3ForCausalLM` loaded, saved, made from scratch, adapted and scored."""
