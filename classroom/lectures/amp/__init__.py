"""Lecture 2, mixed precision.

exercises    what is asked, to call as `check.name(function)`
cases        their cases and right answers, from torch.amp, numpy, ml_dtypes and exact fractions
mistakes     their typical mistakes
experiments  FP32, FP16, BF16 and their cures on the same fine-tune
figures      curves of recipes, gradients over ranges, scales, ledgers, flows
claims       what is said about mixed precision
benchmark    the scaler and the check of gradients beside torch's
"""
