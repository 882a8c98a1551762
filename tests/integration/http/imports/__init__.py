"""Files that are sent to the dashboard and the API."""
