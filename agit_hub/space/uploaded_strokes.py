"""The brush's layer as a file, which is opened with limits as every upload."""

from functools import wraps
from pathlib import Path
from threading import Lock
from typing import Any

import gradio as gr
from cachetools import LRUCache
from gradio.components.base import server
from gradio.components.image_editor import AcceptBlobs
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from agit_hub.space.limits import MAX_BRUSH_MEGABYTES

_STORED_MEGABYTES = 16 * MAX_BRUSH_MEGABYTES


class UploadedStrokes(gr.ImageEditor):
    """An image editor that passes on the file of its first layer unopened.

    Gradio's own opens every layer, the background and their composite, of any size, and keeps what pages
    send in memory until it is used.
    """

    is_template = True  # Gradio's term for a component that looks like its parent

    # Gradio reads the page's settings from the signature.
    @wraps(gr.ImageEditor.__init__)  # type: ignore[misc]  # of a constructor
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._layers = LRUCache[str, bytes](_STORED_MEGABYTES * 10**6, getsizeof=len)
        self._lock = Lock()

    def preprocess(self, payload: Any) -> str | None:  # type: ignore[override]
        """Return the path of the first layer's file; None if nothing is painted."""
        if payload is None:
            return None
        if payload.id is not None:
            with self._lock:
                data = self._layers.get(payload.id)
            return save_bytes_to_cache(data, "layer.png", get_upload_folder()) if data else None
        return str(Path(payload.layers[0].path).resolve()) if payload.layers else None

    @server  # type: ignore[untyped-decorator]
    def accept_blobs(self, data: AcceptBlobs) -> None:
        """Keep the first layer that a page sends; the background is known, the composite not needed."""
        fields = data.data
        if fields["type"] == "layer" and str(fields["index"]) == "0":
            content = data.files[0][1]
            if len(content) > MAX_BRUSH_MEGABYTES * 10**6:
                raise gr.Error(
                    f"The painted layer has more than {MAX_BRUSH_MEGABYTES} MB, which is the limit.",
                    print_exception=False,
                )
            with self._lock:
                self._layers[str(fields["id"])] = content


# Gradio writes a stub beside each custom component, which type checkers would use.
Path(__file__).with_suffix(".pyi").unlink(missing_ok=True)
