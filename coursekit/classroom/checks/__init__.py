"""The exercises of the course, by lecture: what is asked, the truth, the typical mistakes.

formats           lecture 1: the exercises, to call as `check.name(function)`
formats_cases     their cases and right answers, from the standard library, numpy and ml_dtypes
formats_mistakes  their typical mistakes, each a small wrong program
amp               lecture 2: the exercises
amp_cases         their cases and right answers, from torch.amp, numpy, ml_dtypes and exact fractions
amp_mistakes      their typical mistakes
memory            lecture 3: the exercises
memory_cases      their cases and right answers, from torch, transformers, autograd and trying everything
memory_mistakes   their typical mistakes
throughput           lecture 4: the exercises
throughput_cases     their cases and right answers, from torch's flop counter, real modules, definitions and bounds
throughput_mistakes  their typical mistakes
"""
