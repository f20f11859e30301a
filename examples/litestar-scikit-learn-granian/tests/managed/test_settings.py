"""Settings: read from the environment and a file, checked, and listed."""

from pathlib import Path

import pytest
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.ops.settings import (
    ENV_FILE,
    Settings,
    SettingsInvalid,
    ignored_variables,
    load,
    load_settings,
    misspelt_variables,
    settings_table,
)


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
        ("SERVICE_REQUEST_TIMEOUT", "0"),
        ("SERVICE_REQUEST_TIMEOUT", "inf"),
        ("SERVICE_LOG_LEVEL", "loud"),
        ("SERVICE_API_KEYS", "short"),
        ("SERVICE_API_KEYS", ""),
        ("SERVICE_API_KEYS", " , "),
        ("SERVICE_TLS_CERTIFICATE", "/no/such/file"),
        ("SERVICE_MAX_BODY_BYTES", "-1"),
        ("SERVICE_MAX_TOTAL_BODY_BYTES", "0"),
        ("SERVICE_MAX_VALUES", "0"),
        ("SERVICE_ROOT_PATH", "iris"),
        ("SERVICE_ROOT_PATH", "/"),
        ("SERVICE_ROOT_PATH", "/iris/"),
        ("SERVICE_ROOT_PATH", "//iris"),
        ("SERVICE_ROOT_PATH", "/iris/../v2"),
        ("SERVICE_ROOT_PATH", "/iris?x"),
        ("SERVICE_ROOT_PATH", "https://example.com/iris"),
        ("SERVICE_ROOT_PATH", "/v2"),
        ("SERVICE_ROOT_PATH", "/metrics/iris"),
        ("SERVICE_UNIX_SOCKET", "no/such/folder/service.sock"),
        ("SERVICE_UNIX_SOCKET", f"/tmp/{'x' * 110}"),  # noqa: S108
        ("SERVICE_CORS_ORIGINS", "example.com"),
        ("SERVICE_CORS_ORIGINS", "https://example.com/"),
        ("SERVICE_CORS_ORIGINS", "https://example.com/page"),
        ("SERVICE_CORS_ORIGINS", "https://*.example.com"),
        ("SERVICE_CORS_ORIGINS", "https://user@example.com"),
        ("SERVICE_CORS_ORIGINS", "https://example.com:443"),
        ("SERVICE_CORS_ORIGINS", "http://example.com:80"),
        ("SERVICE_CORS_ORIGINS", "https://example.com, *"),
        ("SERVICE_CORS_ORIGINS", "null"),
    ],
)
def test_wrong_values_name_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid) as refusal:
        load_settings()
    assert str(refusal.value).startswith(f"{name}: ")
    assert "short" not in str(refusal.value)


def test_origins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_ROOT_PATH", "/models/iris-1.0")
    monkeypatch.setenv(
        "SERVICE_CORS_ORIGINS", "https://Example.com, http://[::1]:3000,tauri://local"
    )
    monkeypatch.setenv("SERVICE_CORS_CREDENTIALS", "true")
    settings = load_settings()
    assert settings.root_path == "/models/iris-1.0"
    assert settings.cors_origins == ("https://example.com", "http://[::1]:3000", "tauri://local")


@pytest.mark.parametrize("origins", ["*", ""])
def test_credentials_are_only_for_named_origins(
    monkeypatch: pytest.MonkeyPatch, origins: str
) -> None:
    monkeypatch.setenv("SERVICE_CORS_ORIGINS", origins)
    monkeypatch.setenv("SERVICE_CORS_CREDENTIALS", "true")
    with pytest.raises(SettingsInvalid, match="CORS_CREDENTIALS needs SERVICE_CORS_ORIGINS"):
        load_settings()


def test_one_body_must_fit_into_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_MAX_BODY_BYTES", "1000")
    monkeypatch.setenv("SERVICE_MAX_TOTAL_BODY_BYTES", "1000")
    assert load_settings().max_total_body_bytes == 1000
    monkeypatch.setenv("SERVICE_MAX_TOTAL_BODY_BYTES", "999")
    with pytest.raises(SettingsInvalid, match="SERVICE_MAX_BODY_BYTES"):
        load_settings()


def test_tls_needs_both_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.touch()
    monkeypatch.setenv("SERVICE_TLS_CERTIFICATE", str(certificate))
    with pytest.raises(SettingsInvalid, match="SERVICE_TLS_KEY"):
        load_settings()


def test_model_may_use_the_whole_time_of_a_request() -> None:
    assert Settings().longest_run == 60
    assert Settings(request_timeout=100).longest_run == 200
    assert Settings(request_timeout=100, run_timeout=100).longest_run == 100
    with pytest.raises(ValidationError, match="SERVICE_REQUEST_TIMEOUT"):
        Settings(request_timeout=100, run_timeout=99)


@pytest.mark.parametrize("port", ["9000", "tcp://10.0.0.1:80"])
def test_file_in_utf_16_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, port: str
) -> None:
    (tmp_path / ".env").write_text("SERVICE_WORKERS=2\n", encoding="utf-16")
    monkeypatch.setenv("SERVICE_PORT", port)
    for read in (load_settings, misspelt_variables):
        with pytest.raises(SettingsInvalid, match=r"^\.env is not in UTF-8: save it as UTF-8$"):
            read()


def test_file_that_cannot_be_read_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("SERVICE_WORKERS=2\n")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # root may read any file
    with pytest.raises(SettingsInvalid, match=r"^\.env cannot be read: Permission denied$"):
        load_settings()


def test_file_with_a_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfSERVICE_PORT=9000\r\nSERVICE_WORKERS=2\r\n")
    settings = load_settings()
    assert (settings.port, settings.workers) == (9000, 2)


def test_misspelt_variables_are_noticed(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SERVICE_PROT=9000\n")
    environment = {"SERVICE_WORKRES": "2", "SERVICE_WORKERS": "2", "SERVICE_SERVICE_HOST": "::"}
    assert misspelt_variables(environment) == [
        ("SERVICE_PROT", "SERVICE_PORT"),
        ("SERVICE_WORKRES", "SERVICE_WORKERS"),
    ]


@pytest.mark.parametrize("link", ["tcp://10.0.0.1:80", "udp://[fd00::1]:53", "sctp://10.0.0.1:1"])
def test_address_that_kubernetes_sets_is_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, link: str
) -> None:
    monkeypatch.setenv("SERVICE_PORT", link)
    monkeypatch.setenv("SERVICE_WORKERS", "3")
    assert ignored_variables() == ["SERVICE_PORT"]
    settings = load_settings()
    assert (settings.port, settings.workers) == (Settings.model_fields["port"].default, 3)
    (tmp_path / ".env").write_text("SERVICE_PORT=9000\n")
    assert load_settings().port == 9000


@pytest.mark.parametrize("port", ["9000", "http://10.0.0.1:80", "80 tcp://10.0.0.1:80"])
def test_nothing_else_is_ignored(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("SERVICE_PORT", port)
    monkeypatch.setenv("SERVICE_HOST", "tcp://10.0.0.1:80")
    assert ignored_variables() == []
    if port == "9000":
        assert load_settings().port == 9000
    else:
        with pytest.raises(SettingsInvalid, match="SERVICE_PORT"):
            load_settings()


class Further(BaseSettings):
    """Settings such as `service.settings` may have."""

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
    with pytest.raises(SettingsInvalid) as refusal:
        load(Further)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_every_setting_is_described_once() -> None:
    descriptions = [description for _, _, description in settings_table()]
    assert all(descriptions)
    assert len(set(descriptions)) == len(Settings.model_fields)
