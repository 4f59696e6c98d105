"""Lecture 1, number formats.

exercises    what is asked, to call as `check.name(function)`
cases        their cases and right answers, from the standard library, numpy and ml_dtypes
mistakes     their typical mistakes, each a small wrong program
experiments  weights, activations and gradients of a small network
figures      layouts, ranges, spacing, running sums, histograms, blocks
claims       what is said about number formats
benchmark    codecs and roundings beside ml_dtypes, gfloat and torchao
"""
