"""Which options a file may give to torchvision's builders.

The list is explicit, one for each task. An option is on it if its value is a number, a truth value or
a few of these, and only shapes or tunes the network. What takes a function, a layer, a folder or weights
is not on it, so nothing in a stranger's file can make a builder run code or download. A builder that
does not take an option of its task's list refuses it by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from seclcompress.errors import NetworkError, short
from seclcompress.networks.tasks import (
    Detection,
    OpticalFlow,
    Segmentation,
    Task,
    VideoClassification,
)

#: This package's own option: the backbone's batch norms become constants, as they are in the detectors
#: that torchvision builds with published weights.
FROZEN_NORM = "frozen_norm"
_DROPPING = ("dropout", "attention_dropout", "stochastic_depth_prob")
_ALLOWED: dict[type[Task], frozenset[str]] = {
    Task: frozenset(
        (
            *_DROPPING,
            *("aux_logits", "transform_input", "dropout_aux"),  # GoogLeNet, Inception
            *("zero_init_residual", "groups", "width_per_group", "replace_stride_with_dilation"),
            *("growth_rate", "num_init_features", "bn_size", "drop_rate", "memory_efficient"),
            *("width_mult", "round_nearest", "dilated", "reduced_tail"),  # MobileNets
            *("image_size", "input_size", "layer_scale"),
        )
    ),
    Detection: frozenset(
        (
            *(FROZEN_NORM, "trainable_backbone_layers", "num_keypoints"),
            *("min_size", "max_size", "image_mean", "image_std", "size_divisible"),
            *("score_thresh", "nms_thresh", "iou_thresh", "fg_iou_thresh", "bg_iou_thresh"),
            *("detections_per_img", "topk_candidates", "positive_fraction", "center_sampling_radius"),
            *(f"rpn_{stage}_nms_top_n_{mode}" for stage in ("pre", "post")
              for mode in ("train", "test")),
            *(f"{part}_{name}" for part in ("rpn", "box") for name in
              ("nms_thresh", "score_thresh", "fg_iou_thresh", "bg_iou_thresh", "batch_size_per_image",
               "positive_fraction")),
            *("box_detections_per_img", "bbox_reg_weights"),
        )
    ),
    Segmentation: frozenset(("aux_loss",)),
    VideoClassification: frozenset((*_DROPPING, "zero_init_residual")),
    OpticalFlow: frozenset(),
}  # fmt: skip
#: Prefixes of torchvision's options that make it fetch weights; they get words of their own.
_FETCHING = ("weights", "pretrained")


def check_builder_options(name: str, task: Task, options: Mapping[str, object]) -> None:
    """Refuses options that are not on the list, and values that are neither numbers nor a few of them.

    Args:
        name: The network's name, for the message.
        task: The network's task.
        options: Further options of the builder, perhaps from a stranger's file.

    Raises:
        NetworkError: If there are some.
    """
    fetching = [option for option in options if option.startswith(_FETCHING)]
    if fetching:
        raise NetworkError(
            f"Cannot build {name} with {short(', '.join(fetching), 500)}: weights are named with "
            "--weights."
        )
    allowed = _ALLOWED[type(task)]
    strange = [option for option in options if option not in allowed]
    if strange:
        raise NetworkError(
            f"Cannot build {name} with {short(', '.join(strange), 500)}: the options that can be "
            f"given to it are {', '.join(sorted(allowed)) or 'none'}."
        )
    for option, value in options.items():
        parts = value if isinstance(value, list | tuple) else [value]
        if not all(part is None or isinstance(part, bool | int | float) for part in parts):
            raise NetworkError(
                f"Cannot build {name} with {option} {short(repr(value), 200)}: it takes a number, true "
                "or false, or a list of these."
            )
