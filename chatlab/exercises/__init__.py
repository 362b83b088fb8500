"""Exercises: what a learner writes, and the checks that tell right from wrong.

In: files of exercises. Out: outcomes, hints and solutions. Knows nothing of widgets, and of what a grade is for.
"""

__all__: list[str] = []
