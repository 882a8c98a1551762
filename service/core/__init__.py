"""The meaning of the product in pure code: standard library and pydantic only."""
