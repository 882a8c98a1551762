"""Files in and out: customers and orders, CSV and JSON lines."""
