"""Lecture 4, throughput.

exercises    question, truth and mistakes, to call as `check.name(function)`
experiments  what notebook, deck and benchmark time: batchings, and training steps in several ways
figures      waste, packing, roofline, flames, speeds, FLOPs
claims       what is said about speed and hardware
benchmark    batching and packing, timed in turns
"""
