"""The tab of a video."""

import importlib.util

import gradio as gr

from agit_hub.space.limits import (
    MAX_FILM_RATE,
    MAX_FILM_RATE_ON_CPU,
    MAX_FILM_SECONDS,
    MAX_FILM_SIDE,
    MAX_FILM_WORK_SECONDS,
    MAX_VIDEO_MEGABYTES,
)
from agit_hub.space.messages import Handler
from agit_hub.space.page.parts import PRIVATE, Choice, setting, status_line

_SUFFIXES = [".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi"]
_STOPPED = "Stopped; nothing of the film is kept."


def place(film: Handler, choice: Choice, threshold: float) -> gr.Slider:
    """Place and connect the tab, and return the slider of its threshold."""
    available = importlib.util.find_spec("av") is not None
    if not available:
        gr.Markdown(
            "This Space has no support for videos: whoever runs it can install it with "
            "`pip install 'agit-hub[video]'`.",
            elem_id="no-video",
        )
    with gr.Column(visible=available):
        gr.Markdown(
            f"The first {MAX_FILM_SECONDS} seconds of a video, without sound, with the model and "
            f"direction above. The file may have {MAX_VIDEO_MEGABYTES} MB. Results have at most "
            f"{MAX_FILM_SIDE} pixels a side and {MAX_FILM_RATE} frames a second. Without a GPU there are "
            f"{MAX_FILM_RATE_ON_CPU}, a frame takes about a second, and the film ends after "
            f"{MAX_FILM_WORK_SECONDS} seconds of work."
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                video = gr.File(
                    label="Video", file_types=_SUFFIXES, type="filepath", elem_id="video"
                )
                settings = [
                    setting(name, threshold, elem_id=f"video-{name}")
                    for name in ("threshold", "feather")
                ]
                with gr.Row():
                    start = gr.Button("Translate video", variant="primary", elem_id="start-video")
                    stop = gr.Button("Stop", elem_id="stop-video")
            with gr.Column(scale=3, min_width=280):
                result = gr.Video(label="Input | output", interactive=False, elem_id="film",
                                  autoplay=True, loop=True, buttons=[], height=380)  # fmt: skip
                status = status_line("video-status")
                files = gr.File(label="Side by side, and the output alone", file_count="multiple",
                                visible=False, interactive=False, elem_id="film-files")  # fmt: skip
    begun = start.click(
        film, [video, choice.direction, choice.model, *settings], [result, files, status],
        api_visibility="private", show_progress_on=[result],
    )  # fmt: skip
    stop.click(lambda: _STOPPED, None, status, cancels=[begun], **PRIVATE)
    slider: gr.Slider = settings[0]
    return slider
