"""The Space's theme for light and dark, and the CSS rules that a theme cannot express."""

import gradio as gr

_SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "monospace")

# Colours of the heat map.
_PLUM = gr.themes.Color(
    "#fdf3f8", "#fae4ef", "#f4c6de", "#e99ac2", "#d768a0", "#b8407f",
    "#9c2b6c", "#7e2059", "#641b49", "#4c1738", "#2c0a20", name="plum",
)  # fmt: skip

THEME = gr.themes.Base(
    primary_hue=_PLUM,
    secondary_hue=gr.themes.colors.amber,
    neutral_hue=gr.themes.colors.stone,
    font=_SANS,
    font_mono=_MONO,
    radius_size=gr.themes.sizes.radius_lg,
).set(
    body_background_fill="#faf8f5",
    body_background_fill_dark="#171412",
    block_background_fill="#ffffff",
    block_background_fill_dark="#211d1a",
    block_border_color="#ece6df",
    block_border_color_dark="#332d28",
    block_shadow="0 1px 2px rgb(60 40 20 / 0.05)",
    block_label_background_fill="*block_background_fill",
    # Subdued, and yet with enough contrast to be read (WCAG AA).
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_info_text_color="*body_text_color_subdued",
    block_info_text_color_dark="*body_text_color_subdued",
    block_label_text_color="*body_text_color_subdued",
    block_label_text_color_dark="*body_text_color_subdued",
    link_text_color="*primary_700",
    link_text_color_hover="*primary_800",
    link_text_color_visited="*primary_700",
    link_text_color_active="*primary_800",
    link_text_color_dark="*primary_300",
    link_text_color_hover_dark="*primary_200",
    link_text_color_visited_dark="*primary_300",
    link_text_color_active_dark="*primary_200",
    input_placeholder_color="*neutral_500",
    input_placeholder_color_dark="*neutral_400",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    button_primary_text_color="#ffffff",
    slider_color="*primary_500",
)

CSS = """
.gradio-container > main { max-width: 1440px !important; margin: 0 auto !important; }
#head { padding: 1.1rem 0 .3rem; }
#head h1 { font-size: clamp(1.5rem, 3.2vw, 2.3rem); letter-spacing: -.02em; margin: 0; }
#head p { margin: .35rem 0 0; color: var(--body-text-color-subdued); max-width: 62ch; }
#images { gap: .9rem; }
#images > * { min-width: min(100%, 250px) !important; }
#attention img { cursor: crosshair; }
#examples { margin-top: .25rem; }
/* Wide images, which most are, fill their places. */
#images > :not(.fullscreen) { height: clamp(250px, 26.5vw, 380px) !important; }
#status, #video-status { color: var(--body-text-color-subdued); min-height: 1.5em; }
#status .html-container, #video-status .html-container { padding: 0 !important; }
#gallery .thumbnail-lg { aspect-ratio: 3 / 1; }
/* The part of a slider that is not filled. */
.dark input[type="range"] { --neutral-200: #57534e; }
/* Links of Markdown are told from text by more than their colour. */
.prose a { text-decoration: underline; }
/* Targets of at least 24 pixels. */
.icon-button-wrapper .icon-button { min-width: 24px; min-height: 24px; }
/* Gradio's button for more files lies within another one; files can be cleared and dropped again. */
#many .icon-button:has(input) { display: none; }
.dark button[role="tab"].selected { color: var(--primary-300) !important; }
.token.string, .token.builtin { color: #3f6212 !important; }
.token.comment { color: #57534e !important; }
.token.keyword, .token.operator { color: #7e2059 !important; }
.token.function { color: #9d174d !important; }
/* Gradio adapts only the first selector of a rule to the dark scheme. */
.dark .token.string { color: #bef264 !important; }
.dark .token.builtin { color: #bef264 !important; }
.dark .token.comment { color: #d6d3d1 !important; }
.dark .token.keyword { color: #f4c6de !important; }
.dark .token.operator { color: #f4c6de !important; }
.dark .token.function { color: #f4c6de !important; }
@media (max-width: 640px) {
  .gradio-container, .gradio-container > main { padding: .4rem !important; }
  #head { padding-top: .5rem; }
  /* All tabs in one row. */
  .tab-container button { padding-left: .45rem !important; padding-right: .45rem !important; }
  #images > :not(.fullscreen) { height: 74vw !important; }
  #film { height: 60vw !important; }
}
"""
