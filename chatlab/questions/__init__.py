"""Questions: what a learner is asked, and the proof that the answers are right.

In: files of questions. Out: quizzes, which mark answers and explain them. Knows nothing of widgets.
"""

__all__: list[str] = []
