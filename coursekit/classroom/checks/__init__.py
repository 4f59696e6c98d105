"""The exercises of the course. For each lecture: what is asked, the truth, and the typical mistakes.

formats            lecture 1: the exercises, to call as `check.name(function)` formats_cases      the cases of
lecture 1 and their right answers, from the standard library, numpy and ml_dtypes formats_mistakes   the
typical mistakes of lecture 1, each a small wrong program
"""
