"""What a notebook imports to teach; light, everything heavy is imported when it is needed.

card        a small boxed message: text, HTML, light and dark
card_style  its colours and style sheet
predict     a guess noted before the answer is shown
compare     how many values of ours and of a library differ, and which
show        source, one line of comparison, a takeaway, a budget
live        a loss curve that grows while a model trains
browser     where Chrome, Edge or Chromium is on this machine
machine     cores, memory, disk, versions, tools: facts about this machine
gpu         the GPU that torch can use, or what is in the way of one that is there
packages    what the lectures need, which releases will do, whether they fit each other
trial       import the compiled packages in another process and let them compute
speed       which number formats this machine multiplies fast
doctor      all of these as one report, with the remedy for what is missing
timelimit   stop a call that takes too long
printed     what a student's function prints while it is checked
restore     what a student's function changed for the whole program, put back
sandbox     run a student's function and explain in words what went wrong
answers     is a student's answer the right one, and how does it read
verdict     passed or not, expected and got, hints, the name of a typical mistake
check       an exercise: its cases, its typical mistakes, its judgement
checks      the exercises, one module a lecture
"""
