"""Runs a student's function, judges its answer, and explains in words what went wrong.

exercise    question, truth and typical mistakes, declared together; called with a function it gives a verdict
answers     kinds of answers: is it the right one, is it a mistake's, and how does it read
diagnosis   which mistake explains the wrong answers
outline     name, title and minutes of a file's exercises, read without running it
sandbox     run a student's function and explain in words what went wrong
timelimit   stop a call that takes too long
printed     what a student's function prints while it is checked
restore     what a student's function changed for the whole program, put back
compare     how many values of ours and of a library differ, and which
verdict     passed or not, expected and got, hints, the name of a mistake
card        a small boxed message: text, HTML, light and dark
card_style  its colours and style sheet
"""
