"""What is expected of customers: gather facts, store models, refresh outlooks, read them.

`fit` and `refresh` import the model, and with it numpy. Only the process that fits imports these
two; everybody else reads what it stored.
"""
