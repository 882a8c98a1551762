"""Everything recomputed from the stored orders."""
