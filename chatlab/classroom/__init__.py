"""The classroom: hand out the exercises, grade what comes back, all with nbgrader.

In: a folder of a course and of what learners handed in. Out: scores and feedback. Knows nothing of how an answer is
checked. It needs nbgrader, so nothing else imports it.
"""

__all__: list[str] = []
