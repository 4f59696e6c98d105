"""What a cell of a notebook calls; `classroom` hands the names on.

predict  a guess noted before the answer is shown
show     source, one line of comparison, a takeaway, a budget
live     a loss curve that grows while a model trains
"""
