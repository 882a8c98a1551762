"""Bad input from publishers, callers and files is refused with a reason and hurts nobody else."""
