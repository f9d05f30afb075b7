"""`python -m centerclip COMMAND` is `centerclip COMMAND`."""

from centerclip.cli import main

main()
