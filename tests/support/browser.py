"""A reader of Snakemake's report: headless Chromium without a network, which opens every result by its buttons."""

import html
import json
import re
import shutil
import subprocess
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


def read_report(report: Path, directory: Path) -> dict:
    """What a reader finds in `report`: a dict for each of its `results` (category, subcategory, name, caption, and its
    picture's size in pixels, its page's or its downloaded file's text), the text and the number of pictures of the
    `first` page, script `errors`, and addresses `loaded` from outside the file. Skips the test where there is no
    Chromium.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium to open the report with")
    copy = directory / "read.html"
    copy.write_text(report.read_text() + READER)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--user-data-dir={directory / 'browser'}", "--virtual-time-budget=120000", "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = re.search(r'<pre id="found">(.*)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    return json.loads(html.unescape(found[1]))
