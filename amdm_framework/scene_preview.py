"""A scene drawn for people: labelled boxes, arrows of interactions, the caption and the reference pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageColor, ImageDraw, ImageOps

from .label_places import Rectangle, nearest_points, overlap, place_labels
from .picture_text import BORDER, FAINT, INK, PAPER, Text, readable_on
from .scene import Interaction, Reference, Scene
from .scene_colours import instance_colours

Point = tuple[float, float]

_EMPTY = "no instances: the scene does not say what stands where"
_LABEL_LINES = 3
_MOST_CAPTION_LINES = 12
_FINE = 4
"""Lines are drawn so many times as large and then made smaller, which smooths them."""


def draw_scene(scene: Scene, width: int, height: int, picture: Image.Image | None = None) -> Image.Image:
    """Draw a scene as a page: boxes on paper or over a picture, below them the caption and the reference pictures.

    Args:
        scene: what is drawn.
        width: of the part with the boxes, in pixels; the page has margins around it.
        height: likewise.
        picture: what the boxes are drawn over, scaled to this size [paper].

    Returns:
        An RGB picture.

    Raises:
        InputError: a reference picture cannot be read.
    """
    if picture is None:
        shown = Image.new("RGB", (width, height), "#fafafa")
    else:
        enlarged = width >= picture.width and width % picture.width == 0 and height % picture.height == 0
        method = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
        shown = picture.convert("RGB").resize((width, height), method)
    shown = draw_boxes(scene, shown, filled=picture is None)
    size = _text_size(width, height)
    caption, small = Text(round(1.15 * size), INK), Text(size, FAINT)
    if picture is None and not scene.instances:
        text_width = width - 2 * size
        top = (height - small.height(_EMPTY, text_width)) // 2
        small.write(ImageDraw.Draw(shown), size, top, _EMPTY, text_width)
    margin, gap = 2 * size, size
    without = f"without: {scene.negative}" if scene.negative else ""
    thumbnails = [_thumbnail(reference, 6 * size) for reference in scene.references]
    per_row = max(1, (width + gap) // (9 * size + gap))
    rows = [thumbnails[first : first + per_row] for first in range(0, len(thumbnails), per_row)]
    texts = [(caption, scene.caption), (small, without)]
    heights = [text.height(words, width, _MOST_CAPTION_LINES) for text, words in texts]
    row_heights = [max(one.height for one in row) + gap for row in rows]
    below = sum(each + gap // 2 for each in heights if each) + sum(row_heights)
    page = Image.new("RGB", (width + 2 * margin, 2 * margin + height + (gap + below if below else 0)), PAPER)
    page.paste(shown, (margin, margin))
    pen = ImageDraw.Draw(page)
    pen.rectangle((margin - 1, margin - 1, margin + width, margin + height), outline=BORDER)
    top = margin + height + gap
    for (text, words), text_height in zip(texts, heights, strict=True):
        if text_height:
            text.write(pen, margin, top, words, width, _MOST_CAPTION_LINES)
            top += text_height + gap // 2
    for row, row_height in zip(rows, row_heights, strict=True):
        for place, thumbnail in enumerate(row):
            page.paste(thumbnail, (margin + place * (9 * size + gap), top))
        top += row_height
    return page


def draw_boxes(scene: Scene, picture: Image.Image, filled: bool = False) -> Image.Image:
    """Draw the boxes of a scene's instances, with their phrases, and the arrows of its interactions over a picture.

    A box has the colour that its phrase names, or else one of its own.

    Args:
        scene: whose instances and interactions are drawn.
        picture: RGB.
        filled: whether the boxes are tinted; otherwise what they hold is left as it is.

    Returns:
        A picture of the same size.
    """
    width, height = picture.size
    size = _text_size(width, height)
    boxes = {
        name: (left * width, top * height, right * width, bottom * height)
        for name, (left, top, right, bottom) in ((name, one.box) for name, one in scene.instances.items())
    }
    colours = instance_colours(scene)
    texts = {name: Text(size, readable_on(colours[name])) for name in boxes}
    padding = max(2, size // 3)
    longest = max(0.42 * width, 6 * size)
    line_widths = {
        name: round(min(width - 2 * padding, max(longest, box[2] - box[0]) - 2 * padding))
        for name, box in boxes.items()
    }
    sizes = []
    for name, one in scene.instances.items():
        lines = texts[name].lines(one.phrase, line_widths[name], _LABEL_LINES)
        widest = max(texts[name].widest(line) for line in lines)
        sizes.append((widest + 2.0 * padding, texts[name].line_height * len(lines) + 0.6 * padding))
    labels = place_labels(sizes, list(boxes.values()), (width, height), inside=filled)

    lines_only = _Lines(width, height, size)
    for name, box in sorted(boxes.items(), key=lambda item: -_area(item[1])):
        lines_only.box(box, colours[name], filled)
    for (name, box), label in zip(boxes.items(), labels, strict=True):
        near, far = nearest_points(label, box)
        if math.dist(near, far) > 1:
            lines_only.leader(near, far, colours[name])
    word = Text(size, INK)
    words: list[tuple[str, Rectangle]] = []
    for number, interaction in enumerate(scene.interactions):
        taken = [*labels, *(place for _, place in words)]
        path = _path(interaction, scene.interactions[:number], boxes, taken, (width, height), size)
        lines_only.arrow(path)
        word_size = (word.widest(interaction.action) + 2.0 * padding, word.line_height + 0.5 * padding)
        words.append((interaction.action, _place_on(path, word_size, taken, width, height)))
    drawn = lines_only.over(picture)
    pen = ImageDraw.Draw(drawn)
    for (name, one), label in zip(scene.instances.items(), labels, strict=True):
        pen.rounded_rectangle(label, padding, fill=colours[name], outline="white")
        # Letters stand in the upper part of their line.
        at = round(label[0]) + padding, round(label[1] + 0.3 * padding + 0.1 * size)
        texts[name].write(pen, *at, one.phrase, line_widths[name], _LABEL_LINES)
    for action, place in words:
        pen.rounded_rectangle(place, (place[3] - place[1]) / 2, fill="white", outline=INK)
        left = round((place[0] + place[2] - word.widest(action)) / 2)
        word.write(pen, left, round(place[1] + padding / 4 + 0.1 * size), action, width)
    return drawn


def _text_size(width: int, height: int) -> int:
    return min(max(min(width, height) // 30, 10), 28)


def _area(box: Rectangle) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _centre(box: Rectangle) -> Point:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


class _Lines:
    """Lines and tints, drawn large on nothing, then laid over a picture."""

    def __init__(self, width: int, height: int, size: int) -> None:
        self.scale = min(_FINE, max(1, 4096 // max(width, height)))
        self.layer = Image.new("RGBA", (width * self.scale, height * self.scale), (255, 255, 255, 0))
        self.pen = ImageDraw.Draw(self.layer)
        self.thickness = max(2.0, size / 6)

    def over(self, picture: Image.Image) -> Image.Image:
        """Return the picture with the lines on it."""
        # Colours of what is half covered must not be mixed with those of nothing.
        layer = self.layer.convert("RGBa").resize(picture.size, Image.Resampling.BOX).convert("RGBA")
        return Image.alpha_composite(picture.convert("RGBA"), layer).convert("RGB")

    def box(self, box: Rectangle, colour: str, filled: bool) -> None:
        """Draw an outline inside a box, light at its inner edge so that it stands out from any picture."""
        left, top, right, bottom = (round(self.scale * value) for value in box)
        right, bottom = max(left + 1, right) - 1, max(top + 1, bottom) - 1
        line = round(self.scale * self.thickness)
        if filled:
            tint = Image.new("RGBA", (right - left + 1, bottom - top + 1), (*ImageColor.getrgb(colour)[:3], 34))
            self.layer.alpha_composite(tint, (left, top))
        # A line that is thicker than half of the box would be drawn beside it.
        for inset, drawn, thickness in ((0, colour, line), (line, "#ffffffb0", max(1, self.scale))):
            inner = left + inset, top + inset, right - inset, bottom - inset
            if inner[2] - inner[0] > 2 * thickness and inner[3] - inner[1] > 2 * thickness:
                self.pen.rectangle(inner, outline=drawn, width=thickness)
            elif inset == 0:
                self.pen.rectangle(inner, fill=colour)

    def leader(self, start: Point, end: Point, colour: str) -> None:
        """Draw a thin line from a label to its box."""
        self._path([start, end], "white", self.thickness + 2)
        self._path([start, end], colour, self.thickness / 1.5)

    def arrow(self, path: Sequence[Point]) -> None:
        """Draw an arrow along a path, dark with a light edge."""
        head = self._head(path)
        # The line ends inside the head, whose point would be blunt otherwise.
        line = [*path[:-1], ((head[1][0] + head[2][0]) / 2, (head[1][1] + head[2][1]) / 2)]
        line = [point for point in line[:-1] if math.dist(point, path[-1]) > math.dist(line[-1], path[-1])] + line[-1:]
        dot = 1.3 * self.thickness
        for colour, more in (("white", 2.0), (INK, 0.0)):
            self._path(line, colour, self.thickness + 2 * more)
            self._polygon(head, colour, more)
            x, y = path[0]
            around = (x - dot - more, y - dot - more, x + dot + more, y + dot + more)
            self.pen.ellipse([self.scale * value for value in around], fill=colour)

    def _head(self, path: Sequence[Point]) -> list[Point]:
        tip = path[-1]
        length = 5 * self.thickness
        back = next((point for point in reversed(path) if math.dist(point, tip) >= length), path[0])
        reach = math.dist(back, tip) or 1.0
        along = (tip[0] - back[0]) / reach, (tip[1] - back[1]) / reach
        base = tip[0] - length * along[0], tip[1] - length * along[1]
        side = -along[1] * length / 2.4, along[0] * length / 2.4
        return [tip, (base[0] + side[0], base[1] + side[1]), (base[0] - side[0], base[1] - side[1])]

    def _path(self, path: Sequence[Point], colour: str, thickness: float) -> None:
        points = [(self.scale * x, self.scale * y) for x, y in path]
        self.pen.line(points, fill=colour, width=round(self.scale * thickness), joint="curve")

    def _polygon(self, path: Sequence[Point], colour: str, edge: float) -> None:
        points = [(self.scale * x, self.scale * y) for x, y in path]
        self.pen.polygon(points, fill=colour)
        if edge:
            self.pen.line(
                [*points, points[0], points[1]], fill=colour, width=round(2 * self.scale * edge), joint="curve"
            )


def _path(
    interaction: Interaction,
    before: Sequence[Interaction],
    boxes: dict[str, Rectangle],
    taken: Sequence[Rectangle],
    picture: tuple[int, int],
    size: int,
) -> list[Point]:
    """Return the points of an arrow from subject to object: a bow between boxes, a loop at one box."""
    pair = interaction.subject, interaction.object
    # Arrows between the same two lie beside each other.
    repeated = sum((other.subject, other.object) == pair for other in before)
    start, end = boxes[interaction.subject], boxes[interaction.object]
    if interaction.subject == interaction.object:
        others = [box for name, box in boxes.items() if name != interaction.subject]
        return _loop(start, [*taken, *others], picture, (1.4 + 0.7 * repeated) * size)
    first, last = _centre(start), _centre(end)
    length = math.dist(first, last)
    if length < 1:
        # Boxes around one point.
        first, last, length = (start[0], first[1]), (end[2], last[1]), max(end[2] - start[0], 1.0)
    bow = 0.14 + 0.16 * repeated
    middle = (first[0] + last[0]) / 2, (first[1] + last[1]) / 2
    across = -(last[1] - first[1]) * bow * 2, (last[0] - first[0]) * bow * 2
    # Every arrow bends to its own left, so that one back does not lie on one there.
    bend = middle[0] + across[0], middle[1] + across[1]
    bend = max(0.0, min(bend[0], picture[0] - 1.0)), max(0.0, min(bend[1], picture[1] - 1.0))
    path = [_bezier(first, bend, last, step / 64) for step in range(65)]
    outside = [point for point in path if not _holds(start, point) and not _holds(end, point)]
    # Where the boxes overlap too much for an arrow between their edges, it joins their centres.
    return outside if len(outside) > 1 and math.dist(outside[0], outside[-1]) > 3 * size else path


def _loop(box: Rectangle, taken: Sequence[Rectangle], picture: tuple[int, int], radius: float) -> list[Point]:
    # At the corner with the most room around it; the quarter inside the box is left out.
    corners = [(box[2], box[1], -90), (box[0], box[1], 180), (box[0], box[3], 90), (box[2], box[3], 0)]
    reach = radius + 4
    places = [
        (max(reach, min(x, picture[0] - reach)), max(reach, min(y, picture[1] - reach)), x, y) for x, y, _ in corners
    ]
    crowded = [
        sum(overlap((x - reach, y - reach, x + reach, y + reach), other) for other in taken)
        + 4 * reach * math.dist((x, y), corner)
        for x, y, *corner in places
    ]
    chosen = crowded.index(min(crowded))
    x, y, *_ = places[chosen]
    begin = corners[chosen][2] - 90
    angles = [math.radians(begin + 270 * step / 48) for step in range(49)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def _bezier(first: Point, bend: Point, last: Point, share: float) -> Point:
    weights = (1 - share) ** 2, 2 * share * (1 - share), share**2
    x, y = (sum(w * point[axis] for w, point in zip(weights, (first, bend, last), strict=True)) for axis in (0, 1))
    return x, y


def _holds(box: Rectangle, point: Point) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def _place_on(
    path: Sequence[Point], size: tuple[float, float], taken: Sequence[Rectangle], width: int, height: int
) -> Rectangle:
    """Return the place of a word on an arrow or beside it: near its middle, where it covers least."""
    places: list[Rectangle] = []
    for share in (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74):
        number = round(share * (len(path) - 1))
        (x, y), before, after = path[number], path[number - 1], path[number + 1]
        reach = math.dist(before, after) or 1.0
        across = -(after[1] - before[1]) / reach, (after[0] - before[0]) / reach
        # How far to the side the word just leaves the arrow free.
        clear = 3 + (size[0] * abs(across[0]) + size[1] * abs(across[1])) / 2
        for aside in (0.0, clear, -clear, 2 * clear, -2 * clear):
            left = max(0.0, min(x + aside * across[0] - size[0] / 2, width - size[0] - 1))
            top = max(0.0, min(y + aside * across[1] - size[1] / 2, height - size[1] - 1))
            places.append((left, top, left + size[0], top + size[1]))

    def cost(place: Rectangle) -> float:
        covered = sum(overlap(place, other) for other in taken) / (size[0] * size[1])
        hidden = sum(_holds(place, point) for point in path) / len(path)
        beside = 0.1 if hidden == 0 else 0.0
        # A short arrow would be nothing but its word.
        return 4 * covered + 3 * max(0.0, hidden - 0.35) + beside

    # The first of equal ones.
    return min(places, key=cost)


def _thumbnail(reference: Reference, height: int) -> Image.Image:
    """Return a reference picture, made small, with its role and what it is about below."""
    width = round(1.5 * height)
    picture = ImageOps.contain(reference.open(), (width, height))
    words = f"{reference.role}, of {reference.instance}" if reference.instance else reference.role
    text = Text(max(10, height // 7), FAINT)
    page = Image.new("RGB", (width, height + text.line_height // 4 + text.height(words, width, 2)), PAPER)
    page.paste(picture, (0, 0))
    pen = ImageDraw.Draw(page)
    pen.rectangle((0, 0, picture.width - 1, picture.height - 1), outline=BORDER)
    text.write(pen, 0, height + text.line_height // 4, words, width, 2)
    return page
