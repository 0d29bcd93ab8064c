"""Draw the built-in pair of image domains: plain and striped objects in painted landscapes.

Every image is a pure function of its label, index and seed. All random numbers are drawn in units of the
image's side before rasterization, so that a scene can be drawn at any size. Both domains share one
distribution of landscapes and silhouettes, but never a scene.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

LABELS = ("plain", "striped")
SIZE = 64
"""Default side of an image in pixels."""

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Rng = np.random.Generator
Tone = tuple[float, float, float]
Body = tuple[float, float, float, float]  # x, y, radius, angle of the light

# Tones are (hue, chroma, luma). Light and dark tones are as frequent as medium ones; otherwise color
# alone would reveal the light and dark stripes.
# fmt: off
SKIES: tuple[tuple[Tone, Tone], ...] = (  # at the top and at the horizon
    ((.58, .42, .50), (.56, .14, .88)), ((.57, .25, .70), (.12, .12, .93)),
    ((.72, .25, .28), (.06, .42, .74)), ((.92, .22, .62), (.12, .30, .90)),
    ((.60, .05, .64), (.10, .04, .88)), ((.62, .12, .18), (.58, .08, .50)),
    ((.50, .30, .32), (.14, .32, .84)), ((.86, .28, .40), (.05, .30, .86)),
    ((.66, .25, .10), (.56, .30, .42)), ((.08, .30, .55), (.13, .35, .88)),
)
GROUNDS: tuple[Tone, ...] = (
    (.26, .34, .50), (.22, .30, .34), (.30, .22, .20), (.13, .38, .66), (.11, .22, .82),
    (.60, .05, .90), (.83, .22, .40), (.55, .32, .42), (.58, .22, .18), (.06, .22, .22),
    (.04, .36, .42), (.73, .26, .52), (.97, .34, .44), (.93, .16, .80), (.40, .14, .82),
    (.09, .06, .52), (.25, .28, .62), (.34, .20, .13),
)
RIDGES: tuple[Tone, ...] = (
    (.60, .14, .56), (.36, .14, .13), (.25, .22, .22), (.06, .36, .38), (.76, .18, .34),
    (.60, .04, .88), (.09, .14, .72), (.62, .12, .12), (.02, .20, .15), (.48, .18, .38),
)
# Ball, ellipse, egg, pear, bean, square, triangle, star: aspect ratio, number and height of waves, angle
# and depth of a pair of dents.
KINDS = (
    (1.0, 0, .00, 0., .00), (.83, 0, .00, 0., .00), (.88, 1, .11, 0., .00), (.80, 1, .06, 1., .24),
    (1.25, 0, .00, 0., .15), (1., 4, .08, 0., .00), (1., 3, .12, 0., .00), (1., 5, .13, 0., .00),
)
# fmt: on
GRAIN = np.float32(0.08)

_ANGLES = np.linspace(-np.pi, np.pi, 257)


def _rgb(tone: Tone) -> Floats:
    """Convert a (hue, chroma, luma) tone to RGB, clipping its chroma to the gamut."""
    hue, chroma, luma = tone
    base = [min(max(abs((hue * 6 + turn) % 6 - 3) - 1, 0), 1) for turn in (0, 4, 2)]
    away = [part - 0.299 * base[0] - 0.587 * base[1] - 0.114 * base[2] for part in base]
    room = min((1 - luma if part > 0 else luma) / max(abs(part), 1e-6) for part in away)
    return np.array([luma + part * min(chroma, room) for part in away], dtype=np.float32)


def _vary(rng: Rng, tone: Tone, odd: float = 0.2) -> Tone:
    """Vary a tone slightly, or with probability `odd` replace its hue (flowers, unusual light)."""
    hue, chroma, luma = tone
    shift, other, chance = rng.normal(0, 0.03), rng.random(), rng.random()
    if chance < odd:
        hue, chroma = other, max(chroma, 0.18)
    chroma, luma = chroma * rng.uniform(0.6, 1.2), luma + rng.normal(0, 0.05)
    return (hue + shift) % 1, chroma, min(max(luma, 0.05), 0.96)


def _grow(field: Floats, side: int) -> Floats:
    """Upsample a small lattice smoothly to a square of the given side."""
    return np.asarray(Image.fromarray(field).resize((side, side), Image.Resampling.BICUBIC))


def _noise(rng: Rng, *octaves: tuple[int, int, float]) -> Floats:
    """Return a 64 x 64 sum of smoothed random lattices, each (columns, rows, strength)."""
    total = np.zeros((64, 64), np.float32)
    for columns, rows, strength in octaves:
        lattice = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
        total += np.float32(strength) * _grow(lattice, 64)
    return total


def _step(value: Floats, low: float, high: float) -> Floats:
    """Return a smooth step from 0 at low to 1 at high."""
    part = np.clip((value - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return np.asarray(part * part * (3 - 2 * part), dtype=np.float32)


def _span(start: int, stop: int, side: int) -> Floats:
    """Return the centers of the pixels from start to stop, in units of the side."""
    return (np.arange(start, stop, dtype=np.float32) + np.float32(0.5)) / np.float32(side)


def _blend(canvas: Floats, cover: Floats, color: Floats) -> None:
    """Blend a color (one, or one per pixel) over a canvas in place, with the cover as alpha."""
    paint = color[:, None, None] if color.ndim == 1 else color
    canvas += cover * (paint - canvas)


def _sky(rng: Rng, side: int) -> tuple[Floats, list[Floats]]:
    """Return a canvas filled with sky and clouds, and the colors of the sky from the top down."""
    top, bottom = (_rgb(_vary(rng, tone, 0.06)) for tone in SKIES[rng.integers(len(SKIES))])
    fall = rng.uniform(0.35, 0.7)
    clouds = _noise(rng, (3, 6, 0.7), (6, 12, 0.45), (14, 24, 0.25), (30, 40, 0.1))
    amount, strength = rng.uniform(-0.35, 0.6), rng.uniform(0.5, 0.95)
    cloud = _rgb((rng.random(), 0.06, float(rng.choice([0.94, 0.86, 0.2], p=[0.6, 0.2, 0.2]))))
    down = _step(_span(0, side, side), 0, fall)[:, None]
    canvas = np.repeat(top[:, None, None] + (bottom - top)[:, None, None] * down, side, axis=2)
    cover = _step(_grow(clouds, side), amount, amount + 0.5) * np.float32(strength)
    _blend(canvas, cover, cloud)
    return canvas, [top, bottom]


def _crest(rng: Rng, side: int, trees: bool) -> Floats:
    """Return the height of a ridge's edge from left to right, within about -1 .. 1."""
    across = _span(0, side, side)
    freqs = np.array([0.5, 1.1, 2.3, 4.7]) * rng.uniform(0.8, 1.25, 4)
    parts = np.sin(2 * np.pi * (freqs[:, None] * across + rng.random((4, 1))))
    line = np.array([0.5, 0.4, 0.18, 0.06]) @ parts
    waves = rng.uniform(6, 11, 3)[:, None] * across + rng.random((3, 1))
    line += float(trees) * (np.array([0.35, 0.25, 0.2]) @ np.abs(np.sin(np.pi * waves)))
    return np.asarray(line, dtype=np.float32)


