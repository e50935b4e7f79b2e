"""Pixels and image codes: opening and resizing images, loading and running `Emu3VQVAE`."""
