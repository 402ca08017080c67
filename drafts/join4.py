import pathlib
root = pathlib.Path('/work/scratch/nb4')
p = root/'nb.py'
s = p.read_text()
def sub(old, new, count=1):
    global s
    assert s.count(old) == count, (s.count(old), old)
    s = s.replace(old, new)
sub('''    f"{'low' if worst['bias'] < 0 else 'high'} on average."
)

''','''    f"{'low' if worst['bias'] < 0 else 'high'} on average."
)

# %% [markdown]
# ### How far off may one prediction be?
#
# The held-out half of validation says how far labels lie from predictions, in bands of predicted age:
# nine of ten lie within the interval. `predict.py` gives it with every age.

# %% tags=["functions"]
def fit_age_intervals(predictions, bands=8, share=0.9):
    """Learn how far the label may lie from a predicted age.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As ``predict_table`` returns it, of pictures that chose nothing.
    bands : int
        Of predicted age, with about as many pictures each.
    share : float
        How many labels the interval holds, in each band.

    Returns
    -------
    dict[str, list of float]
        ``from``: where the bands begin (years); ``low`` and ``high``: what to add to a
        predicted age of the band.

    Notes
    -----
    Split conformal prediction within bands: Lei et al., JASA 2018.
    """
    predicted = predictions["age_predicted"].to_numpy()
    error = predictions["age"].to_numpy() - predicted
    starts = np.unique(np.quantile(predicted, np.arange(bands) / bands).round(1))
    band = np.searchsorted(starts, predicted, side="right").clip(1)
    tails = (1 - share) / 2, (1 + share) / 2
    ends = [np.quantile(error[band == n + 1], tails) for n in range(len(starts))]
    low, high = np.round(ends, 2).T.tolist()
    return {"from": starts.tolist(), "low": low, "high": high}


def age_intervals(ages, table):
    """Look up the intervals around predicted ages.

    Parameters
    ----------
    ages : numpy.ndarray
        Predicted, in years.
    table : dict[str, list of float]
        As ``fit_age_intervals`` returns it.

    Returns
    -------
    tuple of numpy.ndarray
        Lower and upper ends, in years from 0 to 116.
    """
    band = np.searchsorted(table["from"], ages, side="right").clip(1) - 1
    low, high = (np.asarray(ages) + np.array(table[end])[band] for end in ("low", "high"))
    return low.clip(AGES[0], AGES[-1]), high.clip(AGES[0], AGES[-1])

# %%
intervals = {"mtl": fit_age_intervals(held_out)}
starts, low, high = (intervals["mtl"][key] for key in ("from", "low", "high"))
columns = [f"from {start:.0f}" for start in starts]
ends = [f"{below:+.0f} to {above:+.0f}" for below, above in zip(low, high, strict=True)]
ends = [text.replace("-", "−") for text in ends]
show_table(
    pd.DataFrame([ends], columns=columns).assign(**{"": "label lies"}).iloc[:, ::-1]
)

# %%
low, high = age_intervals(predictions["age_predicted"].to_numpy(), intervals["mtl"])
inside = predictions["age"].between(low, high)
answer(
    f"On the test images {100 * inside.mean():.1f} % of the labels lie in their interval, "
    f"which is {np.median(high - low):.0f} years wide in the middle."
)

''')
p.write_text(s)
