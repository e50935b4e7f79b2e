"""Training of the vision tokenizer: images in, reconstructions out, a codebook between."""
