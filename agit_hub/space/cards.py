"""A model's card as the page shows it."""

import re

_FRONT_MATTER = re.compile(r"\A\s*---\r?\n.*?^---\s*$", re.DOTALL | re.MULTILINE)
_IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)|<img\b[^>]*>", re.IGNORECASE)


def card_text(markdown: str) -> str:
    """Return a card without its front matter; of its images, which are not beside the page, a note."""
    text = _FRONT_MATTER.sub("", markdown, count=1)
    return _IMAGE.sub("*(an image: see the model's repository)*", text)
