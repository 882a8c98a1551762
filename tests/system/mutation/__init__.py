"""The checks themselves are checked: without what they guard, they fail."""
