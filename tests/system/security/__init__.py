"""Security: each known risk has a test, no secret is in the tree, every licence is known."""
