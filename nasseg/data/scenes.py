"""Procedural street scenes, so that everything runs without a download: exactly labelled, equal on all machines.

A pinhole camera 1.5 m above the ground looks down a street. Lengths are metres (X to the right, Y up, Z ahead). Sizes
in the image follow from perspective, so objects span a wide range of scales. A scene is a map of materials. A material
has a class, a colour and a roughness. Neither colour nor a small neighbourhood solves the task:

- road and pavement are one grey with one grain. The strip between a kerb-like line and the wall is pavement where the
  wall has awnings, and road where it is bare. The cue is up to half the image height away, and further in columns near
  the vanishing point. The rule depends on the wall, not on left and right, so flipping keeps it true.
- trucks are painted and windowed like facades, signs and clothes like cars, overcast skies like walls.
- poles are one pixel wide at 64 x 128.
- in the image, some things are more than 16 times as tall as others, and some cars 9 times as tall as other cars.

Frozen: recorded figures name these scenes by their content, and a test holds checksums of it. tests/benchmarks/
bench_scenes.py measures what they reward (reports/scenes).

Some scenes show the bonnet of the camera's own car, which is not labelled (255).
Only exactly rounded arithmetic (+ - * /, floor) decides pixels.
"""

from math import floor

import numpy as np
from numpy.typing import NDArray

CLASSES = ("sky", "building", "road", "pavement", "tree", "car", "truck", "person", "pole", "sign")
COLOURS = (
    (110, 160, 220),
    (120, 90, 80),
    (110, 70, 130),
    (230, 120, 200),
    (60, 140, 50),
    (30, 60, 180),
    (20, 110, 130),
    (220, 40, 60),
    (190, 190, 170),
    (240, 210, 40),
)
IGNORE = 255
SKY, BUILDING, ROAD, PAVEMENT, TREE, CAR, TRUCK, PERSON, POLE, SIGN = range(10)

_EYE = 1.5  # height of the camera
_FAR = 80.0  # end of the street
_BLOCKS = 12  # houses a side
_FACADES = np.array([[128, 126, 122], [150, 90, 70], [196, 176, 140], [210, 208, 204], [96, 92, 96]], np.float32)
_PAINTS = np.array(
    [[200, 30, 30], [30, 60, 170], [225, 225, 225], [35, 35, 40], [130, 132, 135], [230, 180, 30], [40, 110, 60]],
    np.float32,
)
_SKIES = np.array([[120, 170, 230], [190, 192, 196], [150, 150, 156], [225, 170, 130]], np.float32)
_SKINS = np.array([[225, 180, 150], [160, 110, 80], [95, 65, 50]], np.float32)
_LEAVES = np.array([[60, 110, 45], [90, 120, 50], [140, 100, 45]], np.float32)
_GLASS, _RUBBER = np.array([62, 70, 82], np.float32), np.array([28, 28, 30], np.float32)
_AWNING, _WHITE = np.array([205, 70, 40], np.float32), np.array([235, 235, 230], np.float32)


