"""The meaning of the product in pure code: no I/O, no database, no web."""
