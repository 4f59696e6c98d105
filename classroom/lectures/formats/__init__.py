"""Lecture 1, number formats.

exercises    question, truth and mistakes, to call as `check.name(function)`
experiments  sums in two accumulators; weights, activations and gradients of a small network
figures      layouts, ranges, spacing, running sums, histograms, blocks
claims       what is said about number formats
benchmark    codecs and roundings beside ml_dtypes, gfloat and torchao
"""
