"""Both cores are given the same, mutated at random, and have to make the same of it.

``make fuzz``, or ``python -m tests.fuzz``; some thousands of cases are part of ``make test``. All
is a function of the seed: a difference is found again by the number of its block.
"""
