"""The settings, their documentation and the command line."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import PROJECT
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.config import (
    ENV_FILE,
    ConfigError,
    Settings,
    load,
    load_settings,
    misspelt_variables,
    settings_table,
)


def test_readme_lists_every_setting() -> None:
    rows = [
        tuple(cell.strip().strip("`") for cell in line.strip("|").split("|"))
        for line in (PROJECT / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `SERVICE_")
    ]
    assert rows == settings_table()


def test_environment_and_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SERVICE_PORT=9000\nSERVICE_WORKERS=2\n")
    monkeypatch.setenv("SERVICE_WORKERS", "3")
    monkeypatch.setenv("SERVICE_API_KEYS", "first-key-0123456789, second-key-0123456789,")
    settings = load_settings()
    assert (settings.port, settings.workers) == (9000, 3)
    assert [key.get_secret_value() for key in settings.api_keys] == [
        "first-key-0123456789",
        "second-key-0123456789",
    ]
    assert "first-key" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVICE_PORT", "0"),
        ("SERVICE_PORT", "http"),
        ("SERVICE_WORKERS", "0"),
        ("SERVICE_DEADLINE", "0"),
        ("SERVICE_DEADLINE", "inf"),
        ("SERVICE_LOG_LEVEL", "loud"),
        ("SERVICE_API_KEYS", "short"),
        ("SERVICE_TLS_CERTIFICATE", "/no/such/file"),
        ("SERVICE_MAX_BODY_BYTES", "-1"),
        ("SERVICE_TYPED_ENDPOINT", "perhaps"),
    ],
)
def test_wrong_values_name_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refusal:
        load_settings()
    assert str(refusal.value).startswith(f"{name}: ")
    assert "short" not in str(refusal.value)


def test_tls_needs_both_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.touch()
    monkeypatch.setenv("SERVICE_TLS_CERTIFICATE", str(certificate))
    with pytest.raises(ConfigError, match="SERVICE_TLS_KEY"):
        load_settings()


def test_misspelt_variables_are_noticed(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SERVICE_PROT=9000\n")
    environment = {"SERVICE_WORKRES": "2", "SERVICE_WORKERS": "2", "SERVICE_SERVICE_HOST": "::"}
    assert misspelt_variables(environment) == [
        ("SERVICE_PROT", "SERVICE_PORT"),
        ("SERVICE_WORKRES", "SERVICE_WORKERS"),
    ]


class Further(BaseSettings):
    """Settings such as `service.own_settings` may have."""

    model_config = SettingsConfigDict(env_prefix="FURTHER_", env_file=ENV_FILE, extra="ignore")

    greeting: str = Field(min_length=3, description="How to greet")
    names: list[str] = Field(default_factory=list, description="Whom to greet")
    token: str = Field(default="", alias="GREETER_TOKEN", max_length=3, description="A key")


def test_settings_of_ones_own_are_read_and_listed_alike(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('FURTHER_GREETING=Hello\nFURTHER_NAMES=["Ada"]\n')
    assert load(Further).model_dump() == {"greeting": "Hello", "names": ["Ada"], "token": ""}
    assert settings_table(Further) == [
        ("FURTHER_GREETING", "", "How to greet"),
        ("FURTHER_NAMES", "[]", "Whom to greet"),
        ("GREETER_TOKEN", "", "A key"),
    ]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "FURTHER_GREETING: Field required"),
        ({"FURTHER_GREETING": "Hi"}, "FURTHER_GREETING: String should have at least 3"),
        ({"FURTHER_GREETING": "Hello", "FURTHER_NAMES": "Ada"}, "names"),
        ({"FURTHER_GREETING": "Hello", "GREETER_TOKEN": "long"}, "GREETER_TOKEN: String should"),
    ],
)
def test_settings_of_ones_own_are_refused_alike(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], message: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refusal:
        load(Further)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_every_setting_is_described_once() -> None:
    descriptions = [description for _, _, description in settings_table()]
    assert all(descriptions)
    assert len(set(descriptions)) == len(Settings.model_fields)


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        (["--help"], {}, 0, "SERVICE_MAX_BODY_BYTES"),
        ([], {"SERVICE_PORT": "x"}, 2, "SERVICE_PORT: "),
        ([], {"SERVICE_MODEL_DIR": "nowhere"}, 1, "train.py"),
        (["manifest", "no-such-file", "--name", "a", "--version", "1"], {}, 1, "no-such-file"),
        (["manifest", ".", "--name", "a", "--version", "1", "--input", "x"], {}, 2, "SHAPE"),
        (["no-such-command"], {}, 2, "no-such-command"),
    ],
)
def test_command_line(
    tmp_path: Path, arguments: list[str], environment: dict[str, Any], code: int, words: str
) -> None:
    result = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "service", *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(PROJECT / "src"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code, result.stderr
    assert words in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
