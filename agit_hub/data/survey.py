"""Look at the images of a domain before work begins: damaged ones, animations, depth."""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from PIL import Image

from agit_hub.data.domains.base import EmptyRowError, EncodedDomain, Location, locations
from agit_hub.data.domains.files import FilesDomain
from agit_hub.data.images import DEEP_MODES, UNREADABLE, has_wide_channels, open_encoded
from agit_hub.data.listing import DAMAGED, Skipped
from agit_hub.data.ranges import Values, read_values
from agit_hub.errors import DatasetError

_THREADS = 8
# Images whose values are read for the range.
_SAMPLE = 64
_NAMES = 3


class Header(NamedTuple):
    """What the header of an image file says."""

    mode: str
    format: str
    size: tuple[int, int]
    frames: bool
    """Whether there are several frames or pages."""
    wide: bool
    """Whether it has 16 bits in each of several channels, of which Pillow reads 8."""


class Survey(NamedTuple):
    """The headers of a domain's images, by location."""

    headers: dict[Location, Header]
    unreadable: list[Location]
    missing: list[Location]
    """Rows without an image."""
    sample: str = ""
    """Which images they are, if not all: `the first 32 images taken`."""

    def notes(self, domain: EncodedDomain) -> list[str]:
        """Return what is said about the images: frames that are not taken, bits that are not read.

        Damaged images are among it in a sample alone: those of a whole domain are left out of it.
        """
        animated = [where for where, header in self.headers.items() if header.frames]
        wide = [where for where, header in self.headers.items() if header.wide]
        notes = []
        if self.sample:
            damaged = Skipped()
            damaged.add(DAMAGED, *(domain.describe(*at) for at in self.unreadable))
            notes += damaged.sentences()
        if animated:
            notes.append(
                f"{len(animated)} animated or multi-page file{'s' * (len(animated) > 1)}: the first "
                f"frame of each is taken ({_names(domain, animated)})"
            )
        if wide:
            notes.append(
                f"{len(wide)} colour image{'s' * (len(wide) > 1)} of 16 bits: the upper 8 are read "
                f"({_names(domain, wide)})"
            )
        return self.of_sample(notes)

    def of_sample(self, notes: Sequence[str]) -> list[str]:
        """Return notes that say which images they are about, if not about all."""
        return [f"of {self.sample}: {note}" for note in notes] if self.sample else list(notes)

    def facts(self) -> dict[str, dict[str, int]]:
        """Return how many images have each size, mode and format, the most frequent first."""
        found = {
            "sizes": Counter(f"{h.size[0]}x{h.size[1]}" for h in self.headers.values()),
            "modes": Counter(h.mode for h in self.headers.values()),
            "formats": Counter(h.format for h in self.headers.values()),
        }
        return {key: dict(counts.most_common()) for key, counts in found.items()}


def survey(
    domain: EncodedDomain, places: Sequence[Location] | None = None, sample: str = ""
) -> Survey:
    """Read the headers of images.

    Args:
        domain: The images.
        places: Which; None for all.
        sample: How messages call them, if they are not all images.

    Raises:
        DatasetError: If images are unavailable.
    """
    places = list(locations(domain)) if places is None else places
    found = dict(zip(places, _headers(domain, places), strict=True))
    headers = {at: each for at, each in found.items() if isinstance(each, Header)}
    missing = [at for at, each in found.items() if isinstance(each, EmptyRowError)]
    unreadable = [at for at in places if at not in headers and at not in missing]
    return Survey(headers, unreadable, missing, sample)


def deep_values(domain: EncodedDomain, found: Survey) -> Values | None:
    """Return the values of a sample of the images with more than 8 bits; None if there is none."""
    places = [at for at, header in found.headers.items() if header.mode in DEEP_MODES]
    stride = max(1, len(places) // _SAMPLE)
    return read_values(list(_images(domain, places[::stride])))


def _images(domain: EncodedDomain, places: Sequence[Location]) -> Iterator[Image.Image]:
    for at in places:
        with suppress(UNREADABLE), open_encoded(domain.encoded(*at)) as image:
            image.load()
            yield image


def _headers(domain: EncodedDomain, places: Sequence[Location]) -> list[Header | Exception]:
    read = partial(_header, domain)
    if not isinstance(domain, FilesDomain):  # images of a shard wait for each other
        return [read(at) for at in places]
    # The first alone: where its archive cannot be fetched, the others would each retry in turn.
    first = [read(at) for at in places[:1]]
    with ThreadPoolExecutor(_THREADS) as threads:
        return [*first, *threads.map(read, places[1:])]


def _header(domain: EncodedDomain, at: Location) -> Header | Exception:
    """Return the header of an image, or why it cannot be read."""
    try:
        with open_encoded(domain.encoded(*at)) as image:
            frames = bool(getattr(image, "is_animated", False)) and image.format != "MPO"
            wide = has_wide_channels(image)
            return Header(image.mode, str(image.format), image.size, frames, wide)
    except DatasetError:
        raise
    except UNREADABLE as error:
        return error


def _names(domain: EncodedDomain, places: Sequence[Location]) -> str:
    names = [domain.describe(*at).rpartition("/")[2] for at in places[:_NAMES]]
    return ", ".join(names) + ", ..." * (len(places) > _NAMES)
