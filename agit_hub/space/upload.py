"""An image upload that is passed on as a file."""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData


class UploadedImage(gr.Image):
    """An image component that passes its file on unopened: `SpaceService` opens it, with limits."""

    is_template = True  # Gradio's term for a component that looks like its parent
    # An Image's own model accepts a path without the mark by which Gradio knows that it must check it.
    data_model = FileData  # type: ignore[assignment]

    def preprocess(self, payload: Any) -> str | None:
        """Return the file's path, unopened.

        Raises:
            gr.Error: If it is not among the uploads.
        """
        if payload is None:
            return None
        path = Path(str(getattr(payload, "path", None))).resolve()
        if not path.is_relative_to(Path(self.GRADIO_CACHE).resolve()):
            raise gr.Error("This is not an upload: send the image's file.", print_exception=False)
        return str(path)


# Gradio writes a stub beside each custom component, which type checkers would use.
Path(__file__).with_suffix(".pyi").unlink(missing_ok=True)
