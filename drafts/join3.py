import pathlib
root = pathlib.Path('/work/scratch/nb4')
p = root/'nb.py'
s = p.read_text()
def sub(old, new, count=1):
    global s
    assert s.count(old) == count, (s.count(old), old)
    s = s.replace(old, new)
sub('''# %% [markdown]
# **Assumptions**
''','''# %% [markdown]
# **Three more assignments** on the same subject are chapters of their own; `CHAPTERS` leaves them out.
#
# | Assignment | What was done | Section |
# |---|---|---|
# | B, gender recognition | the baseline of 544,593 parameters, seven experiments, an improved network, transfer from VGG16 and from the main network; a foreign test set, the literature, ethics; `make handin` builds the zip file | [9](#gender), [13](#ethics) |
# | C, two branches | an own network and ResNet50, both saved as `.h5`; trials, three seeds, curves | [10](#branches) |
# | D, age | a subclassed model with an own loop, all sizes, ReLU against linear, regression against classes, gender as help | [11](#subclassed) |

# %% [markdown]
# **Assumptions**
''')
sub('''# - **Terms.** UTKFace may be used''','''# - **Two genders are a limit of the labels.** A classifier of two labels has no answer for whoever is
#   neither, and calls people by what their face looked like to an annotator. Its errors fall on those
#   who look unlike the training pictures; wherever somebody is addressed, admitted or counted by it, a
#   wrong answer hurts and cannot be objected to. Ask people instead of guessing.
# - **Terms.** UTKFace may be used''')
p.write_text(s)
