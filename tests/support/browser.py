"""Headless Chromium: a reader of Snakemake's report, who opens every result by its buttons, and a page to type into."""

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

# Opens every result of Snakemake's report by its buttons.
READER = r"""
(async () => {
  const found = {results: []};
  const pause = () => new Promise(resolve => setTimeout(resolve, 50));
  const press = async element => { element.click(); await pause(); };
  const menu = async label => press([...document.querySelectorAll("nav li a")].find(a => a.innerText.trim() == label));
  const open = async (category, subcategory) => {
    await press(document.querySelector("nav ol a"));  // home
    await menu(Object.keys(categories).length == 1 ? "Results" : category);
    if (Object.keys(categories[category]).length > 1) await menu(subcategory);
    return [...document.querySelectorAll("nav tbody tr")];
  };
  const first = document.querySelector("#app .prose");
  found.first = {text: first.innerText, pictures: first.querySelectorAll("svg").length};
  for (const category in categories) for (const subcategory in categories[category])
    for (let number = 0; number < categories[category][subcategory].length; number++) {
      const row = (await open(category, subcategory))[number];
      const result = {category, subcategory, name: row.innerText.trim()};
      const [view, about] = row.querySelectorAll("a");
      const uri = view.getAttribute("href");
      if (uri == "#") await press(view);
      const image = document.querySelector("#app img[src^='data:image/png']");
      const page = document.querySelector("#app iframe");
      if (uri != "#") result.file = await (await fetch(uri)).text();
      else if (page) result.page = await (await fetch(page.src)).text();
      else {
        while (!image.complete) await pause();
        result.picture = [image.naturalWidth, image.naturalHeight];
      }
      await press(about);
      result.caption = document.querySelector("nav .prose").innerText;
      found.results.push(result);
    }
  found.loaded = performance.getEntriesByType("resource").map(e => e.name).filter(name => !/^data:/.test(name));
  found.loaded.push(...[...document.querySelectorAll("[src], link[href]")].map(e => e.src || e.href)
    .filter(address => address && !/^data:/.test(address)));
  return found;
})()
"""


class Page:
    """A page in a browser that is told what to do through two pipes, by DevTools' protocol."""

    def __init__(self, orders: int, answers: int):
        self.orders, self.answers = os.fdopen(orders, "wb", 0), os.fdopen(answers, "rb")
        self.number, self.rest, self.session, self.events = 0, b"", {}, []
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        attached = self.tell("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Log", "Network", "Runtime"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **parameters) -> dict:
        """The browser's answer to an order; what else it says in between is kept in `events`."""
        self.number += 1
        order = {"id": self.number, "method": method, "params": parameters, **self.session}
        self.orders.write(json.dumps(order).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                data = self.answers.read1(1 << 20)
                assert data, "the browser has gone"
                self.rest += data
            line, _, self.rest = self.rest.partition(b"\0")
            message = json.loads(line)
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def js(self, expression: str) -> object:
        """The value of an expression in the page."""
        found = self.tell("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, expression: str, seconds: float = 30) -> object:
        """The value of an expression in the page as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.js(expression)):
            assert time.monotonic() < end, (expression, self.js("document.body.innerText"))
            time.sleep(0.02)
        return value

    def type(self, text: str) -> None:
        """Type over what the field in use holds, and press Enter."""
        self.js("document.activeElement.select()")
        self.tell("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
            self.tell("Input.dispatchKeyEvent", type=kind, **key)

    def happened(self, method: str) -> list[dict]:
        """What the browser has told of one kind of event."""
        return [event["params"] for event in self.events if event.get("method") == method]


@contextmanager
def browsing(directory: Path):
    """A `Page`, blank, in headless Chromium with its profile in `directory`. Skips the test without Chromium."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium to open the page with")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={directory / 'browser'}"]
    command += ["--remote-debugging-pipe", "--window-size=1100,800"]
    (theirs_in, orders), (answers, theirs_out) = os.pipe(), os.pipe()
    redirected = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'  # where Chromium reads orders and writes answers
    words, theirs = ["bash", "-c", redirected, "bash", *command], (theirs_in, theirs_out)
    process = subprocess.Popen(words, pass_fds=theirs, stderr=subprocess.DEVNULL)
    for file in theirs:
        os.close(file)
    try:
        yield Page(orders, answers)
    finally:
        process.terminate()
        process.wait()


def read_report(report: Path, directory: Path) -> dict:
    """What a reader finds in `report`: a dict for each of its `results` (category, subcategory, name, caption, and its
    picture's size in pixels, its page's or its downloaded file's text), the text and the number of pictures of the
    `first` page, script `errors`, and addresses `loaded` from outside the file. Skips the test without Chromium."""
    with browsing(directory) as page:
        page.tell("Page.navigate", url=report.resolve().as_uri())
        page.until("document.querySelector('nav ol a') && document.querySelector('#app .prose')?.innerText")
        return page.js(READER) | {"errors": page.happened("Runtime.exceptionThrown")}
