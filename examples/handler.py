"""A handler for Hugging Face Inference Endpoints: copy it into a model's repository as `handler.py`.

A request is JSON: `inputs` is an image as base64 text, and `parameters`, all optional, are `to` (one of
the model's two labels) and attention edits: `threshold`, `invert`, `points`, `region`, `feather`,
`strength`. The response has the translation and the attention over it as base64 text of PNG files. The
repository needs a `requirements.txt` beside it that names the package.
"""

import base64
import io
import tempfile
from typing import Any

from PIL import Image

from agit_hub import AGITPipeline, AttentionEdits
from agit_hub.data.images import open_image
from agit_hub.errors import AgitError

EDITS = ("threshold", "invert", "points", "region", "feather", "strength")
# A small file can hold a huge image, so the size in its header is checked before it is decoded.
MAX_PIXELS = 24_000_000
MAX_BYTES = 40_000_000


class EndpointHandler:
    """Translates one image per request.

    Args:
        path: The folder of the model's repository.
    """

    def __init__(self, path: str = "") -> None:
        self._pipe = AGITPipeline.from_pretrained(path)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Translate `data["inputs"]`, base64 text or a PIL image.

        Returns:
            `image` and `attention` (PNG as base64 text) and `label`; or `error`, a sentence that says
            what was wrong with the request.
        """
        try:
            parameters = dict(data.get("parameters") or {})
            to = parameters.pop("to", None) or self._pipe.model.config.target_label
            if unknown := sorted(set(parameters) - set(EDITS)):
                known = ", ".join(("to", *EDITS))
                return {"error": f"Unknown parameters: {', '.join(unknown)}; known are {known}."}
            prediction = self._pipe.predict(_open(data.get("inputs")), to=to)
            rendering = prediction.render(AttentionEdits(**parameters))
        except (AgitError, ValueError, TypeError) as error:
            return {"error": str(error)}
        return {
            "label": to,
            "image": _encode(rendering.image),
            "attention": _encode(rendering.overlay()),
        }


def _open(inputs: Any) -> Image.Image:
    """Return the image of a request.

    Raises:
        ValueError: If it is no image, or too large.
    """
    if isinstance(inputs, Image.Image):
        return inputs
    if not isinstance(inputs, str):
        raise ValueError("inputs is missing: an image as base64 text.")
    try:
        content = base64.b64decode(inputs.rpartition(",")[2], validate=True)
    except ValueError:
        raise ValueError("inputs is not base64 text of an image.") from None
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return open_image(file.name, "The image", max_pixels=MAX_PIXELS, max_bytes=MAX_BYTES)


def _encode(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()
