"""The head of a model card: what the Hugging Face Hub reads and files it by."""

from __future__ import annotations

from typing import Any

from seclcompress.networks import sources
from seclcompress.report.card.markdown import yaml
from seclcompress.report.page.facts import Facts
from seclcompress.report.page.words import name

#: The Hub's name of each task, by ours.
_TASKS = {
    "image classification": "image-classification",
    "semantic segmentation": "image-segmentation",
    "object detection": "object-detection",
    "video classification": "video-classification",
}
#: Where the Hub has a data set that we know.
_DATA_SETS = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "mnist": "ylecun/mnist",
    "fashionmnist": "zalando-datasets/fashion_mnist",
    "imagenet": "ILSVRC/imagenet-1k",
}


def task_name(facts: Facts) -> str | None:
    """What the network does, in words; None if only a person's own code knows."""
    source = sources.get(facts.config.network.source)
    if source.runs_foreign_code and facts.trained_on is None:
        return None
    return source.task(facts.config.network).name


def front_matter(facts: Facts) -> str:
    """The YAML between two lines of dashes. A license is the owner's to choose, so there is none."""
    task = _TASKS.get(task_name(facts) or "")
    tags = ["seclcompress", "pytorch"]
    if facts.converted:
        tags += ["model-compression", *facts.plan.families]
    head: dict[str, Any] = {"library_name": "seclcompress"}
    if task is not None:
        head["pipeline_tag"] = task
    head["tags"] = tags
    on_hub = _DATA_SETS.get((facts.trained_on or "").partition(":")[0])
    if on_hub is not None:
        head["datasets"] = [on_hub]
    if facts.accuracy is not None and task is not None:
        head["metrics"] = ["accuracy"]
        head["model-index"] = [_measured(facts, task, on_hub)]
    return f"---\n{yaml(head)}\n---\n"


def _measured(facts: Facts, task: str, on_hub: str | None) -> dict[str, Any]:
    data = name((facts.accuracy_on or "unknown").partition(":")[0])
    return {
        "name": name(facts.network),
        "results": [
            {
                "task": {"type": task},
                "dataset": {"name": data, "type": on_hub or data, "split": "test"},
                "metrics": [
                    {"type": "accuracy", "name": "Top-1 accuracy (%)", "value": facts.accuracy}
                ],
            }
        ],
    }
