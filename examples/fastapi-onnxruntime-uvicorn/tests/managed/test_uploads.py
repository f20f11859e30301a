"""Files in requests to /predict: as base64, in a form, and as the whole body."""

import base64
import io
import json
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import numpy as np
import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from managed.importing import Shell, import_with_stand_ins, isolate
from managed.support import Doubler, FakeRuntime, Service, running, until_ready, write_model
from service.core.errors import Refused
from service.core.uploads import ImageFile, Upload, decode_base64, kinds_of_files
from service.ops.settings import Settings
from service.web import forms
from service.web.instance_fields import InstanceFields

images = pytest.importorskip("PIL.Image")
pytest.importorskip("multipart")

pytestmark = pytest.mark.anyio

WITH_FILES = Path(__file__).with_name("stand_in") / "with_files"


def image(width: int = 3, height: int = 2, kind: str = "PNG", **options: Any) -> bytes:
    written = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    images.fromarray(pixels).save(written, kind, **options)
    return written.getvalue()


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def file_shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, tmp_path_factory.mktemp("empty"))
        return import_with_stand_ins(WITH_FILES)


class ServeFiles(Protocol):
    def __call__(self, **changed: Any) -> AbstractAsyncContextManager[Service]: ...


@pytest.fixture
def serve_files(
    file_shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failures: list[str]
) -> ServeFiles:
    """Run the service around a `Doubler` whose instances hold images."""
    file_shell.put_into_place(monkeypatch)

    @asynccontextmanager
    async def serve(**changed: Any) -> AsyncIterator[Service]:
        folder = write_model(tmp_path / "doubler", Doubler())
        settings = Settings(**{"model_dir": folder, "max_batch_size": 64, **changed})
        async with running(file_shell.main.create_app(settings, FakeRuntime(Doubler()))) as service:
            await until_ready(service, failures)
            yield service

    return serve


@pytest.fixture
async def asked(serve_files: ServeFiles) -> AsyncIterator[httpx.AsyncClient]:
    async with serve_files() as service:
        yield service.client


def sizes(answer: httpx.Response) -> list[tuple[float, float]]:
    assert answer.status_code == 200, answer.text
    return [(each["left"], each["right"]) for each in answer.json()["predictions"]]


def errors(answer: httpx.Response) -> list[tuple[str, str]]:
    assert answer.status_code == 422, answer.text
    return [(each["field"], each["reason"]) for each in answer.json()["errors"]]


def files(*contents: bytes, name: str = "image") -> list[tuple[str, tuple[str, bytes]]]:
    return [(name, ("file.bin", content)) for content in contents]


async def test_base64(asked: httpx.AsyncClient) -> None:
    given = [{"image": text(image())}, {"image": text(image(5, 4)), "factor": 2}]
    answer = await asked.post("/predict", json={"instances": given})
    assert sizes(answer) == [(6, 4), (20, 16)]


