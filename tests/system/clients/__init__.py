"""Programs that a page prints for publishers and subscribers, run as they stand there."""