def _ridges(rng: Rng, canvas: Floats, horizon: float, air: Floats) -> Floats:
    """Draw hills or tree lines, paler with distance, and return the color of the nearest."""
    side = canvas.shape[1]
    rows = _span(0, side, side)[:, None]
    count = int(rng.integers(1, 4))
    color = air
    for far in [(count - 1 - layer) / 3 for layer in range(count)]:
        color = _rgb(_vary(rng, RIDGES[rng.integers(len(RIDGES))], 0.12))
        color = color + np.float32(0.45 * far) * (air - color)
        base = np.float32(horizon - 0.03 - 0.28 * far * rng.uniform(0.6, 1.2))
        edge = base - np.float32(rng.uniform(0.03, 0.09)) * _crest(rng, side, rng.random() < 0.5)
        grain = _noise(rng, (5, 5, 0.20), (18, 18, 0.14), (44, 44, 0.10))
        first = max(0, int(edge.min() * side))
        last = min(side, int((horizon + 0.08) * side) + 1)
        depth = rows[first:last] - edge
        shade = 1 + _grow(grain, side)[first:last] - _step(depth, 0, 0.25) * np.float32(0.2)
        _blend(canvas[:, first:last], _step(depth, -0.002, 0.002), color[:, None, None] * shade)
    return color


