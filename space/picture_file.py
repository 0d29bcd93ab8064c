"""An upload that nobody opens before us."""

from typing import Any

import gradio as gr


class PictureFile(gr.Image):
    """A picture that is handed on as a file: we open it ourselves, with our limits and our words."""

    is_template = True  # Gradio's word for a component that looks like its parent

    def preprocess(self, payload: Any) -> str | None:
        """The file's path, unopened."""
        return None if payload is None else payload.path
