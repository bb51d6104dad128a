"""What a Pod's status says of its containers."""

from __future__ import annotations

import pytest

from podctl.backends.kubernetes.watching import ending


@pytest.mark.parametrize(
    ("code", "how"), [(0, (0, None)), (3, (3, None)), (137, (None, 9)), (128, (128, None)), (255, (255, None))]
)
def test_an_exit_code_beyond_128_is_a_signal_where_there_is_one(code: int, how: tuple[int | None, int | None]) -> None:
    assert ending({"exitCode": code}) == how
