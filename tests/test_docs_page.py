"""The docs page of each framework in a real browser that can reach nothing but the service."""

import json
import shutil
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ALL_VARIANTS, Covers
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from inferplate.live import Golden
from inferplate.matrix import Variant
from inferplate.running import Service
from inferplate.wire import ask
from inferplate.workbench import Workbench

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
FRAMEWORKS = [
    variant
    for variant in ALL_VARIANTS
    if variant.runtime == "onnxruntime" and variant.server == "uvicorn"
]
WITH_IMAGES = [
    Variant(variant.framework, variant.runtime, variant.server, "image") for variant in FRAMEWORKS
]
PREFIX = "/iris"
WAIT_SECONDS = 30


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert chromium, "chromium is missing: run tests/system-packages"
    assert driver, "chromedriver is missing: run tests/system-packages"
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda variant: variant.framework)
def test_docs_page(
    framework: Variant,
    copy_of: Callable[[Variant], Path],
    bench: Workbench,
    browser: webdriver.Chrome,
    covers: Covers,
) -> None:
    covers("docs page in Chromium, no network: rendered, tried out", framework, len(FRAMEWORKS))
    project = copy_of(framework)
    golden = Golden.of(project)
    settings = {"SERVICE_THREADS": "1", "SERVICE_ROOT_PATH": PREFIX}
    with Service(project, bench.python, settings) as service:
        service.wait_ready()
        origin = f"http://127.0.0.1:{service.port}"
        document = ask(service.port, "GET", "/openapi.json").json()
        operations = {
            operation["operationId"]: path
            for path, item in document["paths"].items()
            for operation in item.values()
        }
        for path in ("/docs", f"{PREFIX}/"):  # the second leads to the page under the prefix
            browser.get(f"{origin}{path}")
            wait_for(browser, lambda: len(rendered(browser)) == len(operations))
        assert browser.current_url == f"{origin}{PREFIX}/docs"
        assert set(rendered(browser)) == set(operations)
        assert browser.title == document["info"]["title"]

        answer = try_out(browser, operation_of(operations, "/predict"))
        assert answer["predictions"][0]["label"] == golden.predictions[0]["label"]
        answer = try_out(browser, operation_of(operations, "/v2/models/{name}/infer"))
        assert answer["model_name"] == golden.model
        assert try_out(browser, operation_of(operations, "/v2/health/ready"))["ready"] is True

        assert not [entry for entry in log(browser, "browser") if entry["level"] == "SEVERE"]
        assert f"{origin}{PREFIX}/predict" in requested(browser, f"{origin}{PREFIX}")
        foreign = {url for url in requested(browser, origin) if not url.startswith(f"{origin}/")}
        assert {url for url in foreign if not url.startswith("data:")} == set()


@pytest.mark.parametrize("framework", WITH_IMAGES, ids=lambda variant: variant.framework)
def test_the_docs_page_sends_files(
    framework: Variant,
    copy_of: Callable[[Variant], Path],
    bench: Workbench,
    browser: webdriver.Chrome,
    tmp_path: Path,
    covers: Covers,
) -> None:
    covers("docs page in Chromium: files chosen and sent", framework, len(WITH_IMAGES))
    project = copy_of(framework)
    golden = Golden.of(project)
    expected = [prediction["label"] for prediction in golden.predictions[:2]]
    pictures = [tmp_path / "one picture.png", tmp_path / 'a, "b".png']
    for picture, instance in zip(pictures, golden.instances, strict=False):
        picture.write_bytes(b64decode(instance["image"]))
    with Service(project, bench.python, {"SERVICE_THREADS": "1"}) as service:
        service.wait_ready()
        browser.get(f"http://127.0.0.1:{service.port}/docs")
        wait_for(browser, lambda: "predict" in rendered(browser))
        operation = browser.find_element(By.CSS_SELECTOR, "[data-operation='predict']")
        field = operation.find_element(By.CSS_SELECTOR, "input[type='file'][data-field='image']")
        field.send_keys("\n".join(map(str, pictures)))
        answer = try_out(browser, "predict")
        assert [each["label"] for each in answer["predictions"]] == expected

        command = operation.find_element(By.CSS_SELECTOR, "pre.curl").text
        answer = json.loads(bench.run(["bash", "-c", f"{command} --silent"], tmp_path, timeout=30))
        assert [each["label"] for each in answer["predictions"]] == expected

        kind = Select(operation.find_element(By.CSS_SELECTOR, "select.type"))
        kind.select_by_visible_text("application/json")
        answer = try_out(browser, "predict")  # the example, in base64
        assert [each["label"] for each in answer["predictions"]] == expected[:1]


def operation_of(operations: dict[str, str], path: str) -> str:
    (name,) = (name for name, its_path in operations.items() if its_path == path)
    return name


def rendered(browser: webdriver.Chrome) -> list[str | None]:
    found = browser.find_elements(By.CSS_SELECTOR, "[data-operation]")
    return [operation.get_attribute("data-operation") for operation in found]


def try_out(browser: webdriver.Chrome, name: str) -> Any:
    """Send the example of an operation as a reader would, and return the answer shown."""
    operation = browser.find_element(By.CSS_SELECTOR, f"[data-operation='{name}']")
    if operation.get_attribute("open") is None:
        operation.find_element(By.TAG_NAME, "summary").click()
    shown = operation.find_element(By.CSS_SELECTOR, ".answer")
    browser.execute_script("arguments[0].replaceChildren()", shown)  # an earlier answer
    send = operation.find_element(By.CSS_SELECTOR, "button.send")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", send)
    send.click()

    def status() -> list[WebElement]:
        return operation.find_elements(By.CSS_SELECTOR, ".answer .status")

    wait_for(browser, lambda: bool(status()))
    text = operation.find_element(By.CSS_SELECTOR, ".answer .text").text
    assert status()[0].text.startswith("200"), text
    return json.loads(text)


def requested(browser: webdriver.Chrome, origin: str) -> set[str]:
    """List the addresses that pages of ``origin`` asked for since the browser was started."""
    messages = (json.loads(entry["message"])["message"] for entry in log(browser, "performance"))
    return {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
        and message["params"]["documentURL"].startswith(f"{origin}/")
    }


def log(browser: webdriver.Chrome, kind: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = browser.get_log(kind)  # type: ignore[no-untyped-call]
    return entries


def wait_for(browser: webdriver.Chrome, condition: Callable[[], bool]) -> None:
    WebDriverWait(browser, WAIT_SECONDS).until(lambda _: condition())
