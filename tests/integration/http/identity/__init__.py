"""The API of identity: merge, split, identifiers, duplicates, assignment."""
