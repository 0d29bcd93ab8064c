"""Models and example images that ship with the project.

In a checkout the models are in `models/` and `space/models/`, and the images in `space/examples/`; an
installed package has the small model and the images, in `agit_hub/space/`; a Space's bundle has all
models beside its `app.py`.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent
_ASSETS = _PACKAGE / "space" if (_PACKAGE / "space/models").is_dir() else _CHECKOUT / "space"
# A folder for each label, and the credits.
EXAMPLES = _ASSETS / "examples"
SMALL_MODEL = _ASSETS / "models" / "agit-shapes"
_PHOTOGRAPHS = ("agit-horse2zebra", "agit-apple2orange")
_IMAGES = (".jpg", ".png", ".webp")


def shipped_models(*places: Path) -> dict[str, Path]:
    """Return the folder of each model by its name: those of photographs, if they are here, first.

    Args:
        places: Folders of models where each is looked for first, such as that of a Space's bundle.
    """
    places = (*places, _CHECKOUT / "models", SMALL_MODEL.parent)
    return {
        name: place / name
        for name in (*_PHOTOGRAPHS, SMALL_MODEL.name)
        for place in reversed(places)  # the first one has the last word
        if (place / name / "config.json").is_file()
    }


def example_label(name: str) -> str | None:
    """Return the label of the example image with this file name, or None."""
    return next((path.parent.name for path in EXAMPLES.glob("*/*") if path.name == name), None)


def example_images(label: str) -> list[Path]:
    """Return the example images of a label, such as `horse`; none for a label without them."""
    folder = EXAMPLES / label
    if Path(label).name != label or not folder.is_dir():  # a label is a person's: not a path
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in _IMAGES)