def _ground(rng: Rng, canvas: Floats, horizon: float) -> list[Floats]:
    """Draw the ground below the horizon: two blended tones, texture, shrubs or rocks."""
    side = canvas.shape[1]
    near, mixed = (_rgb(_vary(rng, GROUNDS[rng.integers(len(GROUNDS))], 0.12)) for _ in range(2))
    patch = _noise(rng, (3, 4, 0.8), (7, 9, 0.4), (20, 24, 0.2), (50, 60, 0.10))
    grain = _noise(rng, (4, 6, 0.08), (16, 24, 0.08), (48, 60, 0.13))
    bush = _noise(rng, (4, 4, 0.6), (11, 12, 0.55), (30, 32, 0.22))
    bushes = _rgb(_vary(rng, RIDGES[rng.integers(len(RIDGES))], 0.12)) * np.float32(0.75)
    level, reach, lift = rng.uniform(-0.1, 0.5), rng.uniform(0.3, 0.9), rng.uniform(-0.25, 0.15)
    edge = np.float32(horizon) - np.float32(rng.uniform(0.005, 0.03)) * _crest(rng, side, False)
    first = max(0, int(edge.min() * side))
    rows = _span(first, side, side)[:, None]
    # Perspective: rows are compressed towards the horizon, like a plain seen from a low hill.
    depth = np.clip((rows[:, 0] - np.float32(horizon)) / np.float32(1 - horizon), 0, 1)
    plane = ((1.6 / (depth + 0.6) - 1) * (0.6 * (side - 1))).astype(np.intp)
    mix = _step(_grow(patch, side)[plane], level - reach / 2, level + reach / 2)
    paint = near[:, None, None] + mix * (mixed - near)[:, None, None]
    paint *= 1 + _grow(grain, side)[plane] + (rows - np.float32(horizon)) * np.float32(lift)
    _blend(paint, _step(_grow(bush, side)[plane], 0.42, 0.50), bushes)
    _blend(canvas[:, first:], _step(rows - edge, -0.002, 0.002), paint)
    return [near, mixed]


def _dots(rng: Rng, canvas: Floats, horizon: float) -> None:
    """Draw small flowers or stones on the ground, larger towards the front."""
    side = canvas.shape[1]
    count = int(rng.integers(8, 26)) if rng.random() < 0.5 else 0
    color = _rgb((rng.random(), rng.uniform(0.05, 0.4), float(rng.choice([0.2, 0.6, 0.88]))))
    for x, depth, grow in rng.random((count, 3)):
        y = horizon + 0.03 + depth * (0.99 - horizon)
        radius = (0.005 + 0.009 * depth) * (0.7 + 0.6 * grow)
        left, top = (max(0, int((place - radius) * side)) for place in (x, y))
        right, low = (min(side, int((place + radius) * side) + 2) for place in (x, y))
        down = (_span(top, low, side) - np.float32(y))[:, None]
        off = np.hypot(down * np.float32(1.3), _span(left, right, side) - np.float32(x))
        _blend(canvas[:, top:low, left:right], 1 - _step(off, radius * 0.8, radius * 1.1), color)


