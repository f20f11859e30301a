"""What managed clouds say: which settings it gives, and what comes before it."""

import logging
from pathlib import Path

import pytest

from managed.conftest import Call
from service.core import manifest
from service.ops import platforms, process
from service.ops.settings import Settings, SettingsInvalid, load_settings

FURTHER = ("port", "health_path", "predict_path", "model_dir")
VERTEX = {
    "AIP_HTTP_PORT": "8081",
    "AIP_HEALTH_ROUTE": "/v1/endpoints/7/deployedModels/9",
    "AIP_PREDICT_ROUTE": "/v1/endpoints/7/deployedModels/9:predict",
    "AIP_STORAGE_URI": "gs://bucket/model",
}


def set_all(patch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        patch.setenv(name, value)


def found() -> list[object]:
    settings = load_settings()
    return [getattr(settings, name) for name in FURTHER]


@pytest.fixture
def sagemaker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Have the folder of SageMaker's model, which is empty, and forget its start at the end."""
    folder = tmp_path / "sagemaker"
    folder.mkdir()
    monkeypatch.setattr(platforms, "_SAGEMAKER_MODEL", folder)
    monkeypatch.setenv("_SERVICE_SAGEMAKER", "")
    return folder


def test_sagemaker(monkeypatch: pytest.MonkeyPatch, sagemaker: Path) -> None:
    own = Settings.model_fields["model_dir"].default
    platforms.start_sagemaker()
    assert found() == [8080, "/ping", "/invocations", own]
    (sagemaker / "manifest.json").touch()
    assert found() == [8080, "/ping", "/invocations", sagemaker]
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", "9001")
    assert found()[0] == 9001


def test_sagemaker_needs_its_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", "9001")
    assert found() == [8000, "", "", Settings.model_fields["model_dir"].default]


def test_vertex_ai(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, VERTEX)
    own = Settings.model_fields["model_dir"].default
    assert found() == [8081, VERTEX["AIP_HEALTH_ROUTE"], VERTEX["AIP_PREDICT_ROUTE"], own]


@pytest.mark.parametrize(
    "below", ["", "models"], ids=["the folder itself", "the folder that was registered"]
)
def test_azure_ml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, below: str) -> None:
    (tmp_path / "1" / below).mkdir(parents=True)
    (tmp_path / "1" / below / "manifest.json").touch()
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(tmp_path / "1"))
    assert found() == [8000, "", "", tmp_path / "1" / below]


def test_cloud_run_heroku_and_knative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "8085")
    assert found()[0] == 8085
    monkeypatch.setenv("PORT", "")
    assert found()[0] == 8000


def test_hugging_face_says_nothing_so_that_settings_do(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {"SERVICE_HEALTH_PATH": "/health", "SERVICE_MODEL_DIR": "/repository"})
    assert found() == [8000, "/health", "", Path("/repository")]


@pytest.mark.parametrize("where", ["environment", "file", "lower case"])
def test_settings_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str) -> None:
    set_all(monkeypatch, {**VERTEX, "PORT": "8085"})
    own = {"SERVICE_PORT": "9000", "SERVICE_HEALTH_PATH": "/health"}
    if where == "file":
        lines = [f"{name}={value}\n" for name, value in own.items()]
        (tmp_path / ".env").write_text("".join(lines))
    else:
        spell = str.lower if where == "lower case" else str
        set_all(monkeypatch, {spell(name): value for name, value in own.items()})
    assert found()[:3] == [9000, "/health", VERTEX["AIP_PREDICT_ROUTE"]]


def test_address_that_kubernetes_sets_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {"SERVICE_PORT": "tcp://10.0.0.1:80", "PORT": "8085"})
    assert found()[0] == 8085


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"AIP_HTTP_PORT": "8081", "PORT": "8085"}, "PORT is 8085, but AIP_HTTP_PORT is 8081"),
        ({"PORT": "http"}, "PORT: Input should be a valid integer"),
        ({"PORT": "0"}, "PORT: Input should be greater"),
        ({"AIP_HTTP_PORT": "x"}, "AIP_HTTP_PORT: "),
        ({"AIP_HEALTH_ROUTE": "ready"}, "AIP_HEALTH_ROUTE: it must begin with /"),
        ({"AIP_PREDICT_ROUTE": "/metrics"}, "AIP_PREDICT_ROUTE: it must not begin with /metrics"),
        ({"SERVICE_HEALTH_PATH": "/"}, "SERVICE_HEALTH_PATH: it must begin with /"),
        ({"SERVICE_HEALTH_PATH": "/a?b"}, "SERVICE_HEALTH_PATH: it must begin with /"),
        ({"SERVICE_HEALTH_PATH": "/v2/models/a/infer"}, "SERVICE_HEALTH_PATH: it must not begin"),
        ({"SERVICE_PREDICT_PATH": "/v2/health/ready"}, "SERVICE_PREDICT_PATH: it must not begin"),
        ({"SERVICE_PREDICT_PATH": "/a", "SERVICE_HEALTH_PATH": "/a"}, "must differ"),
        (
            {"SERVICE_ROOT_PATH": "/iris", "SERVICE_PREDICT_PATH": "/iris/score"},
            "SERVICE_PREDICT_PATH must not begin with SERVICE_ROOT_PATH",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    set_all(monkeypatch, environment)
    with pytest.raises(SettingsInvalid) as refusal:
        load_settings()
    assert message in str(refusal.value)


def test_own_port_settles_what_they_disagree_about(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {"AIP_HTTP_PORT": "8081", "PORT": "8085", "SERVICE_PORT": "9000"})
    assert found()[0] == 9000


@pytest.mark.usefixtures("sagemaker")
def test_start_says_what_the_platform_gave(
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import service.__main__ as command_line

    class Server:
        """Serves nothing."""

        @staticmethod
        def serve(settings: Settings) -> None:
            assert settings.predict_path == "/invocations"

    monkeypatch.setattr("service.server", Server, raising=False)
    monkeypatch.setattr(command_line, "configure_logging", lambda settings: None)
    monkeypatch.setattr(manifest, "read", lambda folder: None)
    monkeypatch.setattr(manifest, "locate", lambda *_: None)
    monkeypatch.setattr(process, "on_stop", lambda *_, **__: None)
    caplog.set_level(logging.INFO)
    call("serve")
    assert "port 8080 (serve), health_path /ping (serve)" in caplog.text
