"""Lecture 0, the Start page.

figures  what a fine-tune holds in memory
"""