def _defocus(canvas: Floats, radius: float) -> Floats:
    """Blur the landscape like a lens that is focused on the foreground."""
    pixels = (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    blur = ImageFilter.GaussianBlur(radius * canvas.shape[1])
    soft = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).filter(blur), np.float32)
    return np.ascontiguousarray(soft.transpose(2, 0, 1) / np.float32(255))


def _places(rng: Rng, radii: list[float]) -> list[tuple[float, float]]:
    """Return centers for discs of these radii, away from each other and from the image center."""
    found: list[tuple[float, float]] = []
    for radius in radii:
        low = min(radius * 0.8, 0.45)
        tries = rng.uniform(low, 1 - low, (24, 2))
        # With a uniform distribution, a box at the image center would contain most objects.
        room = np.minimum(np.hypot(*(tries - 0.5).T) - 0.27, 0.0)
        for (x, y), other in zip(found, radii, strict=False):
            gap = np.hypot(tries[:, 0] - x, tries[:, 1] - y) - 1.08 * (radius + other)
            room = np.minimum(room, gap)
        x, y = tries[int(np.argmax(room))]
        found.append((float(x), float(y)))
    return found


def _outline(rng: Rng) -> NDArray[np.float64]:
    """Return a randomly rotated silhouette as radii at _ANGLES, with the area of a unit disc."""
    aspect, count, wave, place, depth = KINDS[rng.integers(len(KINDS))]
    angle, amount = _ANGLES + rng.uniform(-np.pi, np.pi), rng.uniform(0.75, 1.2)
    radius = 1 / np.hypot(np.cos(angle) * aspect, np.sin(angle) / aspect)
    radius = radius * (1 + wave * amount * np.cos(count * angle))
    for at in (place, -place):
        radius = radius * (1 - depth * amount * np.exp((np.cos(angle - at) - 1) / 0.2))
    return np.asarray(radius / np.sqrt(np.mean(radius[:-1] ** 2)))


def _tones(rng: Rng, striped: bool, around: list[Floats]) -> tuple[Floats, Floats]:
    """Return the two colors of an object (equal if plain), different from those around it."""
    pool = [*GROUNDS, *RIDGES, *(tone for pair in SKIES for tone in pair)]
    best: tuple[float, Tone] = (-1.0, (0.0, 0.0, 0.5))
    for _ in range(4):
        hue, chroma, _ = _vary(rng, pool[rng.integers(len(pool))], 0.4)
        tone = (hue, chroma, rng.uniform(0.39, 0.60))
        gaps = np.linalg.norm(np.stack(around) - _rgb(tone), axis=1)
        best = max(best, (float(gaps.min()), tone))
    hue, chroma, luma = best[1]
    chroma = min(1.1 * chroma + 0.04, 0.45)
    pair = (rng.uniform(0.88, 0.95), rng.uniform(0.08, 0.14)) if striped else (luma, luma)
    return _rgb((hue, chroma, pair[0])), _rgb((hue, chroma, pair[1]))


def _bands(rng: Rng, u: Floats, v: Floats, radius: float) -> Floats:
    """Return curved bands across an object: from n to n + 1 is one stripe and one gap."""
    axis, phase = rng.uniform(0, np.pi), np.float32(rng.random())
    # A period below 0.085 of the side would be blurred in a small image.
    periods = min(rng.uniform(3.2, 6.0), 2 * radius / 0.085)
    bend, sway = np.float32(rng.uniform(-0.3, 0.3)), np.float32(rng.uniform(0.03, 0.08))
    cos, sin = np.float32(np.cos(axis)), np.float32(np.sin(axis))
    along, aside = cos * u + sin * v, cos * v - sin * u
    along = along + bend * aside * aside + sway * np.sin(np.float32(2.5) * aside + along)
    return np.asarray(along * np.float32(periods / 2) + phase)


