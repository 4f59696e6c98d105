"""What authors and CI run: text sources -> notebooks, exercises, slides, pages, the claims register.

sources        where the written notebooks are, what names mean, how a source reads as a notebook
parameters     values for a notebook's `parameters` cell
kernel         one kernel, from its start to its end
watch          holds a running kernel to its memory and time
streams        what a cell prints, joined and cut
endings        the statuses of commands, and a sentence for every error
stop           Ctrl-C and SIGTERM end a command alike
execute        one notebook: seconds, peak memory, and where and why it failed
canonical      the one way to write a notebook, the same bytes from two builds
compare        does a committed notebook still show what its source gives?
stamps         what was built from what, so that a second build runs nothing
notebooks      build or check one committed notebook
exercises      exercise notebooks from solutions, by nbgrader's preprocessors
verdicts       run a student's exercise notebook and tell what its checks say
page           a notebook as one offline HTML file
report         progress, the table at the end, a failure with its cell
runner         run many notebooks and keep copies and pages
builder        build, or check, everything that is generated
slide_source   a deck read as slides, notes and cells
slide_lint     what a deck must keep to
slide_execute  a deck's cells run, its numbers filled in
slide_marp     executed Markdown to HTML, PDF, PowerPoint
slide_handout  slides and notes on A4
slides         build decks
claims         what others say, beside the function that computes the right figure
"""
