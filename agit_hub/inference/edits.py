"""Edits of attention, declared once: pipelines, the command line, the Space and its API use these.

NumPy and SciPy are imported on use, so that `agit --help` does not wait for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agit_hub.errors import EditError

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image

    from agit_hub.inference.attention_maps import Map

    Mask = npt.ArrayLike | Image.Image
    MaskOrPath = Mask | str | Path
Point = tuple[float, float]
Box = tuple[float, float, float, float]

# A wider blur takes minutes on a large image.
MAX_FEATHER = 500


class EditOption(NamedTuple):
    """How a field of `AttentionEdits` is offered as an option."""

    help: str
    flag: str = ""
    """Its option on the command line; none if empty."""
    metavar: str = ""
    """The numbers that the option takes, such as `X,Y`."""
    slider: tuple[float, float] | None = None
    """Maximum and step of a slider that starts at 0."""


def _edit(default: Any, help: str, **options: Any) -> Any:
    return field(default=default, metadata={"option": EditOption(help, **options)})


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionEdits:
    """How the network's map becomes the final one; fields apply in this order.

    A mask is a map (H, W) in [0, 1], booleans, or a greyscale image, resized to the image's size. `mask`
    may also be bytes or a file, and must have the aspect ratio of the image.
    Points and boxes are in pixels of the upright image: x to the right, y downwards.

    Raises:
        EditError: If a value is out of range, or a mask is invalid.
    """

    attention: "Mask | None" = _edit(None, "A mask that replaces the network's map.")
    invert: bool = _edit(False, "Change the background instead: use 1 - map.", flag="--invert")
    threshold: float | None = _edit(
        None,
        "Attention below it becomes exactly 0; 0 to 1, by default the model's own.",
        flag="--threshold",
        slider=(1, 0.01),
    )
    points: Sequence[Point] = _edit(
        (),
        "Change only the object (connected part of the map) at this point; repeatable.",
        flag="--point",
        metavar="X,Y",
    )
    strict_points: bool = _edit(True, "Whether a point without attention is an error.")
    region: "Mask | Box | None" = _edit(
        None, "Change nothing outside this box, in pixels.", flag="--region", metavar="L,T,R,B"
    )
    paint: "Mask | None" = _edit(None, "A mask: attention is at least this.")
    erase: "Mask | None" = _edit(None, "A mask: attention is reduced by this share.")
    mask: "MaskOrPath | None" = _edit(
        None, "Change nothing where this mask or its file is black, all where it is white."
    )
    feather: float = _edit(
        0.0,
        "Pixels over which the map's edges fade, within region, erase and mask.",
        flag="--feather",
        slider=(40, 1),
    )
    strength: float = _edit(
        1.0, "Factor on the final map, 0 to 1.", flag="--strength", slider=(1, 0.01)
    )

    def __post_init__(self) -> None:
        import numpy as np

        from agit_hub.inference.attention_maps import as_map, as_mask, is_box

        if self.threshold is not None:
            _check_range("threshold", self.threshold, 1)
        _check_range("strength", self.strength, 1)
        _check_range("feather", self.feather, MAX_FEATHER)
        for point in self.points:
            if np.shape(point) != (2,):
                raise EditError(f"points contains {point!r}; a point is (x, y), in pixels.")
        # Converted once here instead of once for every image.
        for name in ("attention", "region", "paint", "erase"):
            mask = getattr(self, name)
            if mask is not None and not (name == "region" and is_box(mask)):
                object.__setattr__(self, name, as_map(mask, name))
        if self.mask is not None:
            object.__setattr__(self, "mask", as_mask(self.mask))

    @classmethod
    def options(cls) -> dict[str, EditOption]:
        """Return how each field is offered as an option, by its name."""
        return {each.name: each.metadata["option"] for each in fields(cls)}


def apply_edits(network_map: "Map", edits: AttentionEdits, threshold: float) -> "Map":
    """Compute the final map for compositing.

    Args:
        network_map: The network's map at the image's size, (H, W) in [0, 1].
        edits: The edits.
        threshold: The model's own tau, in [0, 1].

    Returns:
        (H, W) in [0, 1]; exactly 0 where the image must not change.

    Raises:
        EditError: If a point, a box or the mask does not match the image or its map.
    """
    import numpy as np

    from agit_hub.inference import attention_maps as maps
    from agit_hub.inference.object_selection import select_objects

    size = network_map.shape[1], network_map.shape[0]
    own = edits.attention
    attention = network_map if own is None else maps.resize_map(own, size)
    if edits.invert:
        attention = 1 - attention
    tau = threshold if edits.threshold is None else edits.threshold
    attention = maps.apply_threshold(attention, tau)
    if len(edits.points):
        attention = select_objects(attention, edits.points, edits.strict_points)
    # What region, erase and mask allow, whatever is blurred afterwards.
    limit = np.ones_like(attention)
    if edits.region is not None:
        inside = maps.box_map if maps.is_box(edits.region) else maps.resize_map
        limit = inside(edits.region, size)
        attention = attention * limit
    if edits.paint is not None:
        painted = maps.resize_map(edits.paint, size)
        attention, limit = np.maximum(attention, painted), np.maximum(limit, painted)
    if edits.erase is not None:
        kept = 1 - maps.resize_map(edits.erase, size)
        attention, limit = attention * kept, limit * kept
    if edits.mask is not None:
        kept = maps.fit_mask(edits.mask, size)  # type: ignore[arg-type]  # converted
        attention, limit = attention * kept, limit * kept
    if edits.feather:
        attention = np.minimum(maps.feather_edges(attention, edits.feather), limit)
    return attention * np.float32(edits.strength) if edits.strength != 1 else attention


def _check_range(name: str, value: Any, high: float) -> None:
    import numpy as np

    # NaN is in no range.
    if not (isinstance(value, int | float | np.number) and 0 <= value <= high):
        raise EditError(f"{name} is {value!r}; it must be between 0 and {high:g}.")
