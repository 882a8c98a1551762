"""Recovery Essentials CRM: customer lifecycle segments from a shop's order events."""
