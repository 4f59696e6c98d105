"""The embedded language model: what it reads, what it is fine-tuned for, how it is made and loaded.

corpus      a grammar that says the same thing in many ways
task        the fine-tuning task: pairs, splits, exact match
train_tiny  the script that makes the model
"""
