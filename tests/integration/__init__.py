"""Tests on real PostgreSQL and Redis, in the same folders as the code (`worker`: `consumers/`)."""
