"""Tags of customers: the catalogue, those of one customer, and those of many at once."""