def _paint(rng: Rng, canvas: Floats, mask: Mask, body: Body, tones: tuple[Floats, Floats]) -> None:
    """Draw one object, its faint shadow first, and add it to the mask."""
    side, (x, y, radius, light), outline = canvas.shape[1], body, _outline(rng)
    reach = radius * float(outline.max()) * 1.25
    left, top = (max(0, int((place - reach) * side)) for place in (x, y))
    right, low = (min(side, int((place + reach) * side) + 1) for place in (x, y))
    box, seen = canvas[:, top:low, left:right], mask[top:low, left:right]
    u = ((_span(left, right, side) - np.float32(x)) / np.float32(radius))[None, :]
    v = ((_span(top, low, side) - np.float32(y)) / np.float32(radius))[:, None]
    bound = np.interp(np.arctan2(v, u), _ANGLES, outline).astype(np.float32)
    nu, nv = u / bound, v / bound
    far = nu * nu + nv * nv
    box *= 1 - np.float32(0.22) * (1 - _step(far, 0.9, 1.5)) * _step(nv, -0.3, 0.8)
    lx, ly = np.float32(0.6 * np.cos(light)), np.float32(0.6 * np.sin(light))
    lit = lx * nu + ly * nv + np.float32(0.8) * np.sqrt(np.clip(1 - far, 0, 1))
    shade = np.float32(0.5) + np.float32(0.62) * np.clip(lit, 0, 1)
    light_tone, dark_tone = (tone[:, None, None] for tone in tones)
    bands = _bands(rng, u, v, radius)
    # A faint grain along the bands: on a perfectly even surface a convolutional network could not tell
    # where a stripe begins.
    grain = 1 + GRAIN * np.sin(np.float32(2 * np.pi) * bands)
    colors = np.where(bands % 1 < 0.5, light_tone, dark_tone) * grain
    inside = far < 1
    _blend(box, inside.astype(np.float32), colors * shade + 0.3 * _step(lit, 0.88, 1.0))
    seen |= inside


def draw(label: str, index: int, size: int = SIZE, seed: int = 0) -> tuple[Image.Image, Mask]:
    """Draw one image of a domain and the mask of its objects.

    Args:
        label: The domain, one of LABELS.
        index: Number of the image, from 0 on.
        size: Side of the square image in pixels, at least 16; it does not change the scene.
        seed: Each seed gives another endless series of images.

    Returns:
        The RGB image, and a boolean array (size, size) that is true on the objects.

    Raises:
        ValueError: If the label is unknown, the size too small or a number negative.
    """
    if label not in LABELS:
        raise ValueError(f"unknown label {label!r}: the labels are {' and '.join(LABELS)}")
    if size < 16:
        raise ValueError(f"size must be at least 16, not {size}")
    if index < 0 or seed < 0:
        raise ValueError(f"index and seed must not be negative, not {index} and {seed}")
    rng = np.random.default_rng([seed, LABELS.index(label), index])
    factor = 3 if size <= 128 else 2
    side, horizon, light = size * factor, rng.uniform(0.3, 0.68), rng.uniform(-2.7, -0.45)
    canvas, sky = _sky(rng, side)
    above = [*sky, _ridges(rng, canvas, horizon, sky[1])]
    below = _ground(rng, canvas, horizon)
    _dots(rng, canvas, horizon)
    canvas = _defocus(canvas, rng.uniform(0.045, 0.075))
    mask = np.zeros((side, side), np.bool_)
    count = int(rng.choice([1, 2, 3], p=[0.45, 0.33, 0.22]))
    shares = rng.uniform(0.75, 1.25, count)
    total = rng.uniform(0.19, 0.34) if count == 1 else rng.uniform(0.23, 0.36)
    radii = [float(radius) for radius in np.sqrt(total * shares / shares.sum() / np.pi)]
    for radius, (x, y) in zip(radii, _places(rng, radii), strict=True):
        tones = _tones(rng, label == "striped", above if y < horizon else below)
        _paint(rng, canvas, mask, (x, y, radius, light), tones)
    pixels = (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    image = Image.fromarray(np.ascontiguousarray(pixels)).reduce(factor)
    return image, np.asarray(Image.fromarray(mask).convert("L").reduce(factor)) > 127
