"""What the product means: pure, standard library and pydantic only."""
