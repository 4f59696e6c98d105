"""Lecture 0, the start page.

figures  what a fine-tune holds in memory
"""
