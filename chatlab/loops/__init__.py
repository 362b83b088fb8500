"""Loops: what is compiled, so that a token takes milliseconds.

In: where tensors lie in memory. Out: what is filled in there. Knows nothing of Python's objects, nor of texts.

    sizes, processor ─► arrays ─► lanes, parts, products ─► attention, layers ─► building ─► object_file

A model that is loaded takes its machine code from the object file; all the others are read once, to build it.
"""

__all__: list[str] = []
