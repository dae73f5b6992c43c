from __future__ import annotations

from baton.rendering.plan import Sizes


def test_a_replica_takes_the_product_of_its_sizes() -> None:
    sizes = Sizes(data=4, tensor=2, pipeline=3)

    assert (sizes.devices_per_rank, sizes.devices) == (6, 24)