def render(index: int, size: tuple[int, int] = (64, 128), seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw scene `index` of the endless series `seed`: image [H, W, 3] and label [H, W], classes 0..9 and 255."""
    scene = _Scene(np.random.Generator(np.random.PCG64([seed, index])), size)
    scene.draw_street()
    scene.draw_objects()
    return scene.develop()


class _Scene:
    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self.rng, (self.height, self.width) = rng, size
        self.focal = self.height * self.between(0.75, 1.0)
        self.horizon = self.height * self.between(0.38, 0.52)
        self.vanish = self.width * self.between(0.35, 0.65)
        self.y = np.arange(self.height, dtype=np.float32)[:, None] + np.float32(0.5 - self.horizon)
        self.x = np.arange(self.width, dtype=np.float32)[None, :] + np.float32(0.5 - self.vanish)
        self.grain = rng.integers(0, 256, size, dtype=np.uint8)
        self.map = np.zeros(size, np.uint8)
        self.classes: list[int] = []
        self.colours: list[NDArray[np.float32]] = []
        self.rough: list[float] = []

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def pick(self, colours: NDArray[np.float32], spread: float = 14) -> NDArray[np.float32]:
        """Pick one of the colours, varied a little."""
        draws = self.rng.random(4)
        chosen: NDArray[np.float32] = colours[int(draws[0] * len(colours))]
        return chosen + ((draws[1:] - 0.5) * (2 * spread)).astype(np.float32)

    def material(self, kind: int, colour: NDArray[np.float32], rough: float = 5) -> int:
        self.classes.append(kind)
        self.colours.append(colour)
        self.rough.append(rough)
        return len(self.classes) - 1

    # --- the street: sky, houses, ground -------------------------------------------------------------------------

    def draw_street(self) -> None:
        self.kerbs = (-self.between(1.2, 3.2), self.between(1.2, 3.2))
        self.walls = (self.kerbs[0] - self.between(3, 6.5), self.kerbs[1] + self.between(3, 6.5))
        shops = self.rng.random(2) < 0.5

        sky_colour = self.pick(_SKIES)
        sky = self.material(SKY, sky_colour, 3)
        clouds = self.material(SKY, sky_colour * np.float32(0.6) + np.float32(95), 4)
        grey = np.full(3, self.between(75, 150), np.float32) + np.array([0, 0, self.between(-6, 8)], np.float32)
        road = self.material(ROAD, grey, 9)
        pavement = self.material(PAVEMENT, grey, 9)
        line = self.material(ROAD, grey * np.float32(0.5) + np.float32(110), 6)

        right = self.x[0] > 0
        wall_z = np.float32(self.focal) * np.where(right, np.float32(self.walls[1]), np.float32(-self.walls[0]))
        wall_z = np.minimum(wall_z / np.abs(self.x[0]).clip(0.25), np.float32(_FAR))
        wall_y = np.float32(_EYE) - self.y * (wall_z / np.float32(self.focal))
        houses, is_house = self._houses(wall_z, wall_y, right, shops)

        ground_z = np.float32(self.focal * _EYE) / np.maximum(self.y, np.float32(0.25))
        ground_x = self.x * (ground_z / np.float32(self.focal))
        outer = np.where(right, ground_x > self.kerbs[1], ground_x < self.kerbs[0])
        ground = np.where(outer & shops[right.astype(np.intp)], pavement, road)
        # A kerb borders whatever is outside it, pavement or road: it shows where the strip is, not what it is.
        self.shade = np.zeros((self.height, self.width), np.float32)
        for side, kerb in enumerate(self.kerbs):
            outside = ground_x - np.float32(kerb) if side else np.float32(kerb) - ground_x
            self.shade[(outside > 0) & (outside < 0.22) & (wall_y < 0)] = 30
        if self.rng.random() < 0.4:
            dash = (np.abs(ground_x - np.float32(self.between(-0.8, 0.8))) < 0.12) & (_fraction(ground_z / 6) < 0.5)
            ground[dash] = line

        self.map = np.where(wall_y < 0, ground, np.where(is_house, houses, sky)).astype(np.uint8)
        self.shade += np.where(self.map == sky, self.y * np.float32(-20 / self.horizon), np.float32(0))
        for _ in range(int(self.between(0, 4))):
            self._cloud(sky, clouds)

    def _houses(
        self,
        wall_z: NDArray[np.float32],
        wall_y: NDArray[np.float32],
        right: NDArray[np.bool_],
        shops: NDArray[np.bool_],
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Draw rows of houses along both walls. Return their materials and their mask, [H, W] each."""
        draws = self.rng.random((5, 2 * _BLOCKS)).astype(np.float32)
        ends = np.cumsum(draws[0].reshape(2, -1) * np.float32(8) + np.float32(5), axis=1)
        block = np.where(right, np.searchsorted(ends[1], wall_z) + _BLOCKS, np.searchsorted(ends[0], wall_z)).clip(
            0, 2 * _BLOCKS - 1
        )
        tall = np.where(draws[1] < 0.25, np.float32(4), np.float32(5) + draws[2] * np.float32(12))[block]
        walls = []
        for _ in range(2 * _BLOCKS // 4):  # houses in a row repeat four colours a few times; windows follow the wall
            colour = self.pick(_FACADES)
            walls.append(self.material(BUILDING, colour, 7))
            self.material(BUILDING, colour * np.float32(0.45) + np.float32(18), 5)
        awning = self.material(BUILDING, _AWNING, 4)
        self.material(BUILDING, _WHITE, 4)

        bay, storey = np.float32(2) + draws[3] * np.float32(2), np.float32(2.6) + draws[4]
        window = (_fraction(wall_y / storey[block]) > 0.45) & (_fraction(wall_z / bay[block]) > 0.5)
        houses = np.array(walls)[block % len(walls)] + window
        hung = (wall_y > 2.5) & (wall_y < 3.7) & shops[right.astype(np.intp)] & (wall_z < _FAR)
        houses = np.where(hung, awning + (_fraction(wall_z * np.float32(0.8)) > 0.6), houses)
        return houses, wall_y < tall

    def _cloud(self, sky: int, cloud: int) -> None:
        x, y = self.between(0, self.width), self.between(0, self.horizon)
        rx, ry = self.width * self.between(0.05, 0.2), self.height * self.between(0.02, 0.08)
        self._ellipse(x, y, rx, ry, cloud, only=sky)

    # --- what stands on the ground --------------------------------------------------------------------------------

    def draw_objects(self) -> None:
        """Draw trees, vehicles, persons, poles and signs, the farthest first."""
        counts = (
            (self._tree, 3, 7, 35),
            (self._car, 5, 4.5, 40),
            (self._truck, 2.2, 7, 35),
            (self._person, 6, 3, 14),
            (self._post, 5, 3.5, 14),
        )
        todo = []
        for draw, most, near, far in counts:
            for _ in range(int(self.between(0.3, most + 1))):
                # Uniform in 1/Z, hence in size in the image.
                todo.append((near / self.between(near / far, 1), draw))
        for z, draw in sorted(todo, key=lambda item: -item[0]):
            draw(self.between(self.walls[0] + 0.8, self.walls[1] - 0.8), z)
        if self.rng.random() < 0.25:
            bonnet = self.material(IGNORE, self.pick(_PAINTS) * np.float32(0.6), 3)
            self._ellipse(self.vanish, self.height, self.width * 0.4, self.height * self.between(0.04, 0.12), bonnet)

    def _column(self, x: float, z: float) -> float:
        return self.vanish + self.focal * x / z

    def _row(self, y: float, z: float) -> float:
        return self.horizon + self.focal * (_EYE - y) / z

    def _box(self, x: float, z: float, width: float, low: float, high: float, paint: int) -> tuple[slice, slice]:
        """Draw an upright rectangle at depth z, at least a pixel wide and high."""
        left, top = floor(self._column(x - width / 2, z) + 0.5), floor(self._row(high, z) + 0.5)
        right = max(floor(self._column(x + width / 2, z) + 0.5), left + 1)
        bottom = max(floor(self._row(low, z) + 0.5), top + 1)
        where = slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))
        self.map[where] = paint
        self.shade[where] = 0
        return where

    def _disc(
        self, x: float, z: float, y: float, radius: float, paint: int, *, tall: float = 1, ragged: float = 0
    ) -> None:
        pixels = self.focal * radius / z
        self._ellipse(self._column(x, z), self._row(y, z), max(pixels, 0.8), max(pixels * tall, 0.8), paint, ragged)

    def _ellipse(
        self, x: float, y: float, rx: float, ry: float, paint: int, ragged: float = 0, only: int | None = None
    ) -> None:
        rows = slice(max(floor(y - ry), 0), max(floor(y + ry) + 1, 0))
        columns = slice(max(floor(x - rx), 0), max(floor(x + rx) + 1, 0))
        dy = (self.y[rows] + np.float32(self.horizon - y)) / np.float32(ry)
        dx = (self.x[:, columns] + np.float32(self.vanish - x)) / np.float32(rx)
        inside = dx * dx + dy * dy < 1 - np.float32(ragged / 255) * self.grain[rows, columns]
        if only is not None:
            inside &= self.map[rows, columns] == only
        self.map[rows, columns][inside] = paint
        self.shade[rows, columns][inside] = 0

    def _tree(self, x: float, z: float) -> None:
        leaves = self.material(TREE, self.pick(_LEAVES), 30)
        trunk = self.material(TREE, np.array([85, 68, 52], np.float32), 8)
        crown = self.between(1.2, 2.2)
        y = crown + self.between(1.8, 3)
        self._box(x, z, 0.35, 0, y, trunk)
        self._disc(x, z, y, crown, leaves, tall=self.between(0.8, 1.3), ragged=0.6)

    def _car(self, x: float, z: float) -> None:
        body = self.material(CAR, self.pick(_PAINTS), 4)
        glass, tyres = self.material(CAR, _GLASS, 4), self.material(CAR, _RUBBER, 3)
        length = 1.8 if self.rng.random() < 0.6 else 4.2  # seen from behind or from the side
        self._box(x, z, length * 0.72, 0.9, 1.5, body)
        self._box(x, z, length * 0.62, 0.95, 1.38, glass)
        for side in (-0.36, 0.36):
            self._box(x + side * length, z, length * 0.18 if length < 2 else 0.65, 0, 0.5, tyres)
        self._box(x, z, length, 0.28, 0.95, body)
        if length < 2:
            lights = self.material(CAR, _AWNING if self.rng.random() < 0.5 else _WHITE, 3)
            for side in (-0.38, 0.38):
                self._box(x + side * length, z, 0.3, 0.62, 0.8, lights)

    def _truck(self, x: float, z: float) -> None:
        colour = self.pick(_FACADES)
        body = self.material(TRUCK, colour, 7)
        panes = self.material(TRUCK, colour * np.float32(0.45) + np.float32(18), 5)
        tyres = self.material(TRUCK, _RUBBER, 3)
        length = 2.5 if self.rng.random() < 0.5 else 6.5
        for side in (-0.36, 0.36):
            self._box(x + side * length, z, length * 0.16, 0, 0.7, tyres)
        self._box(x, z, length, 0.55, 3.4, body)
        bay = self.between(0.7, 1.3)
        for number in range(floor(length / bay)):
            centre = x - length / 2 + (number + 0.5) * bay
            for low in (1.1, 2.3):
                self._box(centre, z, bay * 0.5, low, low + 0.7, panes)

    def _person(self, x: float, z: float) -> None:
        coat, trousers = (
            self.material(PERSON, self.pick(_PAINTS), 6),
            self.material(PERSON, self.pick(_PAINTS) * 0.5, 6),
        )
        skin = self.material(PERSON, self.pick(_SKINS), 4)
        tall = self.between(0.85, 1.1)
        for side in (-0.16, 0.16):
            self._box(x + side, z, 0.24, 0, 0.85 * tall, trousers)
        self._box(x, z, 0.62, 0.75 * tall, 1.48 * tall, coat)
        self._disc(x, z, 1.66 * tall, 0.19, skin, tall=1.2)

    def _post(self, x: float, z: float) -> None:
        tall = self.between(2.6, 4.5)
        self._box(x, z, 0.2, 0, tall, self.material(POLE, np.full(3, self.between(60, 190), np.float32), 4))
        if self.rng.random() < 0.3:
            return
        rim, face = self.material(SIGN, self.pick(_PAINTS), 3), self.material(SIGN, self.pick(_PAINTS), 3)
        radius = self.between(0.55, 0.9)
        if self.rng.random() < 0.5:
            self._disc(x, z, tall, radius, rim)
            self._disc(x, z, tall, radius * 0.65, face)
        else:
            self._box(x, z, 2.6 * radius, tall - radius * 0.8, tall + radius * 0.8, rim)
            self._box(x, z, 2.6 * radius * 0.75, tall - radius * 0.4, tall + radius * 0.4, face)

    # --- the photograph -------------------------------------------------------------------------------------------

    def develop(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Add light, grain, sensor noise and a slight blur. Return image and label."""
        tint = np.array([self.between(0.92, 1.08) for _ in range(3)], np.float32) * np.float32(self.between(0.7, 1.12))
        colours = np.stack(self.colours) * tint
        texture = (self.grain.astype(np.float32) - np.float32(127.5)) / np.float32(100)
        texture *= np.array(self.rough, np.float32)[self.map]
        light = colours[self.map] + (texture + self.shade)[..., None]
        light += self.rng.integers(-6, 7, light.shape, dtype=np.int8)
        raw = light.clip(0, 255).astype(np.uint16)
        raw[:, 1:-1] = (raw[:, :-2] + 2 * raw[:, 1:-1] + raw[:, 2:]) >> 2
        raw[1:-1] = (raw[:-2] + 2 * raw[1:-1] + raw[2:]) >> 2
        return raw.astype(np.uint8), np.array(self.classes, np.uint8)[self.map]


def _fraction(value: NDArray[np.float32]) -> NDArray[np.float32]:
    return value - np.floor(value)
