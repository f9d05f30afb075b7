"""Search a folder of videos by sentences, once or by a page in the browser."""

import argparse
import json
import sys
from pathlib import Path

from centerclip.command import UserError, natural, positive, shown
from centerclip.data.datasets.files import listing
from centerclip.data.video.watch import add_stall_seconds
from centerclip.search import models


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="folder of videos, with its subfolders")
    parser.add_argument("sentences", nargs="*", metavar="sentence", help="what to look for; each gets its own answer")
    parser.add_argument("--top", type=positive, default=5, help="number of videos for each sentence (default: 5)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print json")
    form.add_argument("--serve", action="store_true", help="answer sentences in a page on this machine, until Ctrl-C")
    parser.add_argument("--port", type=natural, default=0, help="with --serve: port of the page (default: a free port)")
    add_stall_seconds(parser)
    models.options(parser)


def job(arguments: argparse.Namespace) -> None:
    folder, sentences = arguments.folder, arguments.sentences
    if bool(sentences) == arguments.serve:
        raise UserError("give either sentences or --serve")
    if not all(map(str.strip, sentences)):
        raise UserError("the sentence is empty")
    cell = models.single(arguments)
    listing(folder)  # reports mistakes before anything slow
    from centerclip.search.index import Searcher, up_to_date
    from centerclip.search.retriever import Retriever

    if arguments.serve:
        from centerclip.search.page import Page

        page = Page(folder, arguments.top, arguments.port)
    retriever = Retriever(models.in_fast_precision(cell))
    index, left_out = up_to_date(folder, retriever, arguments.stall_seconds)
    searcher = Searcher(index, retriever)
    if arguments.serve:
        return page.serve(searcher)
    for note in filter(None, [searcher.remark, *map(searcher.note, sentences)]):
        print(f"note: {note}", file=sys.stderr)
    answers = list(zip(sentences, searcher.answers(sentences, arguments.top), strict=True))
    if arguments.json:
        found = [
            {"sentence": sentence, "videos": [{"similarity": one.similarity, "video": one.video} for one in videos]}
            for sentence, videos in answers
        ]
        return print(json.dumps({"folder": str(folder), "answers": found, "left_out": left_out}, indent=2))
    for number, (sentence, videos) in enumerate(answers):
        if len(answers) > 1:
            print("\n" * bool(number) + shown(sentence))
        for rank, found in enumerate(videos, 1):
            print(f"{rank:3}  {found.similarity:6.3f}  {shown(folder / found.video)}")
