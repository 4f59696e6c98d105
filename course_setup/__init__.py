"""How course.py sets the course up: bare Python, since nothing is installed yet when it runs.

common       sentences, errors, and programs that are waited for
checks       what a machine must have: Python's venv module, disk, a system that torch supports
environment  the virtual environment: made, mended after an interruption or a move, filled from the lock
torch_build  which build of torch is installed: the small one where no NVIDIA GPU is
tools        Node.js and a browser: found, or fetched
work         the student's own copies of notebooks and exercises
newest       the tests with the newest versions of everything: a canary
tasks        what each word after `course.py` does
"""
