"""Evidence: for each topic, the functions that prove the answers of its questions on the engine.

In: a question, and a model. Out: the answer that the engine gives. Knows nothing of the authors' keys.
"""

__all__: list[str] = []
