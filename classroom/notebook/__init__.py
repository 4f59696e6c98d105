"""The functions that the cells of a notebook call; `classroom` hands their names on.

predict  note a guess before the answer is shown
show     show source, one line of comparison, a takeaway, a budget
live     draw a loss curve that grows while a model trains
"""
