"""Routes of another framework, as they are left when a service changes its framework."""

from pathlib import Path

import pytest

from managed.importing import import_with_stand_ins
from service.ops.process import CannotStart


def test_router_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "routes.py").write_text("router = []\n")
    with pytest.raises(CannotStart) as refusal:
        import_with_stand_ins(tmp_path)
    message = str(refusal.value)
    assert message.startswith("'router' in src/service/routes.py is a builtins.list, ")
    assert "\n" not in message
