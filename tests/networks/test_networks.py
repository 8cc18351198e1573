from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from torchvision import models

from seclcompress import networks, resolve
from seclcompress.errors import ArtefactError, NetworkError, UsageError, WeightsError
from seclcompress.networks import torchvision_zoo, weights
from seclcompress.networks.weights import load_weights, read_weights


def test_all_of_torchvisions_and_the_papers() -> None:
    assert set(models.list_models()) == {
        *torchvision_zoo.names(),
        *torchvision_zoo.quantised_names(),
    }
    assert {"resnet50", "vit_b_16", "wrn40_2", "wrn28_10", "wrn16_2"} <= set(networks.names())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("wrn40_2", 2_243_546), ("wrn28_10", 36_479_194), ("resnet50", 25_557_032)],
)
def test_parameters(name: str, parameters: int) -> None:
    network = networks.build(networks.named_recipe(name), skeleton=True)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_num_classes() -> None:
    network = networks.build(networks.named_recipe("wrn10_1", 7))
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet5", r"Unknown network 'resnet5'. Did you mean resnet50"),
        ("wrn41_2", r"There is no wrn41_2.*Did you mean wrn40_2\?"),
        ("wrn40_0", r"There is no wrn40_0"),
        ("nonsense", r"`seclcompress networks` lists all \d+;"),
    ],
)
def test_unknown_names(name: str, words: str) -> None:
    with pytest.raises(NetworkError, match=words):
        networks.build(networks.named_recipe(name))


def test_quantised_networks_are_refused_in_a_sentence() -> None:
    assert torchvision_zoo.quantised_names()
    for name in torchvision_zoo.quantised_names():
        with pytest.raises(NetworkError) as caught:
            networks.named_recipe(name)
        words = str(caught.value)
        assert words.startswith(f"{name} computes with 8-bit integers")
        assert f"name {name.removeprefix('quantized_')} and" in words
        assert name.removeprefix("quantized_") in torchvision_zoo.names()


@pytest.mark.parametrize(
    ("name", "size", "task", "classes"),
    [
        ("resnet18", (3, 224, 224), "image classification", 1000),
        ("vit_h_14", (3, 224, 224), "image classification", 1000),
        ("maskrcnn_resnet50_fpn", (3, 800, 800), "object detection", None),
        ("ssd300_vgg16", (3, 300, 300), "object detection", None),
        ("fcn_resnet50", (3, 520, 520), "semantic segmentation", None),
        ("r3d_18", (3, 16, 112, 112), "video classification", None),
        ("mvit_v1_b", (3, 16, 224, 224), "video classification", None),
        ("raft_small", (3, 512, 512), "optical flow", None),
    ],
)
def test_tasks(name: str, size: tuple[int, ...], task: str, classes: int | None) -> None:
    recipe = networks.named_recipe(name)
    assert recipe.num_classes == classes
    assert networks.default_input_size(recipe) == size
    assert torchvision_zoo.task(name).name == task
    if task == "image classification":
        networks.check_image_classification(recipe, "train")
        return
    with pytest.raises(UsageError, match=f"{name} is a network for {task}; train knows image"):
        networks.check_image_classification(recipe, "train")


def test_classes_of_other_tasks() -> None:
    recipe = networks.named_recipe("fcos_resnet50_fpn", 7)
    head = networks.build(recipe, skeleton=True).head.classification_head
    assert head.num_classes == 7
    with pytest.raises(NetworkError, match=r"raft_small has no classes; drop --num-classes"):
        networks.named_recipe("raft_small", 7)


def test_a_skeleton_has_no_values_and_the_same_shapes() -> None:
    recipe = networks.named_recipe("regnet_y_400mf")
    bare, full = networks.build(recipe, skeleton=True), networks.build(recipe)
    assert any(p.is_meta for p in bare.parameters())
    assert {k: v.shape for k, v in bare.state_dict().items()} == {
        k: v.shape for k, v in full.state_dict().items()
    }


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_weights_from_a_file(tmp_path: Path, suffix: str, wrapper: str | None) -> None:
    network = networks.build(networks.named_recipe("wrn10_1"))
    path, state = tmp_path / f"weights{suffix}", network.state_dict()
    if suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        parallel = {f"module.{key}": value for key, value in state.items()}
        torch.save({wrapper: parallel, "epoch": 3} if wrapper else state, path)
    loaded, fresh = resolve.locate("wrn10_1", weights=str(path)).load(seed=9)
    assert fresh == []
    assert all(torch.equal(v, state[k]) for k, v in loaded.state_dict().items())


class Evil:
    def __reduce__(self) -> tuple:
        return (Path("evil").touch, ())


