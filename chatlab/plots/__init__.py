"""Plots: matplotlib figures of what chatlab measures.

In: a public result. Out: a `matplotlib.figure.Figure`, whose label is its alternative text. Knows nothing of pyplot,
its state or its windows.
"""
