"""The page in a real browser: every function, at two widths, with mouse and keyboard."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from retrieval.store import Item, open_database
from tests.tools.server.world import (
    COUNT,
    SCHEMA,
    make_database,
    make_item,
    make_service,
    photo_bytes,
    running,
    unit_rows,
)
from tools.server.limits import Limits
from tools.server.service import Service

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: install the package chromium"
)
LIMITS = Limits(upload_bytes=200_000)
PHOTO = {"name": "street.png", "mimeType": "image/png", "buffer": photo_bytes(300, 400)}
DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 375, "height": 740}, "has_touch": True, "is_mobile": True}
TOKEN = "a token of some length"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield one
        one.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = make_database(tmp_path_factory.mktemp("world")).parent
    with open_database(folder / "db", read_only=True) as store:
        yield make_service(store, folder / "photos", LIMITS)


@pytest.fixture(scope="module")
def address(service: Service) -> Iterator[str]:
    with running(service, hosts=frozenset({"127.0.0.1"})) as address:
        yield address


@pytest.fixture
def open_page(browser: Browser) -> Iterator:
    """Opens a page; afterwards it must have had no error and no request to another host."""
    contexts, problems = [], []

    def open_one(url: str, **options) -> Page:
        context = browser.new_context(**DESKTOP | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if "Content Security" in m.text else 0)
        own = re.escape("/".join(url.split("/")[:3]))
        page.on(
            "request",
            lambda r: None if re.match(f"{own}|blob:|data:", r.url) else problems.append(r.url),
        )
        page.goto(url)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert problems == []


@contextmanager
def served(place: Path, items: list[Item]) -> Iterator[str]:
    """The address of a page of a new database, without networks."""
    with open_database(place, schema=SCHEMA, create=True) as store:
        store.add(items, unit_rows(len(items)))
    with (
        open_database(place, read_only=True) as store,
        running(make_service(store, None, LIMITS)) as address,
    ):
        yield address


def results(page: Page) -> list[str]:
    return page.eval_on_selector_all("#results .card", "cards => cards.map(c => c.dataset.key)")


def settled(page: Page) -> list[str]:
    """The results, once they no longer change."""
    expect(page.locator("#status")).to_contain_text("most similar, in")
    before = None
    while (now := results(page)) != before:
        before = now
        page.wait_for_timeout(250)
    return now


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_upload_search_and_share_a_link(open_page, address: str, device: dict) -> None:
    page = open_page(address, **device)
    expect(page.locator("#results .card .pick img").first).to_be_visible()
    assert page.locator("#results").get_attribute("aria-busy") is None

    page.set_input_files("#file", PHOTO)
    expect(page.locator("#outlines path")).to_have_count(2)
    expect(page.locator("#caption")).to_contain_text("Not stored")
    assert settled(page)[0] == make_item(3).key  # the first garment's vector is that item's

    page.locator("#outlines path").nth(1).click()
    expect(page.locator("#garment-list label:has(:checked)")).to_contain_text("trousers")
    expect(page.locator("#results .card").first).to_have_attribute("data-key", make_item(8).key)
    before = settled(page)

    for aspect in ("item", "texture", "shape"):
        page.locator(f"#weight-{aspect}").fill("0")
    by_color = settled(page)
    assert by_color != before
    bars = page.eval_on_selector_all(
        ".card", "cards => cards.map(c => Number(c.querySelectorAll('.bars b')[1].textContent))"
    )
    assert bars == sorted(bars, reverse=True)

    page.locator("#results .pick").nth(2).click()
    expect(page).to_have_url(re.compile(r"\?key=.*w\.item=0"))
    expect(page.locator("#caption")).to_have_text(by_color[2])
    chained = settled(page)
    assert by_color[2] not in chained

    page.reload()
    assert settled(page) == chained
    assert page.locator("#weight-item").input_value() == "0"
    shared = open_page(page.url, **device)
    assert settled(shared) == chained

    page.go_back()
    expect(page.locator("#caption")).to_contain_text("not kept")  # reloaded: the photo is gone
    expect(page).to_have_title("Photo · Weft")
    assert settled(page) == by_color
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_filters_narrow_and_are_shared(open_page, address: str) -> None:
    page = open_page(f"{address}/?{query(0)}")
    settled(page)
    page.locator("summary", has_text="category").click()
    page.locator(".options label", has_text="skirt").click()
    expect(page.locator("#results .card")).to_have_count(COUNT // 4)
    page.keyboard.press("Escape")
    expect(page.locator(".filter[open]")).to_have_count(0)
    page.locator("summary", has_text="color").click()
    page.locator(".options label", has_text="red").click()
    wanted = [make_item(i) for i in range(1, COUNT)]
    wanted = {i.key for i in wanted if i.category == "skirt" and i.attributes["color"] == "red"}
    expect(page.locator("#results .card")).to_have_count(len(wanted))
    assert set(results(page)) == wanted
    assert set(settled(open_page(page.url))) == wanted
    page.get_by_role("button", name="Remove the filter skirt").click()
    expect(page.locator("#results .card")).not_to_have_count(len(wanted))
    empty = open_page(f"{address}/?{query(0)}&a.color=no+such")
    said = empty.get_by_role("status").filter(has_text="Nothing passes these filters")
    expect(said).to_be_visible()  # and read aloud
    empty.get_by_role("button", name="Clear filters").click()
    assert len(settled(empty)) == 24
    empty.get_by_role("button", name="Show more").click()
    expect(empty.locator("#results .card")).to_have_count(COUNT - 1)


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_filter_of_many_values_can_be_searched(open_page, tmp_path: Path, device: dict) -> None:
    items = [
        Item(f"{n}.jpg#1", f"{n}.jpg", 1, None, "top", {"brand": f"Brand {n:02d}"})
        for n in range(97)
    ]
    with served(tmp_path / "db", items) as address:
        page = open_page(f"{address}/?key=0.jpg%231", **device)
        settled(page)
        page.locator("summary", has_text="brand").click()
        expect(page.locator(".options label")).to_have_count(80)
        find = page.get_by_role("searchbox", name="Find one of 97")
        find.fill("brand 9")
        expect(page.locator(".options label")).to_have_count(7)
        page.locator(".options label", has_text="Brand 93").click()
        expect(page.locator("#results .card")).to_have_count(1)
        find.fill("")
        expect(page.locator(".filter .count")).to_have_text("1")
        find.fill("no such")
        expect(page.locator(".options")).to_have_text("Nothing with this name")
        assert results(page) == ["93.jpg#1"]
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Remove the filter Brand 93").click()
        page.locator("summary", has_text="brand").click()
        find.fill("93")
        expect(page.locator(".options input:checked")).to_have_count(0)


def query(number: int) -> str:
    return "key=" + make_item(number).key.replace("#", "%23")


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_long_names_without_a_space_stay_on_the_page(
    open_page, tmp_path: Path, device: dict
) -> None:
    """Photos are often named by their digest."""
    long = "0123456789abcdef" * 6
    items = [Item(f"{n}{long}#1", f"{n}{long}", 1, None, n + long, {"cut": n + long}) for n in "ab"]
    with served(tmp_path / "db", items) as address:
        page = open_page(f"{address}/?key=a{long}%231&category=b{long}", **device)
        settled(page)
        expect(page.locator("#facts td").first).to_be_visible()
        page.locator("summary", has_text="cut").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= device["viewport"]["width"]


def test_binary_attributes_are_shown_by_name(open_page, tmp_path: Path) -> None:
    items = [
        Item(f"{n}.jpg#1", f"{n}.jpg", 1, None, "<b>dress</b>", {"big_floral": "yes", "cut": n})
        for n in ('"A" line', "wide")
    ]
    with served(tmp_path / "db", items) as address:
        page = open_page(f"{address}/?key=wide.jpg%231&a.big_floral=yes")
        settled(page)
        card = page.locator("#results .card")
        expect(card.locator(".what")).to_have_text('big floral · "A" line')
        expect(card.locator(".name")).to_contain_text("<b>dress</b>")
        page.get_by_role("button", name="Remove the filter big floral").click()
        expect(page).to_have_url(re.compile(r"1$"))


def test_page_works_with_the_keyboard_alone(open_page, address: str) -> None:
    page = open_page(address)
    page.on("filechooser", lambda _: None)  # so that the browser reports them from now on
    expect(page.locator("#results .card .pick").first).to_be_visible()
    for _ in range(4):  # skip link, brand, API
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(PHOTO)
    settled(page)
    tab_to(page, "document.activeElement.name === 'garment'")
    page.keyboard.press("ArrowDown")
    expect(page.locator("label:has(:checked)").first).to_contain_text("trousers")
    expect(page.locator("#results .card").first).to_have_attribute("data-key", make_item(8).key)
    tab_to(page, "document.activeElement.id === 'weight-item'")
    page.keyboard.press("Home")
    expect(page).to_have_url(re.compile(r"w\.item=0"))
    tab_to(page, "document.activeElement.className === 'pick'")
    first = results(page)[0]
    page.keyboard.press("Enter")
    expect(page.locator("#caption")).to_have_text(first)
    assert page.evaluate("document.activeElement.id") == "results-title"


def tab_to(page: Page, condition: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(condition):
            return
    raise AssertionError(f"Tab never leads to where {condition}")


def test_dropped_and_pasted_photos_are_searched(open_page, address: str) -> None:
    page = open_page(address)
    expect(page.locator("#results .card .pick").first).to_be_visible()
    hand_over = """([kind, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "a.png", { type: "image/png" }));
        const options = { bubbles: true, cancelable: true };
        dispatchEvent(kind === "drop" ? new DragEvent(kind, { ...options, dataTransfer: data })
            : new ClipboardEvent(kind, { ...options, clipboardData: data }));
    }"""
    page.evaluate(hand_over, ["drop", list(photo_bytes(80, 90))])
    expect(page.locator("#outlines")).to_have_attribute("viewBox", "0 0 80 90")
    page.evaluate(hand_over, ["paste", list(photo_bytes(70, 60))])
    expect(page.locator("#outlines")).to_have_attribute("viewBox", "0 0 70 60")


def test_errors_are_shown(open_page, address: str, service: Service, monkeypatch) -> None:
    page = open_page(address)
    page.evaluate(
        """() => {
            window.kept = new Set();
            const { createObjectURL, revokeObjectURL } = URL;
            URL.createObjectURL = (file) => {
                const url = createObjectURL.call(URL, file);
                kept.add(url);
                return url;
            };
            URL.revokeObjectURL = (url) => revokeObjectURL.call(URL, url, kept.delete(url));
        }"""
    )
    trouble = page.locator("#trouble-text")
    page.set_input_files("#file", PHOTO | {"buffer": b"no photo"})
    expect(trouble).to_contain_text("Not a photo")
    page.set_input_files("#file", PHOTO | {"buffer": bytes(200_001)})
    expect(trouble).to_contain_text("larger than")
    page.set_input_files("#file", PHOTO | {"buffer": photo_bytes(30, 60)})
    expect(page.locator("#caption")).to_contain_text("No garment was recognized")
    page.set_input_files("#file", PHOTO | {"buffer": b"no photo either"})
    expect(trouble).to_contain_text("Not a photo")
    assert page.evaluate("kept.size") == 1, "of the photo that is shown"
    silent = open_page(address)
    silent.route("**/api/stats", lambda route: route.abort())
    silent.reload()
    expect(silent.locator("#nothing-text")).to_have_text("The server does not respond properly")
    silent.set_input_files("#file", PHOTO)
    expect(silent.locator("#trouble-text")).to_contain_text("did not respond")
    gone = open_page(f"{address}/?handle=long-gone")
    expect(gone.locator("#nothing-text")).to_contain_text("expired")
    unknown = open_page(f"{address}/?key=no-such")
    expect(unknown.locator("#nothing-text")).to_contain_text("no longer in the database")
    monkeypatch.setattr(service.vision, "seconds", 1.0)
    page.set_input_files("#file", PHOTO)
    expect(page.locator("#work-text")).to_contain_text("Looking for garments")
    expect(page.locator(".frame.working img")).to_be_visible()
    expect(page.locator("#outlines path")).to_have_count(2)


def test_page_without_models_offers_no_upload(open_page, service: Service) -> None:
    blind = make_service(service.store, service.pictures.root, LIMITS, with_vision=False)
    with running(blind) as address:
        page = open_page(address)
        expect(page.get_by_text("This server accepts no photos")).to_be_visible()
        expect(page.locator("#drop")).not_to_be_visible()
        page.locator("#results .pick").first.click()
        assert len(settled(page)) == 24


def test_page_waits_for_a_busy_server(open_page, service: Service) -> None:
    limits = replace(LIMITS, waiting_photos=0)
    slow = make_service(service.store, service.pictures.root, limits)
    slow.vision.seconds = 1.0
    with running(slow) as address:
        one, other = open_page(address), open_page(address)
        one.set_input_files("#file", PHOTO)
        other.set_input_files("#file", PHOTO)
        for page in (one, other):
            expect(page.locator("#outlines path")).to_have_count(2)


def test_page_asks_for_the_token_once(open_page, service: Service) -> None:
    with running(service, token=TOKEN) as address:
        page = open_page(f"{address}/?{query(1)}")
        expect(page.locator("#login")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator("#login")).to_be_visible()  # nothing else would ask for it again
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#login-error")).to_have_text("That is not the token.")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        settled(page)
        expect(page.locator("#results img").first).to_be_visible()
        page.reload()
        settled(page)
        expect(page.locator("#login")).not_to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_has_no_accessibility_violations(open_page, address: str, scheme: str) -> None:
    page = open_page(address, color_scheme=scheme, reduced_motion="reduce")
    expect(page.locator("#results .card img").first).to_be_visible()
    check(page)
    page.set_input_files("#file", PHOTO)
    settled(page)
    page.locator("summary").first.click()
    check(page)
    page.goto(f"{address}/?key=no-such")
    expect(page.locator("#nothing-text")).to_be_visible()
    page.set_input_files("#file", PHOTO | {"buffer": b"no photo"})
    expect(page.locator("#trouble-text")).to_be_visible()
    check(page)
    page.goto(f"{address}/docs")
    check(page)


def check(page: Page) -> None:
    # The page's own policy keeps axe's script out unless it comes through the debugger, as here.
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
