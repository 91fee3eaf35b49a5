"""Promise 13, in small: python -m tests.faults contained is the long form."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.faults import contained
from tests.faults.conftest import Place

pytestmark = pytest.mark.anyio


async def test_faults_of_a_models_server_are_told_by_their_names_and_hurt_no_other(
    place: Place, tmp_path: Path
) -> None:
    with anyio.fail_after(50):
        report = await contained.check(place, tmp_path)
    assert report.is_kept, str(report)
