from __future__ import annotations

from baton.dev.assets import find_asset


def test_a_directory_of_the_package_is_preferred() -> None:
    assert find_asset("dev", checkout="tools").parts[-2:] == ("baton", "dev")


def test_a_checkout_has_its_own_place() -> None:
    assert (find_asset("_not_there", checkout="tools/control-plane") / "go.mod").is_file()
