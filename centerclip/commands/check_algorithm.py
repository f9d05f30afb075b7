"""Check in seconds that an algorithm keeps the contract of docs/reduction.md."""

import argparse

import yaml

from centerclip.command import UserError


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("algorithm", help="a name in centerclip/method/reduction, or a file NAME.py that defines NAME")
    options = {"metavar": "OPTION=VALUE", "type": assigned, "help": "of the algorithm"}
    parser.add_argument("--options", nargs="+", default=[], **options)


def assigned(text: str) -> tuple[str, object]:
    """A command line's option, for argparse: its name and value, as in the config."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not OPTION=VALUE")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise argparse.ArgumentTypeError(f"{text!r}: {value!r} is not a value") from None


def job(arguments: argparse.Namespace) -> None:
    from centerclip.bench.contract import outcomes, subject

    checked, failed = subject(arguments.algorithm, dict(arguments.options)), 0
    for check, wrong in outcomes(checked):
        print(f"fails: {check}: {wrong}" if wrong else f"ok: {check}", flush=True)
        failed += wrong is not None
    if failed:
        raise UserError(
            f"{checked.file}: {failed} check{'s' * (failed > 1)} failed; docs/reduction.md has the contract"
        )
