"""Rows that a lecture contributes to a page.

claim  what others say, beside the function that computes the right figure
race   ours and the peers timed in turns, in one process
"""
