"""The port of the metrics, on each server: of all workers, apart from predictions, to the end."""

import json
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
        size = len(json.dumps(golden.typed_request)) * ASKED
        for metric, value in (
            ("http_request_size_bytes_count", ASKED),
            ("http_response_size_bytes_count", ASKED),
            ("http_request_duration_seconds_count", ASKED),
            ("inference_build_info", 1),
        ):
            found = [
                number
                for labels, number in samples(port, metric)
                if 'route="/predict"' in labels or "framework=" in labels
            ]
            assert found == [value], metric
        sizes = dict(samples(port, "http_request_size_bytes_sum"))
        assert abs(sizes['{route="/predict"}'] - size) <= size / 4, "but for blanks in the JSON"
        batches = samples(port, "inference_duration_seconds_count")
        assert 0 < sum(number for _, number in batches) <= ASKED
        assert all('model="' in labels and 'batch_size="' in labels for labels, _ in batches)
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
