"""Plots: what the other modules measure, drawn with matplotlib; each picture comes with its description in words."""
