"""What holds for the tests with programs of others: they are run by `make outside`, and left out of `make test`.

One of each family is a smoke test, which CI runs. Most of those have no marker, and `make test` installs what they
need; a browser is too big for that, so its smoke has the marker of `make smoke`.
"""

from __future__ import annotations

import pytest

MARKERS = ("outside", "smoke")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave them out of a run that does not ask for them by their marker."""
    unasked = [marker for marker in MARKERS if marker not in config.option.markexpr]
    left_out = [item for item in items if any(item.get_closest_marker(marker) for marker in unasked)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
