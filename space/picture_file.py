"""An upload that nobody opens before us."""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData


class PictureFile(gr.Image):
    """A picture that is handed on as a file: we open it ourselves, with our limits and our words."""

    is_template = True  # Gradio's word for a component that looks like its parent
    # An Image's own model takes a path without the mark by which Gradio knows that it must check it.
    data_model = FileData  # type: ignore[assignment]

    def preprocess(self, payload: Any) -> str | None:
        """The file's path, unopened.

        Raises:
            gr.Error: If it lies anywhere but among the uploads.
        """
        if payload is None:
            return None
        path = Path(str(getattr(payload, "path", None))).resolve()
        if not path.is_relative_to(Path(self.GRADIO_CACHE).resolve()):
            raise gr.Error("That is no upload: send the picture's file.", print_exception=False)
        return str(path)


# Gradio writes a stub beside each component of one's own, and type checkers would believe it.
Path(__file__).with_suffix(".pyi").unlink(missing_ok=True)
