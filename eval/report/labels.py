"""Places text beside points of a picture so that no text covers another or a point."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from eval.report.pictures import PAPER
from routers.records import Floats

_DISTANCES = (7, 14, 24, 40, 60)
_DIRECTIONS = (
    (1, 0.0, "left", "center"),
    (1, 0.8, "left", "bottom"),
    (1, -0.8, "left", "top"),
    (-1, 0.0, "right", "center"),
    (-1, 0.8, "right", "bottom"),
    (-1, -0.8, "right", "top"),
    (0, 1.0, "center", "bottom"),
    (0, -1.0, "center", "top"),
)
_LONGEST = 34
_POINT_HALF = 4.0


@dataclass(frozen=True, slots=True)
class Label:
    """Text that belongs to a point, in data coordinates.

    Attributes:
        x: Of the point.
        y: Of the point.
        text: What to write; never read as mathematics.
        color: Of the text.
        bold: Whether it stands out.
        must: Whether it is written even where it covers something.
    """

    x: float
    y: float
    text: str
    color: str
    bold: bool = False
    must: bool = False


def place_labels(
    ax: Axes,
    labels: Sequence[Label],
    points: Iterable[tuple[float, float]],
    curves: Iterable[tuple[float, float]] = (),
    *,
    most: int = 36,
) -> int:
    """Write labels, most important first; those that find no room are left out.

    Args:
        ax: Where to; its limits and scales must be final.
        labels: By falling importance.
        points: All points that text must not cover, in data coordinates.
        curves: Points along curves, which text covers only if it must.
        most: How many to write at most.

    Returns:
        How many were written.
    """
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes belong to no figure")
    figure.draw_without_rendering()
    pixels = figure.dpi / 72
    room = _Room(ax.get_window_extent())
    room.taken = [_around(ax, point, _POINT_HALF * pixels) for point in points]
    room.avoided = [_around(ax, point, pixels) for point in curves]
    written = 0
    for label in labels:
        if written < most and _place(ax, label, room):
            written += 1
    return written


class _Room:
    """What of the axes is still free."""

    def __init__(self, inside: Bbox) -> None:
        self.inside = inside
        self.taken: list[Bbox] = []
        self.avoided: list[Bbox] = []

    def has(self, box: Bbox, *, crossing: bool) -> bool:
        fits = self.inside.x0 <= box.x0 and box.x1 <= self.inside.x1
        fits = fits and self.inside.y0 <= box.y0 and box.y1 <= self.inside.y1
        blocked = self.taken if crossing else [*self.taken, *self.avoided]
        return fits and not any(box.overlaps(other) for other in blocked)


def _place(ax: Axes, label: Label, room: _Room) -> bool:
    text = _write(ax, label)
    size = Text.get_window_extent(text)
    anchor = ax.transData.transform((label.x, label.y))
    pixels = text.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    for crossing in (False, True) if label.must else (False,):
        for spot in _spots(_DISTANCES if label.must else _DISTANCES[:2]):
            box = _box(spot, anchor, size, pixels)
            if room.has(box, crossing=crossing):
                _move(text, spot)
                room.taken.append(box.expanded(1.05, 1.15))
                return True
    if label.must:
        room.taken.append(size)
    else:
        text.remove()
    return label.must


Spot = tuple[float, float, str, str]


def _spots(distances: Sequence[float]) -> Iterator[Spot]:
    for distance in distances:
        for dx, dy, horizontal, vertical in _DIRECTIONS:
            yield dx * distance, dy * distance, horizontal, vertical


def _box(spot: Spot, anchor: Floats, size: Bbox, pixels: float) -> Bbox:
    dx, dy, horizontal, vertical = spot
    left = {"left": 0.0, "center": 0.5, "right": 1.0}[horizontal] * size.width
    below = {"bottom": 0.0, "center": 0.5, "top": 1.0}[vertical] * size.height
    x0, y0 = anchor[0] + dx * pixels - left, anchor[1] + dy * pixels - below
    return Bbox.from_bounds(x0, y0, size.width, size.height)


def _write(ax: Axes, label: Label) -> Annotation:
    return ax.annotate(
        shortened(label.text),
        (label.x, label.y),
        xytext=(_DISTANCES[0], 0),
        textcoords="offset points",
        ha="left",
        va="center",
        fontsize=9 if label.bold else 7.5,
        fontweight="bold" if label.bold else "normal",
        color=label.color,
        arrowprops={"arrowstyle": "-", "color": label.color, "lw": 0.6, "alpha": 0.0},
        parse_math=False,
        path_effects=[withStroke(linewidth=2.2, foreground=PAPER, alpha=0.85)],
        zorder=6,
    )


def _move(text: Annotation, spot: Spot) -> None:
    dx, dy, horizontal, vertical = spot
    text.xyann = (dx, dy)
    text.set_horizontalalignment(horizontal)  # type: ignore[arg-type]
    text.set_verticalalignment(vertical)  # type: ignore[arg-type]
    if text.arrow_patch is not None and max(abs(dx), abs(dy)) > _DISTANCES[1]:
        text.arrow_patch.set_alpha(0.7)


def shortened(text: str) -> str:
    """One line of at most 34 characters, the middle of longer ones cut out."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 13]}…{text[-12:]}"


def _around(ax: Axes, point: tuple[float, float], half: float) -> Bbox:
    x, y = ax.transData.transform(point)
    return Bbox.from_extents(x - half, y - half, x + half, y + half)
