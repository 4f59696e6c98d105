"""What a notebook imports to teach; light, everything heavy is imported when it is needed.

card        a small boxed message: text, HTML, light and dark
card_style  its colours and style sheet
predict     a guess noted before the answer is shown
compare     how many values of ours and of a library differ, and which
show        source, one line of comparison, a takeaway, a budget
live        a loss curve that grows while a model trains
browser     where Chrome, Edge or Chromium is on this machine
machine     cores, memory, disk, versions, tools: facts about this machine
speed       which number formats this machine multiplies fast
doctor      both as one report, with what each missing piece disables
timelimit   stop a call that takes too long
sandbox     run a student's function and explain in words what went wrong
answers     is a student's answer the right one, and how does it read
verdict     passed or not, expected and got, hints, the name of a typical mistake
check       an exercise: its cases, its typical mistakes, its judgement
checks      the exercises, one module a lecture
"""
