"""Lecture 2, mixed precision.

exercises    question, truth and mistakes, to call as `check.name(function)`
experiments  FP32, FP16, BF16 and their cures on the same fine-tune
figures      curves of recipes, gradients over ranges, scales, ledgers, flows
claims       what is said about mixed precision
benchmark    the scaler and the check of gradients beside torch's
"""
