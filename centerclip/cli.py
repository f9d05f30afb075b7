"""Text-video retrieval with token clustering. (Snakemake makes the paper's tables: see README.md.)"""

import argparse
import ast
import importlib
import signal
import sys
from pathlib import Path

from centerclip import commands
from centerclip.command import add_log, end_interrupted, execute, handled, open_standard_streams

DIRECTORY = Path(commands.__file__).parent


def summaries() -> dict[str, str]:
    """The docstring of each command. Files are parsed, not imported, so that `--help` stays fast."""
    files = sorted(path for path in DIRECTORY.glob("*.py") if path.stem != "__init__")
    return {path.stem.replace("_", "-"): ast.get_docstring(ast.parse(path.read_bytes())) for path in files}


def main() -> None:
    """Run the command that the command line names, `centerclip COMMAND ...`: a module of `centerclip.commands`."""
    open_standard_streams()
    with handled(signal.SIGINT, end_interrupted):
        arguments = parsed()
        execute(arguments.job, arguments)


def parsed() -> argparse.Namespace:
    """The command line's arguments, with the `job` of its command. Imports only that command."""
    parser = argparse.ArgumentParser(prog="centerclip", description=__doc__)
    names = parser.add_subparsers(metavar="COMMAND", required=True)
    asked = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    as_written = argparse.RawDescriptionHelpFormatter
    for name, text in summaries().items():
        command = names.add_parser(name, help=text.splitlines()[0], description=text, formatter_class=as_written)
        if name == asked:
            module = importlib.import_module(f"{commands.__name__}.{name.replace('-', '_')}")
            module.options(command)
            add_log(command)
            command.set_defaults(job=module.job)
    return parser.parse_args()
