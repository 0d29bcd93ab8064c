"""An image upload that is passed on as a file: uploaded, or sent by a program as base64 text."""

import base64
import binascii
import mimetypes
from pathlib import Path
from typing import Any, Self

import gradio as gr
from gradio.data_classes import FileData
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from agit_hub.data.images import open_image
from agit_hub.space.limits import MAX_MEGABYTES, MAX_MEGAPIXELS

_MARK = {"_type": "gradio.FileData"}
_LIMITS = f"a file of at most {MAX_MEGAPIXELS} megapixels and {MAX_MEGABYTES} MB"
_EXPECTED = (
    "send a file (gradio_client.handle_file), or its content as "
    '{"url": "data:image/png;base64,..."}'
)
DESCRIPTION = (
    f"The image: {_LIMITS}, uploaded, or its "
    'content as {"url": "data:image/png;base64,..."}. Web addresses are not fetched.'
)
MASK_DESCRIPTION = (
    "Where the image may change: white; black stays as it is, and grey changes partially. None for "
    f"everywhere, or {_LIMITS}, sent as the image is, with the image's aspect ratio."
)


class UploadedFile(FileData):
    """An uploaded file; of what programs send, anything else that is an image becomes one."""

    @classmethod
    def model_validate(cls, obj: Any, *, context: Any = None, **options: Any) -> Self:
        """Check what a request holds; Gradio checks only files with its own mark.

        Raises:
            gr.Error: If it is no upload and no image as text.
        """
        if context and context.get("validate_meta"):
            obj = _received(obj)
        return super().model_validate(obj, context=context, **options)


class UploadedImage(gr.Image):
    """An image component that passes its file on unopened, for `open_upload`."""

    is_template = True  # Gradio's term for a component that looks like its parent
    data_model = UploadedFile  # type: ignore[assignment]

    def api_info(self) -> dict[str, Any]:
        """Describe the parameter for programs and agents; Gradio takes the docstring of its class."""
        info = dict(super().api_info())
        return info | {
            "title": "Image",
            "description": DESCRIPTION,
            "additional_description": DESCRIPTION,
        }

    def example_payload(self) -> Any:
        """Return an example for the API page; Gradio's is an address, which is not fetched here."""
        return {"path": "image.png", "meta": _MARK}

    def preprocess(self, payload: Any) -> str | None:
        """Return the file's path, unopened."""
        return None if payload is None else str(Path(payload.path).resolve())


def open_upload(path: str) -> Image.Image:
    """Open an uploaded image within the Space's limits.

    Raises:
        ImageError: If it is no image, damaged or too large.
    """
    return open_image(path, max_pixels=MAX_MEGAPIXELS * 10**6, max_bytes=MAX_MEGABYTES * 10**6)


def _received(value: Any) -> dict[str, Any]:
    """Return the fields of a file among the uploads."""
    fields = value if isinstance(value, dict) else {"url": value}
    path, url = fields.get("path"), fields.get("url")
    if isinstance(url, str) and url.startswith("data:"):
        return {"path": _decode(url), "meta": _MARK}
    text = path if isinstance(path, str) and path else url
    if not isinstance(text, str) or not text:
        raise _refusal(f"The image cannot be read from {type(value).__name__} data: {_EXPECTED}.")
    if text.startswith(("http://", "https://")):
        raise _refusal(f"The image is an address, which is not fetched here: {_EXPECTED}.")
    if not Path(text).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        raise _refusal(f"This is not an upload: {_EXPECTED}.")
    return {"path": text, "meta": _MARK}


def _decode(url: str) -> str:
    """Write the image in a `data:` URL to a file among the uploads, and return its path."""
    head, _, text = url.partition(",")
    if len(text) * 3 / 4 > MAX_MEGABYTES * 10**6:
        raise _refusal(f"The image has more than {MAX_MEGABYTES} MB, which is the limit.")
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data or not head.endswith(";base64"):
        raise _refusal(f"The image's data URL holds no base64 text: {_EXPECTED}.")
    kind = head.removeprefix("data:").partition(";")[0]
    suffix = mimetypes.guess_extension(kind) or ".png"
    return str(save_bytes_to_cache(data, f"image{suffix}", get_upload_folder()))


def _refusal(message: str) -> gr.Error:
    return gr.Error(message, title="Invalid input", print_exception=False)


# Gradio writes a stub beside each custom component, which type checkers would use.
Path(__file__).with_suffix(".pyi").unlink(missing_ok=True)
