"""Lecture 3, memory.

exercises          question, truth and mistakes, to call as `check.name(function)`
experiments        what notebook and deck measure: the planner's errors, gradients, checkpointing, optimizers
figures            timelines and phases of a step, ledgers, saved tensors, errors, trade-offs, decisions
claims             what is said about memory
benchmark          optimizers and quantisers beside bitsandbytes and torch
planner_benchmark  the planner beside the allocator, and beside other people's formulas
"""
