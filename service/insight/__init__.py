"""The model of what customers do next: numpy and scipy, no I/O.

Only the process that fits and refreshes imports this package, because numpy and scipy cost it
70 MB and 0.3 s. Workers and web processes read what that process has stored.

The orders of one day count as one. Of each customer the model knows four facts: how many days
after the first they ordered on (`repeats`), the time from their first to their last order
(`recency`), the time from their first order until now (`age`), and what they spent.

Sources: Fader, Hardie and Lee, "Counting Your Customers the Easy Way" (Marketing Science 24, 2005)
for BG/NBD; Batislam, Denizel and Filiztekin (IJRM 24, 2007) for MBG/NBD; Fader and Hardie, "The
Gamma-Gamma Model of Monetary Value" (2013).
"""

import os

# Matrices are tiny here. The threads of OpenBLAS would wait for each other, busily: a fit took
# eight times the CPU time. numpy reads this when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
