"""The page in a browser: clicks, words, uploads and texts; two visitors at once; and nothing that comes from elsewhere."""

from __future__ import annotations

import json
import shutil
import socket
from contextlib import ExitStack

import pytest
from playwright.sync_api import sync_playwright

import headpursuit as hp
from headpursuit.app.page import started
from headpursuit.app.playground import find
from headpursuit.concepts.counting import count_words
from headpursuit.demo import demo_samples

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (Debian: apt-get install chromium)")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SLOWEST = 60_000  # milliseconds


@pytest.fixture(scope="module")
def asked():
    """Every host that this process looks up or connects to while the page is served."""
    hosts: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        look_up, connect = socket.getaddrinfo, socket.socket.connect
        patch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: hosts.add(str(host)) or look_up(host, *rest, **more))
        patch.setattr(
            socket.socket, "connect", lambda one, to: (hosts.add(to[0]) if isinstance(to, tuple) else None) or connect(one, to)
        )
        yield hosts


@pytest.fixture(scope="module")
def address(playground, asked):
    with started(playground) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Open the page as a visitor of one's own; what it fetches from elsewhere, or a script's error, fails the test."""
    wrong: list[str] = []
    with ExitStack() as stack:

        def visitor(width=1280):
            context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
            stack.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(SLOWEST)
            page.on("request", lambda one: None if one.url.startswith((address, "data:", "blob:")) else wrong.append(one.url))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.goto(address)
            page.wait_for_selector("#map svg")
            return page

        yield visitor
    assert wrong == []


def cell(page, name):
    return page.locator(f"#map path:has(title:text-matches('^{name}:'))")


def open_head(page, name):
    cell(page, name).click()
    page.wait_for_selector(f"#head h3:text-is('Head {name}')")


def edit(page):
    return page.locator("#edit button").all_inner_texts()


def edit_becomes(page, *heads):
    page.wait_for_function(
        "wanted => JSON.stringify([...document.querySelectorAll('#edit button')].map(one => one.innerText)) === wanted",
        arg=json.dumps(list(heads), ensure_ascii=False, separators=(",", ":")),
    )


def write(page):
    """Press the button, wait for the last of the texts, and read them by their titles."""
    page.evaluate("document.querySelector('#texts .numbers')?.closest('.columns').remove()")
    page.get_by_role("button", name="Write", exact=True).click()
    last = "unedited" if not edit(page) else "random-heads"
    page.wait_for_selector(f"#texts .{last} .numbers")
    sections = page.locator("#texts section").all()
    return {one.locator("h4").inner_text().lower(): one.locator(".text").inner_text() for one in sections}


def ask(page, prompt, image=None):
    page.get_by_label("Prompt", exact=True).fill(prompt)
    if image is not None:
        page.locator("input[type=file][accept*=image]").set_input_files(image)
        page.wait_for_selector(".image-frame img")


@pytest.fixture(scope="module")
def picture(playground, tmp_path_factory):
    """A held-out picture of which the model says a colour word, and that question."""
    words = hp.concept("colours").words
    drawn = [one for one in demo_samples("caption", "test", limit=40) if count_words(one.target, words)]
    edit = hp.HeadEdit(find(playground, "colours").ranking.top(3), scale=-1)
    for one in drawn:
        sample = hp.Sample(text=one.text, image=one.image)
        said = playground.model.generate(sample, max_new_tokens=48)
        with edit.applied(playground.model):
            changed = playground.model.generate(sample, max_new_tokens=48)
        if count_words(said, words) > count_words(changed, words):
            path = tmp_path_factory.mktemp("pictures") / "picture.png"
            one.image.save(path)
            return one.text, path, said.strip(), changed.strip()
    pytest.fail("the edit takes no colour word away")


def test_a_visit(visit, picture, playground, tmp_path):
    question, path, said, changed = picture
    page = visit()
    page.get_by_label("Concept", exact=True).fill("red, green, blue")
    page.get_by_role("button", name="Find heads").click()
    page.wait_for_selector("#map svg[aria-label*='red, green, blue']")
    page.get_by_label("Concept", exact=True).fill("colors")
    page.keyboard.press("Enter")
    page.wait_for_selector("#map svg[aria-label$='colours']")

    ranking = find(playground, "colours").ranking
    best, others = ranking.top(1)[0], ranking.top(3)[1:]
    open_head(page, best.name)
    assert "number 1 of 120" in page.locator("#head").inner_text()
    assert page.locator("#head .samples img").count() > 0
    ask(page, question, path)
    assert write(page) == {"unedited": said}
    assert page.locator("#texts .unedited mark").count() == count_words(said, hp.concept("colours").words)

    page.locator("#flip").click()
    edit_becomes(page, f"{best} × −1")
    page.get_by_role("button", name="Take the best").click()
    edit_becomes(page, *(f"{one} × −1" for one in sorted([best, *others])))
    texts = write(page)
    assert texts["unedited"] == said
    assert texts["edited"] == changed != said
    assert page.locator("#texts .unedited del").count() > 0
    assert "[" in page.locator("#texts .random-heads .numbers").inner_text()

    with page.expect_download() as saving:
        page.get_by_role("button", name="Save").click()
    saving.value.save_as(tmp_path / "edit.json")
    assert hp.load_edit(tmp_path / "edit.json", model=playground.model).heads == tuple(sorted([best, *others]))

    page.get_by_role("button", name="Undo").click()
    edit_becomes(page, f"{best} × −1")
    page.get_by_role("button", name="Undo").click()
    edit_becomes(page)
    assert write(page) == {"unedited": said}

    page.locator("input[type=file][accept*=json]").set_input_files(tmp_path / "edit.json")
    edit_becomes(page, *(f"{one} × −1" for one in sorted([best, *others])))
    assert write(page)["edited"] == changed
    with page.expect_download() as exporting:
        page.get_by_role("button", name="Export").click()
        page.locator("a[download]:has-text('zip'), a[download*='zip']").first.click()
    assert exporting.value.suggested_filename.endswith(".zip")


def test_scale_and_tokens_hold_for_the_whole_edit(visit):
    page = visit()
    page.get_by_role("button", name="Take the best").click()
    page.wait_for_selector("#edit button")
    number = page.get_by_label("number input for Scale", exact=False)
    number.fill("2.5")
    number.press("Enter")
    number.blur()
    page.wait_for_selector("#edit button:has-text('2.5')")
    assert all("× 2.5" in one for one in edit(page))
    page.get_by_label("At which tokens").click()
    page.get_by_role("option", name="image").click()
    page.wait_for_selector("#edit button:has-text('image tokens')")
    ask(page, "What is this?")
    page.get_by_role("button", name="Write", exact=True).click()
    page.wait_for_selector("text=there is none: give an image")


def test_two_visitors_do_not_see_each_others_edits(visit, picture):
    question, path, said, changed = picture
    one, other = visit(), visit()
    for page in (one, other):
        ask(page, question, path)
    one.get_by_role("button", name="Take the best").click()
    one.wait_for_selector("#edit button")
    assert edit(other) == []
    one.get_by_role("button", name="Write", exact=True).click()
    assert write(other) == {"unedited": said}, "while the other is writing, too"
    one.wait_for_selector("#texts .random-heads .numbers")
    assert write(one)["edited"] == changed
    open_head(other, "L0.H0")
    other.locator("#flip").click()
    edit_becomes(other, "L0.H0 × −1")
    assert len(edit(one)) == 3


def test_examples_are_prepared_and_mistakes_are_told(visit):
    page = visit()
    page.locator("table tbody tr", has_text="countries").click()
    page.wait_for_selector("#map svg[aria-label$='countries']")
    assert page.get_by_label("Prompt", exact=True).input_value()
    page.get_by_label("Concept", exact=True).fill("coluors")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=no built-in concept")
    assert page.locator("#map svg[aria-label$='countries']").count() == 1


def test_a_phone_shows_all_of_it(visit):
    page = visit(width=390)
    open_head(page, "L1.H4")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    below = page.locator("#map").bounding_box()["y"]
    assert page.locator("#head h3").bounding_box()["y"] > below


def test_keys_open_a_head(visit):
    page = visit()
    cell(page, "L2.H5").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#head h3:text-is('Head L2.H5')")


def test_nobody_else_was_asked(asked, address):
    assert "127.0.0.1" in asked
    assert asked <= set(LOOPBACK)
