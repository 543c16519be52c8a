"""Images a second in training: nasseg's loop against a plain one, and against the limit, forward and backward alone.

    python -m tests.benchmarks.bench_training --data PATH     a data set on disk; without it procedural scenes

Nothing else should run. All train the same network, one that studies/camvid-quick.yaml samples, with the recipe's
augmentation (zoom, crop, flip, jitter):

    nasseg              the decoded cache, augmented in batches on the training device
    plain loop          a DataLoader that reads, decodes and augments image by image (Pillow, NumPy), and the step as it
                        is usually written: torch's default layout, cross entropy, SGD and averaged model
    DataLoader          the same DataLoader before nasseg's step: what the data alone make out
    resident            nasseg's step on one batch that is there already
    forward + backward  the same without optimiser and average: the limit

Each runs with each number of threads, a DataLoader also with each number of workers; the best setting of each is then
measured in turns, and medians are compared. `--cores 1` keeps everything, workers too, on one core, as searches run:
one training a core. Beside images/s stands the CPU time of all processes an image, which suffers less from neighbours.
Exit 1 if nasseg's loop has less than 1.2 times the images/s of the plain loop, or of the DataLoader, on a CPU, or a
data stall of more than 3 % of a step on a GPU. The smaller the step, the more the data count: --width 0.5
--input-scale 1 is the other end of what small searches train.
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from operator import truediv
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import swa_utils
from torch.utils.data import DataLoader, Dataset

from nasseg.data.dataset import DataSet, find_folder, load_data
from nasseg.data.image_file import read_known
from nasseg.families import make_arch
from nasseg.train.loop import Training
from nasseg.train.recipe import Recipe, load_recipe
from nasseg.train.views.network_input import MEAN, STD

RATIO, STALL = 1.2, 0.03
Setting = tuple[int, int]  # threads, workers
Measured = tuple[float, float]  # images a second, CPU milliseconds an image
NAMES = ("nasseg", "plain loop", "DataLoader", "resident", "forward + backward")
LOADED = ("plain loop", "DataLoader")


class Pictures(Dataset[tuple[Tensor, Tensor]]):
    """Views, image by image."""

    def __init__(self, samples: list[Any], recipe: Recipe, size: tuple[int, int]) -> None:
        self.samples, self.recipe, self.size = samples, recipe, recipe.crop_size or size

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(torch.randint(1 << 62, ()).item())
        sample = self.samples[number]
        image, label = map(Image.fromarray, read_known(sample.image, sample.label, sample.encoding))
        zoom = rng.uniform(*self.recipe.scale_range)
        shape = (round(image.width * zoom), round(image.height * zoom))
        image, label = image.resize(shape, Image.Resampling.BILINEAR), label.resize(shape, Image.Resampling.NEAREST)
        height, width = self.size
        left, top = (round(rng.random() * (there - view)) for there, view in zip(shape, (width, height), strict=True))
        box = (left, top, left + width, top + height)
        pixels = np.asarray(image.crop(box), np.float32)
        pixels = (pixels - np.float32(MEAN)) / np.float32(STD)
        inside = np.asarray(Image.new("L", shape, 1).crop(box)) if min(left, top) < 0 else None
        target = np.asarray(label.crop(box), np.int64)
        if inside is not None:  # what a crop shows beside the image is black, and class 0
            pixels, target = pixels * inside[..., None], np.where(inside, target, 255)
        if self.recipe.flip and rng.random() < 0.5:
            pixels, target = pixels[:, ::-1], target[:, ::-1]
        if self.recipe.jitter:
            contrast, brightness = rng.uniform(-1, 1, 2).astype(np.float32) * np.float32(self.recipe.jitter)
            pixels = pixels * (1 + contrast) + brightness
        view = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return view, torch.from_numpy(np.ascontiguousarray(target))


def one_thread(_worker: int) -> None:
    torch.set_num_threads(1)


class PlainLoop:
    """A step as it is usually written."""

    def __init__(self, model: nn.Module, recipe: Recipe, device: str) -> None:
        self.model, self.recipe = model.to(device).train(), recipe
        self.optimizer = torch.optim.SGD(
            model.parameters(), recipe.learning_rate, 0.9, weight_decay=recipe.weight_decay
        )
        average = swa_utils.get_ema_multi_avg_fn(recipe.ema_decay) if recipe.ema_decay else None
        self.average = average and swa_utils.AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)

    def step(self, images: Tensor, labels: Tensor) -> float:
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(images), labels, ignore_index=255)
        loss.backward()
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.model)
        return loss.item()


class Feeds:
    """A training whose steps take their batches from where they are told to, and a plain loop."""

    def __init__(self, data: DataSet, samples: list[Any], recipe: Recipe, arch: Any, device: str) -> None:
        torch.manual_seed(0)
        self.data, self.recipe, self.device = data, recipe, device
        self.training = Training(arch.build(data.num_classes).train(), data, recipe, 0, device)
        self.plain = PlainLoop(arch.build(data.num_classes), recipe, device)
        self.own = self.training.batches.next, self.training.augment
        (images, labels), places = self.own[0]()
        self.batch = self.own[1](images, labels, self.training.generator, places)
        self.pictures = Pictures(samples, recipe, data.train.size)
        self.loaders: dict[tuple[str, int], Iterator[list[Tensor]]] = {}

    def take(self, name: str, workers: int) -> Callable[[], object]:
        """A function that does one step fed so."""
        if name == "forward + backward":
            return self._passes
        training = self.training
        if name == "nasseg":
            training.batches.next, training.augment = self.own
            return training._step
        feed = (lambda: self.batch) if name == "resident" else self._loader(name, workers)
        if name == "plain loop":
            return lambda: self.plain.step(*feed())
        training.batches.next = lambda: (feed(), None)
        training.augment = lambda images, labels, *_: (images, labels)
        return training._step

    def _passes(self) -> None:
        training = self.training
        training.optimizer.zero_grad()
        loss = training.loss(*self.batch)
        training.scaler.scale(loss).backward()

    def keep(self, name: str, workers: int) -> None:
        """Of a name's loaders that one only; the workers of the others end."""
        self.loaders = {key: it for key, it in self.loaders.items() if key[0] != name or key[1] == workers}

    def _loader(self, name: str, workers: int) -> Callable[[], tuple[Tensor, Tensor]]:
        def batches() -> Iterator[list[Tensor]]:
            loader = DataLoader(
                self.pictures,
                self.recipe.batch_size,
                shuffle=True,
                num_workers=workers,
                drop_last=True,
                persistent_workers=workers > 0,
                pin_memory=self.device != "cpu",
                worker_init_fn=one_thread,
            )
            while True:
                yield from loader

        found = self.loaders.setdefault((name, workers), batches())

        def feed() -> tuple[Tensor, Tensor]:
            images, labels = next(found)
            return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

        return feed

    def measure(self, name: str, setting: Setting, seconds: float) -> Measured:
        """Over so long, after what loaders had ready."""
        threads, workers = setting
        torch.set_num_threads(threads)
        step = self.take(name, workers)
        for _ in range(2 * workers + 2):
            step()
        self._wait()
        begun, cpu, steps = time.perf_counter(), cpu_seconds(), 0
        while steps < 4 or time.perf_counter() - begun < seconds:
            step()
            steps += 1
        self._wait()
        images = steps * self.recipe.batch_size
        return images / (time.perf_counter() - begun), 1e3 * (cpu_seconds() - cpu) / images

    def _wait(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()


def cpu_seconds() -> float:
    """Of this process and its workers."""
    clocks = (~process.pid << 3 | 2 for process in multiprocessing.active_children())  # Linux's clock of a process
    return time.process_time() + sum(time.clock_gettime(clock) for clock in clocks)


def compare(
    feeds: Feeds, threads: list[int], workers: list[int], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Images a second of each feed, round by round."""
    best: dict[str, Setting] = {}
    for name in NAMES:
        tried = [(t, w) for t in threads for w in (workers if name in LOADED else [0])]
        found = {setting: feeds.measure(name, setting, seconds / 2) for setting in tried}
        best[name] = max(found, key=lambda setting: found[setting][0])
        for (t, w), (rate, cpu) in found.items():
            print(
                f"  {name:20}{t:3} threads{w:3} workers {rate:8.1f} images/s {cpu:6.1f} ms", file=sys.stderr, flush=True
            )
        feeds.keep(name, best[name][1])
    rows: dict[str, list[Measured]] = {name: [] for name in NAMES}
    for turn in range(rounds):
        for name in NAMES[:: -1 if turn % 2 else 1]:
            rows[name].append(feeds.measure(name, best[name], seconds))
    print(f"{'feed':20} threads workers  images/s    lowest   highest  nasseg is  CPU ms an image  nasseg takes")
    for name, measured in rows.items():
        rates, times = [rate for rate, _ in measured], [ms for _, ms in measured]
        faster = statistics.median(ours / theirs for (ours, _), theirs in zip(rows["nasseg"], rates, strict=True))
        less = statistics.median(ours / theirs for (_, ours), theirs in zip(rows["nasseg"], times, strict=True))
        t, w = best[name]
        print(
            f"{name:20} {t:7} {w:7} {statistics.median(rates):9.1f} {min(rates):9.1f} {max(rates):9.1f} {faster:9.2f}x "
            f"{statistics.median(times):16.1f} {less:12.2f}x"
        )
    return {name: [rate for rate, _ in found] for name, found in rows.items()}


def scenes_on_disk(folder: Path, size: tuple[int, int], count: int) -> Path:
    """Procedural scenes in CamVid's layout and format, so that there are files to decode."""
    data = load_data("scenes", size=size, train=count, val=8)
    for split in ("train", "val"):
        for kind in ("", "annot"):
            (folder / f"{split}{kind}").mkdir(parents=True)
        found = data.split(split)
        for number, (image, label) in enumerate(zip(found.images, found.labels, strict=True)):
            Image.fromarray(image.numpy()).save(folder / split / f"{number:04}.png")
            label = torch.where(label == 255, 11, label).to(torch.uint8)
            Image.fromarray(label.numpy()).save(folder / f"{split}annot" / f"{number:04}.png")
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="a data set on disk; else scenes of 360 x 480 are drawn")
    parser.add_argument("--arch", default="regseg")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--input-scale", type=float, default=0.5)
    parser.add_argument("--recipe", default="short-camvid")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each feed in each round")
    parser.add_argument("--threads", type=int, nargs="*", help="to try; default 1 and all cores")
    parser.add_argument("--workers", type=int, nargs="*", help="of a DataLoader, to try; default 0 to all cores")
    parser.add_argument("--cores", type=int, help="to use; default all")
    asked = parser.parse_args()
    if asked.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: asked.cores])
    cores = len(os.sched_getaffinity(0))
    threads = asked.threads or sorted({1, cores})
    workers = asked.workers if asked.workers is not None else sorted({0, 1, cores // 2, cores})
    recipe, arch = load_recipe(asked.recipe), make_arch(asked.arch, width=asked.width, input_scale=asked.input_scale)
    if recipe.rand_augment or recipe.class_uniform or recipe.heads or recipe.ohem or recipe.optimizer != "sgd":
        parser.error(
            f"{asked.recipe} asks for more than the plain loop does: zoom, crop, flip, jitter, cross entropy, SGD"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = asked.data or scenes_on_disk(Path(folder), (360, 480), 200)
        data, samples = load_data(path), find_folder(path)[0].samples["train"]
        where = torch.cuda.get_device_name() if asked.device != "cpu" else f"{cores} CPU cores"
        print(f"{arch.family} at width {asked.width:g} and input_scale {asked.input_scale:g}", end=", ")
        print(f"recipe {asked.recipe}, crop {recipe.crop_size or data.train.size}")
        print(f"batch {recipe.batch_size}, {recipe.precision}, {len(samples)} images of {data.train.size}")
        print(f"torch {torch.__version__}, {where}, best of {threads} threads and of {workers} workers")
        print(f"then {asked.rounds} rounds of {asked.seconds:g} s in turns", flush=True)
        feeds = Feeds(data, samples, recipe, arch, asked.device)
        rates = compare(feeds, threads, workers, asked.rounds, asked.seconds)
    times = {name: statistics.median(map(truediv, rates["nasseg"], rates[name])) for name in NAMES}
    stall = 1 - times["resident"]
    faster = ", ".join(f"{times[name]:.2f} times the {name}'s" for name in LOADED)
    print(f"data stall: {100 * stall:.1f} % of a step; images/s: {faster}")
    if asked.device == "cpu":
        return int(min(times[name] for name in LOADED) < RATIO)
    return int(stall > STALL)


if __name__ == "__main__":
    sys.exit(main())
