"""What README, CONTRIBUTING and docs/ claim, against the code; no server."""
