"""Own fields: their definitions, and the values of customers."""
