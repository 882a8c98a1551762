"""What happens in Postgres."""
