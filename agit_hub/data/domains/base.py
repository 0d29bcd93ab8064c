"""What training and evaluation ask of a domain."""

from typing import Protocol

from PIL import Image

from agit_hub.data.ordering import Blocks


class Domain(Blocks, Protocol):
    """Pictures of one kind, numbered from 0 in each block."""

    def image(self, block: int, row: int) -> Image.Image:
        """The picture as RGB.

        Raises:
            PicturesError: If it cannot be had.
            Exception: Of almost any kind, if its data are damaged.
        """
        ...

    def describe(self, block: int, row: int) -> str:
        """Where the picture comes from, for messages."""
        ...
