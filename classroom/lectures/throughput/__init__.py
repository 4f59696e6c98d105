"""Lecture 4, throughput.

exercises    what is asked, to call as `check.name(function)`
cases        their cases and right answers, from torch's flop counter, real modules, definitions and bounds
mistakes     their typical mistakes
experiments  the same texts batched in several ways
figures      waste, packing, roofline, flames, speeds, FLOPs
claims       what is said about speed and hardware
benchmark    batching and packing, timed in turns
"""
