"""What holds for the tests with programs of others: they are run by `make outside`, and left out of `make test`.

One of each family is a smoke test and has no marker; `make test` installs what those need.
"""

from __future__ import annotations

import pytest

MARKER = "outside"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave them out of a run that does not ask for them by their marker."""
    if MARKER in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker(MARKER) is not None]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item.get_closest_marker(MARKER) is None]
