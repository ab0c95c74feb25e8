"""Takes a picture of every page of the built site in a real browser, and listens to it.

    python docs/_screenshots.py [--out FOLDER] [--height PIXELS] [--dark] [PAGE ...]

Serves site/ on this machine with a policy under which a page may load nothing from elsewhere, so
that a request to another host is an error in the browser's console; any word in the console, and
any file that the server does not have, is a failure. Needs Debian's chromium on the path.
"""

import argparse
import functools
import http.server
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading

SITE = pathlib.Path(__file__).parents[1] / "site"
POLICY = "default-src 'self' 'unsafe-inline' data: blob:"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=4000",
    "--enable-logging=stderr",
)


class Server(http.server.SimpleHTTPRequestHandler):
    """Files of the site; it remembers what it did not have."""

    missing = ()

    def end_headers(self):
        self.send_header("Content-Security-Policy", POLICY)
        super().end_headers()

    def send_error(self, code, message=None, explain=None):
        type(self).missing += (f"{code} {self.path}",)
        super().send_error(code, message, explain)

    def log_message(self, format, *args):
        pass


def look(browser, url, file, height, dark):
    """Writes the picture of one page; returns what its console said."""
    with tempfile.TemporaryDirectory() as home:
        extra = [f"--user-data-dir={home}", f"--window-size=1300,{height}", f"--screenshot={file}"]
        extra += ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
        command = [browser, *FLAGS, *extra, url]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if not file.exists():
        raise RuntimeError(f"no picture of {url}:\n{run.stderr}")
    return re.findall(r"CONSOLE.*?\] (.*)", run.stderr)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", help="such as theory or api/flow; all by default")
    parser.add_argument("--out", type=pathlib.Path, default=SITE.parent / "build" / "screenshots")
    parser.add_argument("--height", type=int, default=3000)
    parser.add_argument("--dark", action="store_true")
    args = parser.parse_args(argv)
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("no chromium on the path: apt-get install chromium")
    args.out.mkdir(parents=True, exist_ok=True)
    server = http.server.ThreadingHTTPServer(
        ("localhost", 0), functools.partial(Server, directory=SITE)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = (page.parent.relative_to(SITE).as_posix() for page in SITE.rglob("index.html"))
    pages, faults = args.pages or sorted(found), []
    for page in pages:
        name = "index" if page == "." else page.replace("/", "-")
        url = f"http://localhost:{server.server_port}/{'' if page == '.' else page + '/'}"
        said = look(browser, url, args.out / f"{name}.png", args.height, args.dark)
        faults += [f"{page}: {line}" for line in said]
        print(args.out / f"{name}.png", flush=True)
    server.shutdown()
    faults += Server.missing
    if faults or not pages:
        sys.exit("\n".join(["the browser complains:", *faults]))
    print(f"{len(pages)} pages, no word in the console, no request to another host")


if __name__ == "__main__":
    main()
