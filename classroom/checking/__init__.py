"""Runs a student's function, judges its answer, and explains in words what went wrong.

check       an exercise: its cases, its typical mistakes, its judgement
sandbox     run a student's function and explain in words what went wrong
timelimit   stop a call that takes too long
printed     what a student's function prints while it is checked
restore     what a student's function changed for the whole program, put back
compare     how many values of ours and of a library differ, and which
answers     is a student's answer the right one, and how does it read
verdict     passed or not, expected and got, hints, the name of a typical mistake
card        a small boxed message: text, HTML, light and dark
card_style  its colours and style sheet
"""
