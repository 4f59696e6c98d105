"""What this machine can do, and what is missing; light, and usable where half of the course is not installed.

doctor    all of these as one report, with the remedy for what is missing
host      cores, memory, disk, versions, tools: facts about this machine
gpu       the GPU that torch can use, or what is in the way of one that is there
packages  what the lectures need, which releases will do, whether they fit each other
trial     import the compiled packages in another process and let them compute
speed     which number formats this machine multiplies fast
browser   where Chrome, Edge or Chromium is on this machine
"""
