"""What authors and CI run: text sources -> notebooks, exercises, slides, pages, the claims register.

sources    where the written notebooks are, what names mean, how a source reads as a notebook, its parameters
stamps     what was built from what, so that a second build runs nothing
limits     what one notebook may take: memory and time under a watch, and how much it may print
execute    one notebook in a kernel: seconds, peak memory, and where and why it failed
runs       many notebooks: progress, the table at the end, a failure with its cell, copies and pages
page       a notebook as one offline HTML file
canonical  the committed form of a notebook: the same bytes from two builds, and what counts as a difference
exercises  exercise notebooks from solutions, by nbgrader's preprocessors
builder    builds, or checks, everything that is generated
verdicts   runs a student's exercise notebook and tells what its checks say
deck       a deck read as slides, notes and cells, and the rules it must keep
marp       executed Markdown to HTML, PDF, PowerPoint and an A4 handout
slides     builds decks: cells executed, numbers filled in
claims     what others say, beside the function that computes the right figure
endings    how a command ends: statuses, a sentence for every error, Ctrl-C and SIGTERM
"""
