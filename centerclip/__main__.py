"""`python -m centerclip COMMAND` is `centerclip COMMAND`."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends these imports, without a traceback

from centerclip.cli import main

main()
