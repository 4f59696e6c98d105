# %% [markdown]
# # Start here
#
# In ten minutes you will
#
# - know what your machine can do, and what works without the pieces it lacks;
# - have run a notebook of this course, made a prediction and seen how far it was;
# - know how the exercises and their checks work.
#
# About 10 minutes. Needs less than 1 GB of memory and no network.

# %% tags=["parameters"]
PROFILE = "ci"

# %%
print(PROFILE)
