"""Headless Chromium: a reader of Snakemake's report, who opens every result by its buttons, and a page to type into."""

import html
import json
import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

READER = r"""
<script>
(async () => {
  const found = {results: [], errors: [], loaded: []};
  window.addEventListener("error", event => found.errors.push(event.message));
  const pause = () => new Promise(resolve => setTimeout(resolve, 50));
  const press = async element => { element.click(); await pause(); };
  const menu = async label => press([...document.querySelectorAll("nav li a")].find(a => a.innerText.trim() == label));
  const open = async (category, subcategory) => {
    await press(document.querySelector("nav ol a"));  // home
    await menu(Object.keys(categories).length == 1 ? "Results" : category);
    if (Object.keys(categories[category]).length > 1) await menu(subcategory);
    return [...document.querySelectorAll("nav tbody tr")];
  };
  try {
    while (!document.querySelector("nav ol a")) await pause();
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
  } catch (error) { found.errors.push(String(error.stack || error)); }
  document.documentElement.innerHTML = "<pre id='found'></pre>";
  document.querySelector("#found").textContent = JSON.stringify(found);
})();
</script>
"""


def chromium(directory: Path) -> list[str]:
    """The command of headless Chromium, its profile in `directory`. Skips the test where there is none."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium to open the page with")
    return [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={directory / 'browser'}"]


def read_report(report: Path, directory: Path) -> dict:
    """What a reader finds in `report`: a dict for each of its `results` (category, subcategory, name, caption, and its
    picture's size in pixels, its page's or its downloaded file's text), the text and the number of pictures of the
    `first` page, script `errors`, and addresses `loaded` from outside the file. Skips the test where there is no
    Chromium.
    """
    copy = directory / "read.html"
    copy.write_text(report.read_text() + READER)
    command = [*chromium(directory), "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += ["--virtual-time-budget=120000", "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = re.search(r'<pre id="found">(.*)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    return json.loads(html.unescape(found[1]))


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
    """A `Page`, blank. Skips the test where there is no Chromium."""
    command = [*chromium(directory), "--remote-debugging-pipe", "--window-size=1100,800"]
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