async def test_long_base64(asked: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not reach the framework, and its errors have the same paths."""
    threads = []

    def decode(given: str) -> bytes:
        threads.append(threading.current_thread())
        return decode_base64(given)

    monkeypatch.setattr(forms, "decode_base64", decode)
    long = image(80, 80, "PNG") + bytes(2**20)
    given: list[dict[str, Any]] = [{"image": text(long), "title": "t"}, {"image": text(image())}]
    assert sizes(await asked.post("/predict", json={"instances": given})) == [(160, 160), (6, 4)]
    given[0]["image"] = text(long)[:-1] + "!"
    given[1]["factor"] = "x"
    found = errors(await asked.post("/predict", json={"instances": given}))
    assert found[0] == ("instances.0.image", "Input should be valid base64")
    assert [path for path, _ in found] == ["instances.0.image", "instances.1.factor"]
    assert len(threads) == 2
    assert threading.main_thread() not in threads


@pytest.mark.parametrize(
    "wrong",
    ["QQ", "QQ=", "Q Q=", "QQ==QQ==", "QQ\n==", "é===", "QQ_-", "=", "data:image/png;base64,QQ=="],
)
async def test_wrong_base64(asked: httpx.AsyncClient, wrong: str) -> None:
    answer = await asked.post(
        "/predict", json={"instances": [{"image": text(image())}, {"image": wrong}]}
    )
    ((path, reason),) = errors(answer)
    assert path == "instances.1.image"
    assert "base64" in reason


@pytest.mark.parametrize("wrong", [None, 1, ["QQ=="], {}])
async def test_wrong_types(asked: httpx.AsyncClient, wrong: object) -> None:
    ((path, _),) = errors(await asked.post("/predict", json={"instances": [{"image": wrong}]}))
    assert path == "instances.0.image"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
async def test_one_file_in_a_form(asked: httpx.AsyncClient, kind: str) -> None:
    given = files(image(kind=kind))
    assert sizes(await asked.post("/predict", files=given)) == [(6, 4)]


async def test_several_files_in_a_form(asked: httpx.AsyncClient) -> None:
    given = files(image(), image(5, 4), image(1, 1))
    assert sizes(await asked.post("/predict", files=given)) == [(6, 4), (10, 8), (2, 2)]


async def test_other_fields_of_a_form(asked: httpx.AsyncClient) -> None:
    """Each is given once for all, or once for each; text as it is, the rest as JSON."""
    given = files(image(), image(5, 4))
    data = {"factor": "2", "title": ["1", 'a "title"'], "steps": "[1, 2]"}
    assert sizes(await asked.post("/predict", files=given, data=data)) == [(12, 8), (20, 16)]
    found = errors(await asked.post("/predict", files=given, data={"factor": ["1", "x"]}))
    assert [path for path, _ in found] == ["instances.1.factor"]
    found = errors(await asked.post("/predict", files=given, data={"factor": ["1", "1", "1"]}))
    assert found == [
        ("instances.0.factor", "Input should be given once, or 2 times, as often as a file")
    ]
    found = errors(await asked.post("/predict", files=given[:1], data={"unknown": "1"}))
    assert [path for path, _ in found] == ["instances.0.unknown"]


async def test_json_in_a_form_cannot_leave_its_field(asked: httpx.AsyncClient) -> None:
    for value in ('1},{"image":"QQ=="', "1,2", "NaN", "1 ", '{"a":1,"a":2}'):
        answer = await asked.post("/predict", files=files(image()), data={"factor": value})
        if value == "1 ":
            assert sizes(answer) == [(6, 4)]
        else:
            assert [path for path, _ in errors(answer)] == ["instances.0.factor"]


async def test_a_form_without_a_file(asked: httpx.AsyncClient) -> None:
    given = files(b"1", name="factor")
    assert errors(await asked.post("/predict", files=given)) == [
        ("instances.0.image", "Field required")
    ]


async def test_a_long_form_whose_end_is_a_piece_of_its_own(asked: httpx.AsyncClient) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
    tail = b"\r\n--b--\r\n"
    for more in range(-3, 4):
        content = image()
        content += bytes(2**18 - len(head + content + tail) + more)
        answer = await asked.post(
            "/predict",
            content=head + content + tail,
            headers={"content-type": "multipart/form-data; boundary=b"},
        )
        assert sizes(answer) == [(6, 4)]


async def test_a_file_as_the_body(asked: httpx.AsyncClient) -> None:
    for media_type in ("image/png", "IMAGE/PNG; x=y", "image/x-anything"):
        headers = {"content-type": media_type}
        assert sizes(await asked.post("/predict", content=image(), headers=headers)) == [(6, 4)]


@pytest.mark.parametrize(
    "media_type", ["", "image", "image/", "audio/wav", "application/octet-stream", "text/plain"]
)
async def test_wrong_media_types(asked: httpx.AsyncClient, media_type: str) -> None:
    headers = {"content-type": media_type}
    answer = await asked.post("/predict", content=image(), headers=headers)
    assert answer.status_code == 415
    assert "application/json, multipart/form-data or image/*" in answer.json()["detail"]


async def test_instances_without_files_take_json_only(client: httpx.AsyncClient) -> None:
    answers = [
        await client.post("/predict", files=files(image())),
        await client.post("/predict", content=image(), headers={"content-type": "image/png"}),
    ]
    for answer in answers:
        assert answer.status_code == 415
        assert answer.json()["detail"] == "The body must be application/json."


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (b"", "is not an image in the format JPEG, PNG or WEBP"),
        (b"no image", "is not an image in the format JPEG, PNG or WEBP"),
        (image(kind="GIF"), "is not an image in the format JPEG, PNG or WEBP"),
        (image(60, 60, "JPEG")[:-200], "is a damaged or incomplete image"),
        (image(60, 60)[:-200], "is a damaged or incomplete image"),
        (image(200, 200), "has more than 10000 pixels"),
    ],
    ids=["empty", "text", "GIF", "incomplete JPEG", "incomplete PNG", "too large"],
)
async def test_wrong_images(asked: httpx.AsyncClient, wrong: bytes, reason: str) -> None:
    answer = await asked.post("/predict", files=files(image(), wrong, image()))
    assert errors(answer) == [("instances.1.image", reason)]


async def test_a_decompression_bomb_is_not_decoded(asked: httpx.AsyncClient) -> None:
    written = io.BytesIO()
    images.new("1", (9_000, 9_000)).save(written, "PNG")
    assert len(written.getvalue()) < 2**20
    answer = await asked.post("/predict", files=files(written.getvalue()))
    assert errors(answer) == [("instances.0.image", "has more than 10000 pixels")]


@pytest.mark.parametrize(
    ("body", "boundary", "status"),
    [
        (b"no form", "b", 400),
        (b"--b\r\n", "b", 400),
        (b"--b\r\nContent-Type: text/plain\r\n\r\n1\r\n--b--", "b", 400),
        (b'--b\r\nContent-Disposition: form-data; name="title"\r\n\r\n\xff\r\n--b--', "b", 400),
        (b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n1', "b", 400),
        (b"--b--", "", 400),
        (b"--b--", "b" * 71, 400),
        (b"--b\r\nX: " + b"y" * 10_000 + b"\r\n\r\n\r\n--b--", "b", 413),
        (b"--b\r\n" + b"X: y\r\n" * 20 + b"\r\n\r\n--b--", "b", 413),
    ],
    ids=[
        "no form", "no end", "no name", "no text", "incomplete", "no boundary", "long boundary",
        "long header", "many headers",
    ],
)  # fmt: skip
async def test_malformed_forms(
    asked: httpx.AsyncClient, body: bytes, boundary: str, status: int
) -> None:
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    answer = await asked.post("/predict", content=body, headers=headers)
    assert answer.status_code == status, answer.text


async def test_limits_of_a_form(serve_files: ServeFiles) -> None:
    async def status(content: Any, data: Any = None, **limits: int) -> int:
        async with serve_files(**limits) as service:
            answer = await service.client.post("/predict", files=content, data=data)
            return answer.status_code

    three = files(image(), image(), image())
    assert [await status(three, max_instances=limit) for limit in (3, 2)] == [200, 413]
    parts = [*files(image()), *files(b"1", name="factor") * 10]
    assert await status(parts, max_instances=1) == 413
    size = sum(len(content) for _, (_, content) in three)
    assert await status(three, max_body_bytes=size) == 413
    title = {"title": "t" * 20}
    assert [await status(three, title, max_json_bytes=limit) for limit in (600, 60)] == [200, 413]
    steps = {"steps": json.dumps([1] * 100)}
    limits = [await status(three[:1], steps, max_predict_values=limit) for limit in (200, 50)]
    assert limits == [200, 413]


async def test_long_json_in_a_form_is_not_parsed(
    serve_files: ServeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "parse_json", lambda content: pytest.fail("it is parsed"))
    async with serve_files(max_predict_values=50) as service:
        data = {"steps": json.dumps([1] * 100)}
        answer = await service.client.post("/predict", files=files(image()), data=data)
    assert answer.status_code == 413


async def test_files_do_not_count_as_json(serve_files: ServeFiles) -> None:
    content = image(40, 40)
    async with serve_files(max_json_bytes=1000) as service:
        body = {"instances": [{"image": text(content)}]}
        answer = await service.client.post("/predict", json=body)
        assert answer.status_code == 413
        assert "multipart/form-data" in answer.json()["detail"]
        assert sizes(await service.client.post("/predict", files=files(content))) == [(80, 80)]


async def test_files_are_decoded_off_the_event_loop(
    serve_files: ServeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    decode = ImageFile.array

    def array(image: ImageFile, *args: Any, **options: Any) -> Any:
        threads.append(threading.current_thread())
        return decode(image, *args, **options)

    monkeypatch.setattr(ImageFile, "array", array)
    for limits in ({}, {"max_batch_size": 1}):
        async with serve_files(**limits) as service:
            await service.client.post("/predict", files=files(image(), image()))
    assert threads
    assert threading.main_thread() not in threads


async def test_openapi_describes_forms_and_files(asked: httpx.AsyncClient) -> None:
    document = (await asked.get("/openapi.json")).json()
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert list(content) == ["application/json", "multipart/form-data", "image/*"]
    form = content["multipart/form-data"]["schema"]
    file = {"type": "string", "format": "binary", "contentMediaType": "image/*"}
    assert form["properties"]["image"]["items"] == file
    assert form["required"] == ["image"]
    given = document["components"]["schemas"]["Instance"]["properties"]["image"]
    assert given["contentEncoding"] == "base64"
    assert given["contentMediaType"] == "image/*"


async def test_a_missing_library_is_told_at_the_start(
    serve_files: ServeFiles, monkeypatch: pytest.MonkeyPatch, failures: list[str]
) -> None:
    for module, package in (("PIL.Image", "pillow"), ("multipart", "multipart")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(AssertionError):
                await serve_files().__aenter__()
        assert failures.pop().endswith(f"uv add {package}")


class Sounds(BaseModel):
    """Instances with fields of other kinds."""

    recording: Upload = Field(json_schema_extra={"contentMediaType": "audio/*"})
    others: list[Upload] = Field(default_factory=list)
    cover: ImageFile | None = None


async def test_forms_of_several_fields_with_files() -> None:
    fields = InstanceFields(Sounds.model_json_schema())
    assert {name: each.many for name, each in fields.files.items()} == {
        "recording": False, "others": True, "cover": False
    }  # fmt: skip
    assert fields.body is None  # which of them would it be?
    assert fields.media_types == ["multipart/form-data"]
    assert kinds_of_files(Sounds) == {"file", "image"}


async def test_an_upload_is_its_bytes() -> None:
    class Recording(BaseModel):
        sound: Upload

    adapter = TypeAdapter(Recording)
    recording = adapter.validate_json(json.dumps({"sound": text(b"\0\xff")}))
    assert recording.sound == b"\0\xff"
    assert json.loads(recording.model_dump_json()) == {"sound": text(b"\0\xff")}
    assert Recording(sound=b"1").sound == b"1"
    with pytest.raises(ValidationError):
        adapter.validate_python({"sound": 1})
    assert InstanceFields(Recording.model_json_schema()).media_types == [
        "multipart/form-data", "application/octet-stream"
    ]  # fmt: skip


def test_base64_is_decoded_in_slices() -> None:
    content = bytes(range(256)) * 5000
    for end in (len(content), len(content) - 1, len(content) - 2):
        assert decode_base64(text(content[:end])) == content[:end]
    padded = text(bytes(2**18 // 4 * 3 - 1))
    assert len(padded) == 2**18
    with pytest.raises(PydanticCustomError):  # it ends with the slice
        decode_base64(padded + "QQ==")


def test_images_are_upright_and_resized() -> None:
    exif = images.Exif()
    exif[0x0112] = 6  # turned to the right
    turned = ImageFile(image(80, 40, "JPEG", exif=exif))
    assert turned.array().shape == (80, 40, 3)
    assert turned.array((10, 20)).shape == (20, 10, 3)
    assert turned.array(mode="L").shape == (80, 40)
    assert turned.open(at_least=(20, 40)).size == (20, 40)


def test_a_jpeg_is_decoded_at_a_fraction_of_its_size() -> None:
    photo = images.effect_mandelbrot((800, 600), (-2, -1, 1, 1), 20).convert("RGB")
    written = io.BytesIO()
    photo.save(written, "JPEG", quality=95)
    file = ImageFile(written.getvalue())
    assert file.open(at_least=(100, 75)).size == (100, 75)
    whole = np.asarray(file.open().resize((80, 60), images.Resampling.BICUBIC)).astype(int)
    assert abs(whole - file.array((80, 60))).mean() < 3


def test_deep_images_are_refused_and_not_cut_off() -> None:
    written = io.BytesIO()
    images.fromarray(np.full((2, 2), 60_000, np.uint16)).save(written, "PNG")
    file = ImageFile(written.getvalue(), "scan")
    with pytest.raises(Refused, match="scan: has more than 8 bits per sample"):
        file.array()
    assert np.asarray(file.open(mode=None)).max() == 60_000
