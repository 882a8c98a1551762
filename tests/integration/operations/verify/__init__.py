"""Each invariant, broken on purpose."""
