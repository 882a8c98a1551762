"""Import and export of customers and orders, as CSV and lines of JSON."""
