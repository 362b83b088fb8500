"""Cases: for each topic, the calls by which its exercises are checked.

In: nothing. Out: cases, some of them hidden. Knows nothing of learners.
"""

__all__: list[str] = []
