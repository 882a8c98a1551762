"""Read, edit and erase customers."""
