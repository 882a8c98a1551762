"""What docs/ claims, against running processes."""
