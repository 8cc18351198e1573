from __future__ import annotations

from seclcompress import networks


def test_a_skeleton_has_no_values_and_the_same_shapes() -> None:
    spec = networks.named_spec("regnet_y_400mf")
    bare, full = networks.build(spec, skeleton=True), networks.build(spec)
    assert any(p.is_meta for p in bare.parameters())
    assert {k: v.shape for k, v in bare.state_dict().items()} == {
        k: v.shape for k, v in full.state_dict().items()
    }
