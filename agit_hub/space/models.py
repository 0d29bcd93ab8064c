"""The models that a Space offers, by names that tell them apart."""

from collections import Counter
from collections.abc import Sequence

from agit_hub.models.location import find_model
from agit_hub.shipped import shipped_models


def named_models(models: str | Sequence[str] | None) -> dict[str, str]:
    """Return the source of each model by its name.

    Args:
        models: Run folders, models' folders or files, or Hub repos; text holds several, separated by
            commas; those that ship with the project if there are none.

    Returns:
        Repos are named by themselves, and folders by their run or themselves: with as much of the path
        before it as tells two apart.

    Raises:
        ModelLoadError: If a path holds no model.
    """
    listed = models.split(",") if isinstance(models, str) else models or ()
    sources = list(dict.fromkeys(source.strip() for source in listed if source.strip()))
    if not sources:
        return {name: str(folder) for name, folder in shipped_models().items()}
    found = {source: find_model(source) for source in sources}
    # Two spellings of one folder are one model.
    folders = {
        (files.folder.resolve() / files.weights): source for source, files in found.items() if files
    }
    names = _tell_apart({source: _parts(source) for source in folders.values()})
    return {
        names.get(source, source): source
        for source, files in found.items()
        if files is None or source in names
    }


def _parts(source: str) -> list[str]:
    files = find_model(source)
    assert files is not None
    folder = files.folder.resolve()
    # A run's folder is the parent of its model's.
    at = folder.parent if files.name.removesuffix(" (best)") == folder.parent.name else folder
    return [*at.parent.parts, files.name]


def _tell_apart(parts: dict[str, list[str]]) -> dict[str, str]:
    """Return names of as few last parts as are different."""
    lengths = dict.fromkeys(parts, 1)
    while True:
        names = {source: "/".join(each[-lengths[source] :]) for source, each in parts.items()}
        counts = Counter(names.values())
        longer = [
            source
            for source, name in names.items()
            if counts[name] > 1 and lengths[source] < len(parts[source])
        ]
        if not longer:
            return names
        for source in longer:
            lengths[source] += 1
