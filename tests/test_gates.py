"""Relations and offsets against loops over what the model's own parts compute."""

import numpy as np
import pytest
import torch

from reid_core.analysis.gates import correlation, made_of, relations
from reid_core.analysis.offsets import source_of, taps, unseen
from reid_core.errors import BadInput
from reid_core.look import Looked
from reid_core.models.base import Tokens, Window
from reid_core.models.rga import RelationAware
from reid_core.probe import observe


def test_relations_are_the_products_of_the_two_embeddings():
    torch.manual_seed(0)
    module = RelationAware(16, 6, 2, 2, 2).eval()
    x = torch.randn(1, 16, 3, 2)
    with torch.no_grad(), observe(module, "relation") as seen:
        module(x)
        theta, phi = (each(x)[0].flatten(1).numpy() for each in (module.theta, module.phi))
    for position in range(6):
        out, into = relations(seen["relation"][0], position, (3, 2))
        slow = [float(theta[:, position] @ phi[:, other]) for other in range(6)]
        back = [float(theta[:, other] @ phi[:, position]) for other in range(6)]
        assert np.allclose(out.ravel(), slow, atol=1e-5)
        assert np.allclose(into.ravel(), back, atol=1e-5)
    with pytest.raises(BadInput, match="position 6"):
        relations(seen["relation"][0], 6, (3, 2))
    with pytest.raises(BadInput, match="expected relations of 4"):
        relations(seen["relation"][0], 0, (2, 2))


def test_taps_are_where_the_convolution_reads():
    """An image of coordinates, sampled by torchvision's deformable convolution, gives each tap's place."""
    from torchvision.ops import deform_conv2d

    random = torch.Generator().manual_seed(1)
    height, width, stride = 9, 7, 2
    offsets = 4 * torch.rand(1, 18, 5, 4, generator=random) - 2
    places = torch.meshgrid(torch.arange(9.0), torch.arange(7.0), indexing="ij")
    x = torch.stack(places)[None]  # (1, 2, 9, 7): each position's row and column
    source = Window(15, 10, -5)
    regular, moved = taps(offsets, source, stride)
    assert moved.shape == regular.shape == (1, 9, 5, 4, 2)
    for tap in range(9):
        weight = torch.zeros(2, 2, 3, 3)
        weight[0, 0].view(-1)[tap] = weight[1, 1].view(-1)[tap] = 1
        read = deform_conv2d(x, offsets, weight, stride=stride, padding=1)[0]  # (2, 5, 4)
        pixels = -5 + 7.5 + 10 * read.numpy()
        place = (moved[0, tap] + 5 - 7.5) / 10
        inside = ((place >= 0) & (place <= [height - 1, width - 1])).all(axis=-1)
        assert inside.sum() > 5
        assert np.allclose(moved[0, tap][inside], np.moveaxis(pixels, 0, -1)[inside], atol=1e-3)
        weight[:] = 0
        weight[0, 0].view(-1)[tap] = 1
        something = deform_conv2d(torch.ones(1, 2, 9, 7), offsets, weight, stride=stride, padding=1)
        zeros = unseen(moved[0, tap], Tokens((9, 7), (), source))
        assert (zeros == (something[0, 0].numpy() == 0)).all()
    still, same = taps(torch.zeros(1, 18, 5, 4), source, stride)
    assert np.allclose(still, same) and np.allclose(
        same[0, 4, 2, 1], [-5 + 7.5 + 40, -5 + 7.5 + 20]
    )
    with pytest.raises(BadInput, match="got 4"):
        taps(torch.zeros(1, 8, 5, 4), source, stride)


def test_offsets_are_counted_in_what_is_sampled():
    fine, coarse = Window(15, 10, -5), Window(25, 20, -5)
    names = {
        "trunk.blocks.1.attn.attention": ("attention", Tokens((13, 6), ("class",), fine)),
        "trunk.blocks.1.orders.2.local.offsets": ("offsets", Tokens((7, 3), (), coarse)),
        "trunk.blocks.1.orders.3.local.offsets": ("offsets", Tokens((7, 3), (), coarse)),
    }
    seen = Looked(
        None,
        None,
        {name: torch.zeros(1, 18, 7, 3) for name in names},
        {name: tokens for name, (_, tokens) in names.items()},
        {name: kind for name, (kind, _) in names.items()},
    )
    assert source_of(seen, "trunk.blocks.1.orders.2.local.offsets") == (
        names["trunk.blocks.1.attn.attention"][1],
        2,
    )
    assert source_of(seen, "trunk.blocks.1.orders.3.local.offsets") == (
        names["trunk.blocks.1.orders.3.local.offsets"][1],
        1,
    )


def test_a_gate_from_its_two_inputs():
    """By the module's own convolutions, and each input held at its mean by hand."""
    torch.manual_seed(0)
    module = RelationAware(16, 6, 2, 2, 2).eval()
    for name, buffer in module.named_buffers():  # statistics that are not those of a new layer
        if name.endswith("running_mean"):
            buffer.normal_()
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    x = torch.randn(1, 16, 3, 2)
    with torch.no_grad(), observe(module, "*") as seen:
        gate = module(x)
        made = made_of(module, seen["both"])
        own = module.own(x).mean(dim=1).flatten()  # (6,)
        related = module.related(seen["relation"][..., None])[0, :, :, 0]  # (3, 6)

        def weighed(own, related):
            return (
                module.weigh(torch.cat([own[None], related])[None, :, :, None]).sigmoid().flatten()
            )

        even = own.mean().expand(6), related.mean(dim=1, keepdim=True).expand(-1, 6)
        assert torch.allclose(torch.from_numpy(made.own), own, atol=1e-6)
        for found, slow in (
            (made.gate, gate.flatten()),
            (made.gate, weighed(own, related)),
            (made.of_own, weighed(own, even[1])),
            (made.of_relations, weighed(even[0], related)),
        ):
            assert np.allclose(found, slow, atol=1e-5)
    assert correlation(made.gate, 2 * made.gate + 1) == pytest.approx(1)
    assert np.isnan(correlation(made.gate, np.ones(6)))
