"""The verifier of the world: reads scenes from pixels and scores edits of them."""
