"""The port of the metrics, on each server: of all workers, apart from predictions, to the end."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import SERVER_VARIANTS, Covers

from inferplate.template.variants import Variant
from inferplate_tools.client import HeldRequest, ask, post_json, samples
from inferplate_tools.golden import Golden
from inferplate_tools.service import Service, accepts, free_port, wait_until
from inferplate_tools.workbench import Workbench

ASKED = 12


@pytest.mark.slow
@pytest.mark.parametrize("variant", SERVER_VARIANTS, ids=lambda variant: variant.server)
def test_metrics_have_a_port_of_their_own(
    variant: Variant, copy_of: Callable[[Variant], Path], bench: Workbench, covers: Covers
) -> None:
    covers("metrics on a port of their own", variant, len(SERVER_VARIANTS))
    project = copy_of(variant)
    golden = Golden.of(project)
    port = free_port()
    settings = {
        "SERVICE_METRICS_PORT": str(port),
        "SERVICE_WORKERS": "2",
        "SERVICE_DRAIN_DELAY": "1",
        "SERVICE_THREADS": "1",
    }

    def predictions() -> float:
        found = samples(port, "http_requests_total")
        return sum(value for labels, value in found if 'route="/predict"' in labels)

    def answered() -> bool:
        with suppress(OSError):  # the other worker may end while it is asked
            return predictions() == ASKED
        return False

    with Service(project, bench.python, settings) as service:
        service.wait_ready()
        for _ in range(ASKED):
            assert post_json(service.port, "/predict", golden.typed_request).status == 200
        assert wait_until(lambda: predictions() == ASKED, 5)
        assert [predictions() for _ in range(8)] == [ASKED] * 8  # whichever worker answers
        assert ask(service.port, "GET", "/metrics").status == 404
        assert post_json(port, "/predict", golden.typed_request).status == 501
        with HeldRequest(service.port, "/predict", golden.typed_request) as held:
            service.terminate()
            assert wait_until(lambda: not service.answers_ready(), 5)
            assert wait_until(lambda: not accepts(service.port), 10)
            assert wait_until(answered, 5)
            assert held.finish().status == 200
        service.wait_exit()
    assert not accepts(port)
