"""Thumbnails on disk."""

from PIL import Image

from agit_hub.evaluation.thumbnails import ThumbnailFile


def test_stored_images_are_those_added() -> None:
    stored = ThumbnailFile((8, 4))
    colours = ("red", "blue", "white")
    first = stored.add([Image.new("RGB", (80, 40), colour) for colour in colours[:2]])
    second = stored.add([Image.new("RGB", (8, 8), colours[2])])
    del stored  # its file lives as long as its images
    assert [len(first), len(second)] == [2, 1]
    for image, colour in zip([*first, *second], colours, strict=True):
        assert image.tobytes() == Image.new("RGB", (8, 4), colour).tobytes()
    assert first[-1].tobytes() == first[1].tobytes() == first[1:][0].tobytes()
