"""Takes over trained networks of the SECL authors' programs."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from seclcompress import artefact
from seclcompress.count import check_rewritten, count_network
from seclcompress.errors import UsageError, WeightsError
from seclcompress.files import check_free
from seclcompress.networks.secl_checkpoints import SeclCheckpoint, read_secl
from seclcompress.networks.weights import load_weights
from seclcompress.observer import Logging, Observer
from seclcompress.plan import Plan, fit_plan, make_plan
from seclcompress.resolve import Located
from seclcompress.rewrite import rewrite_network
from seclcompress.settings.planning import Assignment, PlanOptions
from seclcompress.trace import Trace, trace_network
from seclcompress.workflows.cards import card_of_import
from seclcompress.workflows.converting import Converted, config_of
from seclcompress.workflows.locating import Network, find


def import_secl(
    network: Network,
    checkpoint: str | Path,
    output_dir: str | Path,
    *,
    extra_riffle: bool | None = None,
    num_classes: int | None = None,
    overwrite: bool = False,
    observer: Observer | None = None,
) -> Converted:
    """Writes a folder with an authors' trained network, which computes what theirs computes.

    Args:
        network: The wide residual network that the checkpoint is of, such as `wrn40_2`.
        checkpoint: A file of pytorch-acdc or deficient-efficient, with the network's tensors under
            `net`.
        output_dir: The folder to write.
        extra_riffle: Whether the network ran with a riffle between the transforms of each ACDC layer,
            which the file does not tell; None for no, which is then reported.
        num_classes: The number of outputs of the classifier.
        overwrite: Whether an existing output folder that this program wrote may be replaced.
        observer: Receives the decisions before anything is written, and then reports of the work.

    Raises:
        UsageError: If the network comes from a folder, or with weights of its own.
        NetworkError: If the network is unknown.
        WeightsError: If the checkpoint cannot be read, is of another network, or has layers that ours
            cannot express.
        PlanError: If one of its stacks replaces a layer that cannot be rewritten.
        ArtefactError: If the output path is taken or cannot be written.
    """
    observer = observer or Logging()
    output_dir, source = Path(output_dir), str(checkpoint)
    check_free(output_dir, overwrite)
    located = find(network, num_classes=num_classes)
    if located.folder is not None or located.weights is not None:
        raise UsageError(
            f"{located.label} has weights already. Name the network of the checkpoint, as wrn40_2."
        )
    found = read_secl(Path(checkpoint))
    if not found.stacks:
        raise WeightsError(
            f"{source} has no ACDC layers, only dense convolutions: there is nothing to take over."
        )
    skeleton = located.skeleton()
    _check_stacks(found, skeleton, located, source)
    trace = trace_network(skeleton, located.input_size)
    plan = _plan(found, skeleton, trace, bool(extra_riffle), source)
    counted = count_network(skeleton, trace, plan)
    check_rewritten(rewrite_network(skeleton, plan), counted)
    observer.decided(located.label, plan, counted)
    if extra_riffle is None:
        observer.message(
            f"{source} does not tell whether its ACDC layers ran with a riffle between the transforms: "
            "taken without. Where its accuracy is not the published one, say --option "
            "extra_riffle=true."
        )
    built, _ = located.load()
    rewrite_network(built, plan)
    load_weights(built, _state(found, built), source)
    config = config_of(located, plan, 0)
    config = config.model_copy(update={"training": {"from_weights": Path(checkpoint).name}})
    about = card_of_import(Path(checkpoint), config, plan, counted)
    artefact.save(output_dir, built.eval(), config, extra=about, overwrite=overwrite)
    observer.message(
        f"Wrote {output_dir}: {len(found.stacks)} convolutions are ACDC stacks, trained as they are in "
        f"{source}."
    )
    return Converted(plan, counted, output_dir)


def _check_stacks(
    found: SeclCheckpoint, skeleton: nn.Module, located: Located, source: str
) -> None:
    """Checks that ours expand channels to the stack's length as theirs do."""
    convolutions = {k: m for k, m in skeleton.named_modules() if isinstance(m, nn.Conv2d)}
    for name, stack in found.stacks.items():
        conv = convolutions.get(name)
        if conv is None:
            raise WeightsError(f"{source} is of another network: {located.label} has no {name}.")
        inputs, outputs, length = conv.in_channels, conv.out_channels, stack.a.shape[1]
        if length != max(inputs, outputs):
            raise WeightsError(
                f"{source} is of another network: its stack for {name} has length {length}, and "
                f"{located.label} has {inputs} → {outputs} channels there."
            )
        if outputs % inputs:
            raise WeightsError(
                f"{source}: {name} maps {inputs} to {outputs} channels. Theirs and ours agree only "
                "where the outputs are a multiple of the inputs: they repeat or add up other channels."
            )


def _plan(
    found: SeclCheckpoint, skeleton: nn.Module, trace: Trace, extra_riffle: bool, source: str
) -> Plan:
    """The plan with exactly the checkpoint's stacks, also where they are larger than the original."""
    configs = {k: s.config(extra_riffle=extra_riffle) for k, s in found.stacks.items()}
    assign = [Assignment(pattern=k, substitution="acdc", config=c) for k, c in configs.items()]
    options = PlanOptions(assign=tuple(assign), only=tuple(configs))
    plan = make_plan(skeleton, trace, options, may_be_empty=True)
    layers = [
        layer.model_copy(
            update={
                "action": "rewrite",
                "substitution": "acdc",
                "config": configs[layer.name],
                "execution": "dense",
            }
        )
        if layer.name in configs and layer.action == "keep"
        else layer
        for layer in plan.layers
    ]
    return fit_plan(plan.model_copy(update={"layers": layers}), skeleton, trace, source)


def _state(found: SeclCheckpoint, built: nn.Module) -> dict[str, Tensor]:
    """The checkpoint's tensors by the names of our rewritten network."""
    state = dict(found.state)
    for name, stack in found.stacks.items():
        state[f"{name}.pointwise.a"], state[f"{name}.pointwise.d"] = stack.a, stack.d
    for key, value in built.state_dict().items():
        if key.endswith("num_batches_tracked"):  # torch before 0.4.1 had no such counters
            state.setdefault(key, value)
    return state
