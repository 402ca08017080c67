# %% tags=["functions"]
def attempt(chapter, work, *arguments):
    """Do a chapter's work; where it is not asked for or fails, say so and go on.

    Parameters
    ----------
    chapter : str
        ``"B"``, ``"C"`` or ``"D"``.
    work : callable
    *arguments
        For ``work``.

    Returns
    -------
    object or None
        What ``work`` returns; None where it was not done, after a table that says why.
    """
    if chapter not in CHAPTERS:
        show_table(not_done(chapter, f"CHAPTERS is {CHAPTERS!r}: add {chapter} to it."))
        return None
    try:
        return work(*arguments)
    except Exception as why:  # the other chapters go on, whatever it is
        show_table(not_done(chapter, f"{type(why).__name__}: {why}"))
        return None


def not_done(what, why):
    """Say in a table what was not done, and why.

    Parameters
    ----------
    what, why : str

    Returns
    -------
    pandas.DataFrame
    """
    return pd.DataFrame({"Not done": [what], "Why, and what helps": [why]})