def test_a_pickle_with_code_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Evil()}, "evil.pth")
    Path("raw.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "raw.pth"):
        with pytest.raises(WeightsError, match=r"refused|damaged"):
            read_weights(Path(name))
    assert not Path("evil").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"a": torch.zeros(99)}, path)
    else:
        safetensors.torch.save_file({"a": torch.zeros(99)}, path)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\0" * 64, b"text"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"damaged|not a readable|refused"):
            read_weights(path)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There is no weights file"):
        read_weights(tmp_path / "nowhere.pth")
    (tmp_path / "w.bin").touch()
    with pytest.raises(WeightsError, match="cannot tell what kind"):
        read_weights(tmp_path / "w.bin")
    for content, words in (
        ([1, 2], "holds a list"),
        ({"a": 3}, "no tensor under 'a'"),
        ({}, "dict"),
    ):
        torch.save(content, tmp_path / "w.pt")
        with pytest.raises(WeightsError, match=words):
            read_weights(tmp_path / "w.pt")


def test_weights_that_do_not_fit_change_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 10))
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = {k: v.clone() for k, v in before.items()}
    state["0.weight"] = torch.zeros(4, 3, 5, 5)
    state["2.weight"] = state.pop("1.bias")
    with pytest.raises(
        WeightsError,
        match=r"file does not fit the network: missing 1.bias; unexpected 2.weight; "
        r"0.weight has shape 4×3×5×5 instead of 4×3×3×3",
    ):
        load_weights(network, state, "file")
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_another_number_of_classes() -> None:
    network = networks.build(networks.named_recipe("wrn10_1", 7))
    state = networks.build(networks.named_recipe("wrn10_1", 10)).state_dict()
    with pytest.raises(WeightsError, match="say it with --num-classes"):
        load_weights(network, state, "file")
    assert load_weights(network, state, "file", new_head=True) == ["fc.weight", "fc.bias"]


