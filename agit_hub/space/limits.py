"""What the Space accepts from visitors, who are strangers: uploads, models and shares of its work."""

# Uploads, checked in the header before anything is decoded.
MAX_MEGAPIXELS = 24
MAX_MEGABYTES = 40
MAX_BATCH = 50
# A brush's layer has the size of the painted image on the page, 640 pixels.
MAX_BRUSH_MEGAPIXELS = 4
MAX_BRUSH_MEGABYTES = 4
MAX_FEATHER = 100  # pixels; wider blurs are slow

# Videos: of a longer one the first seconds are translated.
MAX_VIDEO_MEGABYTES = 100
MAX_VIDEO_MEGAPIXELS = 9.5
"""Of a frame as it is in the file: 4096 x 2304 pixels."""
VIDEO_FORMATS = ("mov", "matroska", "avi")
"""FFmpeg's names: MP4 and MOV, MKV and WebM, AVI."""
MAX_FILM_SECONDS = 10
MAX_FILM_RATE, MAX_FILM_RATE_ON_CPU = 30, 12
"""Frames of a second; the others are left out."""
MAX_FILM_SIDE = 1280
"""Pixels of the longer side of a translated frame; larger ones are shrunk."""
MAX_DECODED_FRAMES = 2400
"""240 of a second."""
MAX_FILM_WORK_SECONDS = 400
"""What is translated until then is a film."""

# Models that visitors name, checked before their weights are fetched.
MAX_MODEL_MEGABYTES = 500
MAX_MODEL_WORK = 64 * 512**2
"""Width of a network times the pixels of its input: several times that many floats are in memory."""
MAX_CARD_BYTES = 2**18
MAX_VISITOR_CACHE_MEGABYTES = 3000
"""On disk, for models that visitors named; the least recently used go first."""

# Memory for predictions of the last images, so that moving a slider runs no network.
MAX_REMEMBERED_MEGABYTES = 500
MAX_SESSIONS = 5000
"""With unread messages, a few kilobytes each; the oldest are dropped."""
SECONDS_KEPT = 3600  # of files with results

# Shares of one visitor, by address. Several may share an address, such as a class at school.
MAX_IN_FLIGHT = 16
MAX_CALLS = 6000
"""Of endpoints and the page, within `WINDOW_SECONDS`: ten a second, as of somebody who moves sliders."""
WINDOW_SECONDS = 600
MAX_UPLOADED_MEGABYTES = 1000
"""Within `WINDOW_SECONDS`."""
MAX_BUSY_SECONDS = 600
"""Of computation, within `WINDOW_SECONDS`; two requests may run at once."""
