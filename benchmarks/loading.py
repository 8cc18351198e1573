"""Times the loader and a distillation step separately, in images per second.

    python benchmarks/loading.py --folder PATH [--images 5000] [--threads 2]

PATH holds train/ and test/ with a folder of small images for each class. All are timed in turn, in one
process. `files read each time` is the way of images of many sizes that do not fit into memory, without
workers; larger images take longer. A step is one of SGD, of the distillation with both losses.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torchvision.datasets import ImageFolder

import seclcompress
from seclcompress.data import Augmentation, Data, Presentation, load_data
from seclcompress.data.folders import Reading, open_folder
from seclcompress.settings.training import TrainingSettings
from seclcompress.timing import alternate, describe_machine
from seclcompress.train.objective import Objective
from seclcompress.train.teacher import Teacher

SIZE, BATCH, TAPS = (3, 32, 32), 128, ("group1", "group2", "group3")
KINDS = {
    "as they are": Augmentation(),
    "crop, flip": Augmentation(crop=True, flip=True),
    "crop, flip, cutout": Augmentation(crop=True, flip=True, cutout=16),
    "crop, flip, RandAugment": Augmentation(crop=True, flip=True, randaugment=9),
}


def pass_over(data: Data, augmentation: Augmentation, count: int) -> Callable[[], object]:
    """A function that reads `count` training images in a random order."""
    order = list(torch.randperm(len(data.train))[:count].split(BATCH))
    presentation = Presentation(SIZE, data.preprocessing, augmentation)

    def run() -> None:
        for _ in data.train.read(order, presentation):
            pass

    return run


def distillation_step(network: str) -> Callable[[], object]:
    """A function that does one step of distilling a converted network from the original."""
    source = seclcompress.locate(network, num_classes=10, input_size=SIZE)
    teacher, _ = source.load()
    student, _ = source.load()
    options = seclcompress.PlanOptions(substitution="acdc", keep=("*.shortcut",))
    planned = seclcompress.workflows.plan_network(source, options=options)
    seclcompress.rewrite_network(student, planned.plan)
    student.train().to(memory_format=torch.channels_last)
    teacher.to(memory_format=torch.channels_last)
    settings = TrainingSettings(taps=TAPS)
    objective = Objective(student, student, settings, 10, Teacher(teacher, TAPS)).__enter__()
    data = load_data("digits", SIZE)
    presentation = Presentation(SIZE, data.preprocessing)
    [batch] = data.train.read([torch.arange(BATCH)], presentation)
    batch = batch._replace(images=batch.images.contiguous(memory_format=torch.channels_last))
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3, momentum=0.9, foreach=True)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        objective(batch).backward()
        optimizer.step()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    print(describe_machine())
    began = time.perf_counter()
    data = load_data(f"imagefolder:{chosen.folder}", SIZE, train_images=chosen.images)
    count = len(data.train)
    print(f"Decoding, once: {time.perf_counter() - began:.1f} s for all training images.")
    passes = {name: pass_over(data, augmentation, count) for name, augmentation in KINDS.items()}
    few = min(count, 2000)
    samples = ImageFolder(str(chosen.folder / "train")).samples
    samples = samples[:: max(1, len(samples) // few)][:few]
    files = replace(data, open_train=lambda: open_folder(samples, None, Reading("never")))
    passes["crop, flip, files read each time"] = pass_over(files, KINDS["crop, flip"], few)
    steps = {f"a step of {name}": distillation_step(name) for name in ("wrn10_2", "wrn16_2")}
    times = alternate({**passes, **steps}, rounds=chosen.rounds)
    print("| what | images/s | middle half ± |")
    print("|---|---|---|")
    for name, timing in times.items():
        images = BATCH if name in steps else few if "files" in name else count
        spread = 50 * timing.spread / timing.median
        print(f"| {name} | {images / timing.median:,.0f} | {spread:.0f} % |")


if __name__ == "__main__":
    main()
