"""The values of condition keys."""


def one_or_many(values):
    """A condition value: a single one as a string, so that plain operators work on it too, several as a list."""
    distinct = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else distinct


def by_lower_name(prefix, tags):
    """Condition keys prefix/name for tags. Key names ignore case, so names that differ only in case share one key
    with several values, which no single-valued operator matches."""
    found = {}
    for name, value in tags.items():
        found.setdefault(f"{prefix}/{name}".lower(), []).append(value)
    return {key: one_or_many(values) for key, values in found.items()}
