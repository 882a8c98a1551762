"""Security of the API, of the checkout and of what is installed."""
