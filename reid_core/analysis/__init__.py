"""Tensors in, arrays out: what the pages draw, usable from a notebook.

Nothing here names a model, reads a file or knows a screen. What a tensor means comes from its
probe's kind and from `model.tokens(probe)`.
"""
