"""The deployment's files and plans, as they stand in the checkout."""
