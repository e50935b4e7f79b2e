"""The world: procedural scenes, edits of them, and the words for both."""
