"""The threads of a worker: from the processors it may use to the runtime that gets them."""

import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import ALL_VARIANTS, Covers

from inferplate.template.variants import Variant
from inferplate_tools.service import Service
from inferplate_tools.workbench import Workbench

pytestmark = pytest.mark.slow

CGROUPS = Path("/sys/fs/cgroup")
PROCESSORS = 1.5
PERIOD = 100_000
PLANS = (1, 2)
"""Threads, one of which is not what a runtime takes of its own accord."""

RUNTIMES = [
    variant
    for variant in ALL_VARIANTS
    if variant.framework == "fastapi" and variant.server == "uvicorn"
]
POOLS = """
from threadpoolctl import threadpool_info

def threads_of(model):
    return {pool["num_threads"] for pool in threadpool_info()}
"""
TORCH = """
import torch

def threads_of(model):
    return {torch.get_num_threads()}
"""
THREADS_OF = {
    "python": POOLS,
    "scikit-learn": POOLS,
    "pytorch": TORCH,
    "transformers": TORCH,
    "onnxruntime": """
def threads_of(model):
    return {model._session.get_session_options().intra_op_num_threads}
""",
    "openvino": """
def threads_of(model):
    return {model._request.get_compiled_model().get_property("INFERENCE_NUM_THREADS")}
""",
    "xgboost": """
import json

def threads_of(model):
    config = json.loads(model._booster.save_config())
    return {int(config["learner"]["generic_param"]["nthread"])}
""",
    "lightgbm": """
from unittest import mock

def threads_of(model):
    booster = model._booster
    with mock.patch.object(booster, "predict", wraps=booster.predict) as predict:
        model.run(example)
    return {predict.call_args.kwargs["num_threads"]}
""",
    "catboost": """
from unittest import mock

def threads_of(model):
    with mock.patch.object(model._model, "predict", wraps=model._model.predict) as predict:
        model.run(example)
    return {predict.call_args.kwargs["thread_count"]}
""",
}
"""By runtime: how its library tells with how many threads it runs."""

PROBE = """
import sys
from pathlib import Path

from service import runtime
from service.core import cpu, manifest

described = manifest.read(Path("models"))
artifact = manifest.verify(described, Path("models"), runtime.RUNTIME)
example = {spec.name: spec.zeros(4) for spec in described.input_specs()}
for plan in map(int, sys.argv[1:]):
    cpu.available_cpus = lambda: 2 * plan + 1
    threads = cpu.threads_per_worker(workers=2)
    model = runtime.load(artifact, described, threads=threads, device="cpu")
    model.run(example)
    assert threads_of(model) == {plan}, (plan, threads_of(model))
"""


@pytest.mark.parametrize("variant", RUNTIMES, ids=lambda variant: variant.runtime)
def test_the_runtime_takes_the_threads_of_the_plan(
    variant: Variant, copy_of: Callable[[Variant], Path], bench: Workbench, covers: Covers
) -> None:
    covers("threads of a worker: the runtime has those of the plan", variant, len(RUNTIMES))
    probe = THREADS_OF[variant.runtime] + PROBE
    command = [bench.python, "-c", probe, *map(str, PLANS)]
    bench.run(command, copy_of(variant), timeout=120)


@pytest.fixture
def limited_cgroup() -> Iterator[Path]:
    """Make a control group that has less than the processors of most machines."""
    version_2 = (CGROUPS / "cgroup.controllers").exists()
    cgroup = CGROUPS / ("" if version_2 else "cpu") / f"inferplate-{os.getpid()}"
    try:
        cgroup.mkdir()
        if version_2:
            (cgroup / "cpu.max").write_text(f"{PROCESSORS * PERIOD:.0f} {PERIOD}")
        else:
            (cgroup / "cpu.cfs_period_us").write_text(f"{PERIOD}")
            (cgroup / "cpu.cfs_quota_us").write_text(f"{PROCESSORS * PERIOD:.0f}")
    except OSError as error:
        with suppress(OSError):
            cgroup.rmdir()
        pytest.skip(f"no control group with a processor quota can be made here: {error}")
    yield cgroup
    for _ in range(100):  # the kernel lets its last process go a little later
        with suppress(OSError):
            return cgroup.rmdir()
        time.sleep(0.05)


def test_a_real_quota_is_the_plan(
    limited_cgroup: Path, copy_of: Callable[[Variant], Path], bench: Workbench, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    enter = f"echo $$ > {shlex.quote(str(limited_cgroup / 'cgroup.procs'))}"
    python.write_text(f'#!/bin/sh\n{enter} && exec {shlex.quote(bench.python)} "$@"\n')
    python.chmod(0o755)
    available = min(PROCESSORS, len(os.sched_getaffinity(0)))
    (variant,) = (each for each in RUNTIMES if each.runtime == "python")
    with Service(copy_of(variant), str(python), {}) as service:
        service.wait_ready()
        assert f"1 of {available:g} CPUs" in service.log.read_text()
