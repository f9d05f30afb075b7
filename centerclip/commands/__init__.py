"""The commands of `centerclip`, a file each: `options(parser)` adds its options, `job(arguments)` does it.

They are glue between the command line and the library; nothing imports them.
"""
