"""The pages, and who may see them."""