def test_two_heads_may_differ_and_nothing_else() -> None:
    class Two(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.side = nn.Linear(5, classes)
            self.body = nn.Linear(6, 6)
            self.main = nn.Linear(6, classes)

    state = Two(1000).state_dict()
    fresh = load_weights(Two(10), state, "file", new_head=True)
    assert fresh == ["side.weight", "side.bias", "main.weight", "main.bias"]
    state["body.weight"] = torch.zeros(7, 6)
    with pytest.raises(WeightsError, match="does not fit"):
        load_weights(Two(10), state, "file", new_head=True)


class Grown(nn.Module):
    """Its second version counts in tenths, and knows what the first one saved."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def _load_from_state_dict(self, state, prefix, metadata, *others) -> None:
        if (metadata.get("version") or 1) < 2:
            state[prefix + "scale"] = state[prefix + "scale"] * 10
        super()._load_from_state_dict(state, prefix, metadata, *others)


@pytest.mark.parametrize("wrapped", [False, True])
def test_versions_of_modules_in_a_file(tmp_path: Path, wrapped: bool) -> None:
    saved = {"Net": nn.Sequential(Grown()), "Wrapped": nn.DataParallel(nn.Sequential(Grown()))}
    state = saved["Wrapped" if wrapped else "Net"].state_dict()
    name = "module.0" if wrapped else "0"
    for version, scale in ((1, 10.0), (2, 1.0)):
        state._metadata[name]["version"] = version
        torch.save(state, tmp_path / "weights.pth")
        network = nn.Sequential(Grown())
        weights.load_weights(network, weights.read_weights(tmp_path / "weights.pth"), "it")
        assert network[0].scale.tolist() == [scale, scale]
    network = nn.Sequential(Grown())
    weights.put_state(network, {"0.scale": torch.ones(2)})  # nobody says: as the network is
    assert network[0].scale.tolist() == [1.0, 1.0]
    state._metadata = {name: {"version": object}, 3: None}
    weights.put_state(network, OrderedDict({"0.scale": torch.ones(2)}))
    assert network[0].scale.tolist() == [1.0, 1.0]


def test_a_network_whose_state_has_no_versions() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1))
    network._register_state_dict_hook(lambda module, state, prefix, extra: OrderedDict(state))
    weights.put_state(network, {name: 0 * t for name, t in network.state_dict().items()})
    assert not network[0].weight.detach().any()


def test_prefixes_come_off_only_where_all_have_them(tmp_path: Path) -> None:
    own = nn.ModuleDict({"module": nn.Linear(2, 2)})
    torch.save(own.state_dict(), tmp_path / "own.pth")
    load_weights(own, read_weights(tmp_path / "own.pth"), "own.pth")
    plain = nn.Linear(2, 2)
    for prefix in ("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."):
        state = {prefix + name: torch.ones_like(v) for name, v in plain.state_dict().items()}
        load_weights(plain, state, "file")
        assert torch.equal(plain.weight, torch.ones(2, 2))
        nn.init.zeros_(plain.weight)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(bad: float) -> None:
    network = nn.Linear(3, 3)
    state = network.state_dict() | {"weight": torch.full((3, 3), bad)}
    with pytest.raises(WeightsError, match=r"NaN or infinite: weight \(9 of 9\)"):
        load_weights(network, state, "file")


class TestPublishedWeights:
    """torchvision's own loading, on a file that stands where a download would have put it."""

    @pytest.fixture
    def hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
        (tmp_path / "checkpoints").mkdir()
        return tmp_path / "checkpoints"

    def put(self, hub: Path, weights: models.WeightsEnum, network: nn.Module) -> None:
        torch.save(network.state_dict(), hub / weights.url.rsplit("/", 1)[-1])

    def test_by_every_spelling(self, hub: Path) -> None:
        torch.manual_seed(1)
        network = models.mobilenet_v3_small()
        self.put(hub, models.MobileNet_V3_Small_Weights.IMAGENET1K_V1, network)
        for spelling in ("IMAGENET1K_V1", "DEFAULT", "MobileNet_V3_Small_Weights.DEFAULT"):
            loaded, fresh = resolve.locate("mobilenet_v3_small", weights=spelling).load()
            assert fresh == []
            assert torch.equal(loaded.classifier[3].weight, network.classifier[3].weight)

    def test_a_new_head(self, hub: Path) -> None:
        self.put(hub, models.ResNet18_Weights.DEFAULT, models.resnet18())
        source = resolve.locate("resnet18", weights="DEFAULT", num_classes=5)
        assert source.load()[1] == ["fc.weight", "fc.bias"]

    def test_what_torchvision_changes_with_the_weights(self, hub: Path) -> None:
        full = models.googlenet(init_weights=False)
        self.put(hub, models.GoogLeNet_Weights.DEFAULT, full)
        loaded, _ = resolve.locate("googlenet", weights="DEFAULT").load()
        reference = models.googlenet(weights="DEFAULT").eval()
        x = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            assert torch.equal(loaded(x), reference(x))
        assert loaded.transform_input
        assert not any(key.startswith("aux") for key in loaded.state_dict())

    @pytest.mark.parametrize(
        "name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "deeplabv3_mobilenet_v3_large"]
    )
    def test_of_other_tasks(self, hub: Path, name: str) -> None:
        """Frozen batch norms in a trained detector, an auxiliary classifier: as torchvision has them."""
        weights = models.get_model_weights(name).DEFAULT
        options = torchvision_zoo.options_with_weights(name, weights)
        self.put(hub, weights, networks.build(networks.named_recipe(name, None, options)))
        loaded, fresh = resolve.locate(name, weights="DEFAULT").load()
        assert fresh == []
        reference = models.get_model(name, weights="DEFAULT").state_dict()
        assert loaded.state_dict().keys() == reference.keys()
        assert all(torch.equal(v, reference[k]) for k, v in loaded.state_dict().items())

    def test_no_download_unless_asked(self, hub: Path) -> None:
        with pytest.raises(WeightsError, match="Allow the download with --download"):
            resolve.locate("resnet18", weights="DEFAULT").load()
        assert not list(hub.iterdir())

    def test_unknown_spelling(self) -> None:
        with pytest.raises(
            WeightsError, match="torchvision has: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT|"
        ):
            resolve.locate("resnet50", weights="IMAGENET21K")
        with pytest.raises(UsageError, match="only torchvision's networks have weights with names"):
            resolve.locate("wrn16_2", weights="DEFAULT").load()

    def test_the_input_size_follows_the_weights(self) -> None:
        source = resolve.locate("vit_b_16", weights="IMAGENET1K_SWAG_E2E_V1")
        assert source.input_size == (3, 384, 384)
        assert source.recipe.options == {"image_size": 384}


class TestFactories:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", r"has no attribute 'make'"),
            ("def make(): raise ValueError('no')", "it raised ValueError: no"),
            ("def make(): return 3", "it returned a int, not an nn.Module"),
            ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        ],
    )
    def test_that_fail(
        self, content: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        name = f"mine_{abs(hash(content))}"
        Path(f"{name}.py").write_text(content)
        with pytest.raises(NetworkError, match=words):
            resolve.locate(f"{name}:make").load()

    def test_of_the_current_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("my_nets.py").write_text(
            "import torch\nclass A:\n  make = lambda: torch.nn.Conv2d(1, 1, 1)\n"
        )
        assert isinstance(resolve.locate("my_nets:A.make").load()[0], nn.Conv2d)

    def test_only_named_ones_are_imported(self) -> None:
        recipe = networks.Recipe(source="factory", name="antigravity:geohash")
        for trusted in (None, "other:factory"):
            with pytest.raises(ArtefactError, match="--factory antigravity:geohash"):
                networks.build(recipe, factory_name=trusted)
